/**
 * Secrets that are not istiod's to give (waypoint.md 2.10): the own certificate and the mesh's roots, from the CA, and those that a DestinationRule names
 * as files, which are read again when they change.
 */
import { readFileSync } from "node:fs";
import { createHash } from "node:crypto";
import type { Logger } from "../../telemetry/log.ts";
import type { TlsMaterial } from "../../platform/tls_context.ts";
import type { SecretSpec } from "../spec/mod.ts";

export const WORKLOAD_CERTIFICATE = "default";
export const MESH_ROOTS = "ROOTCA";
const SYSTEM_ROOTS = "file-root:system";
const FILE_ROOT = "file-root:";
const FILE_CERTIFICATE = "file-cert:";
/** Kubernetes swaps mounted secrets within a minute; files are small. */
const POLL_MS = 10_000;
const TARGET = "secrets";

export type SecretsChange = Readonly<Record<string, SecretSpec | null>>;

export interface LocalSecretsOptions {
  readonly changed: (secrets: SecretsChange) => void;
  readonly log: Logger;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  /** For tests. */
  readonly readText?: (path: string) => string;
}

/** Name of a file secret → the files it is made of. */
export function filesOf(name: string): readonly string[] | undefined {
  if (name === SYSTEM_ROOTS) return [];
  if (name.startsWith(FILE_ROOT)) return [name.slice(FILE_ROOT.length)];
  if (!name.startsWith(FILE_CERTIFICATE)) return undefined;
  const [certificate, key, extra] = name.slice(FILE_CERTIFICATE.length).split("~");
  return certificate && key && extra === undefined ? [certificate, key] : undefined;
}

export class LocalSecrets {
  readonly #options: LocalSecretsOptions;
  readonly #read: (path: string) => string;
  /** File secrets that are wanted, with what was last read of them. */
  readonly #files = new Map<string, string>();
  #cancelPoll: (() => void) | undefined;
  #certified = false;
  #roots: string | undefined;
  #crl: string | undefined;

  constructor(options: LocalSecretsOptions) {
    this.#options = options;
    this.#read = options.readText ?? ((path) => readFileSync(path, "utf8"));
  }

  /** The own certificate and the roots are here. */
  get certified(): boolean {
    return this.#certified;
  }

  /** A certificate came, or was renewed. */
  issued({ privateKey, chain, roots }: TlsMaterial): void {
    this.#certified = true;
    this.#roots = roots.join("");
    this.#options.changed({
      [WORKLOAD_CERTIFICATE]: { kind: "certificate", chain: chain.join(""), key: privateKey },
      [MESH_ROOTS]: { kind: "trust", roots: this.#roots, crl: this.#crl },
    });
  }

  /** Lists of certificates that nobody in the mesh may use any more, in PEM; they replace those before. */
  revoked(lists: readonly string[]): void {
    this.#crl = lists.length === 0 ? undefined : lists.join("");
    // Without roots nobody is trusted yet; they come with these lists.
    if (this.#roots === undefined) return;
    this.#options.changed({ [MESH_ROOTS]: { kind: "trust", roots: this.#roots, crl: this.#crl } });
  }

  /** These, and no others, are named by clusters. */
  want(names: ReadonlySet<string>): void {
    const gone: Record<string, null> = {};
    for (const name of this.#files.keys()) {
      if (names.has(name)) continue;
      this.#files.delete(name);
      gone[name] = null;
    }
    if (Object.keys(gone).length > 0) this.#options.changed(gone);
    const fresh = [...names].filter((name) => !this.#files.has(name) && filesOf(name) !== undefined);
    for (const name of fresh) this.#files.set(name, "");
    if (fresh.length > 0) this.#load(fresh);
    if (this.#files.size > 0) this.#cancelPoll ??= this.#options.schedule(() => this.#poll(), POLL_MS);
  }

  close(): void {
    this.#cancelPoll?.();
  }

  #poll(): void {
    this.#cancelPoll = undefined;
    if (this.#files.size === 0) return;
    this.#load([...this.#files.keys()]);
    this.#cancelPoll = this.#options.schedule(() => this.#poll(), POLL_MS);
  }

  /** A file that is gone or cannot be read leaves the last good content in force. */
  #load(names: readonly string[]): void {
    const changes: Record<string, SecretSpec> = {};
    for (const name of names) {
      try {
        const secret = this.#secret(name);
        const digest = createHash("sha256").update(JSON.stringify(secret)).digest("base64");
        if (this.#files.get(name) === digest) continue;
        this.#files.set(name, digest);
        changes[name] = secret;
      } catch (error) {
        this.#options.log.log(
          "warn",
          TARGET,
          "a file of a DestinationRule cannot be read; what it was stays in force",
          {
            secret: name,
            error: (error as Error).message,
          },
        );
      }
    }
    if (Object.keys(changes).length > 0) this.#options.changed(changes);
  }

  #secret(name: string): SecretSpec {
    if (name === SYSTEM_ROOTS) return { kind: "system trust" };
    const [first, key] = filesOf(name) as readonly string[];
    if (key !== undefined) return { kind: "certificate", chain: this.#read(first), key: this.#read(key) };
    return { kind: "trust", roots: this.#read(first), crl: undefined };
  }
}
