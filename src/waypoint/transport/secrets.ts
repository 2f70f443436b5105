/**
 * Certificates and roots of a worker by name, and the TLS contexts that are made of them. A context is made when it is first asked for, shared by all who
 * ask for the same, and made anew when one of its secrets changes; connections keep the one they began with.
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { RevocationList, type Revocations } from "../../platform/revocations.ts";
import { TlsClientContext } from "../../platform/tls_client_context.ts";
import { TlsContext, type TlsContextOptions } from "../../platform/tls_context.ts";
import type { SecretSpec, UpstreamTlsSpec } from "../spec/mod.ts";

/** What a waypoint's own certificate and the mesh's roots are called. */
export const OWN_CERTIFICATE = "default";
export const MESH_ROOTS = "ROOTCA";

/** Where distributions keep their roots, in the order in which pilot-agent looks. */
const SYSTEM_BUNDLES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/pki/tls/cacert.pem",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

interface Kept<Context> {
  readonly context: Context;
  readonly secrets: readonly string[];
}

export interface SecretsOptions {
  /** Of tunnels. */
  readonly policy?: TlsContextOptions["policy"];
  /** Of the mesh's roots, held by whoever also looks after live tunnels; replaced before `apply`. Absent: those in the secret. */
  readonly revocations?: Revocations;
  /** PEM of the operating system's roots; undefined where there are none. For tests. */
  readonly systemRoots?: () => string | undefined;
}

export class Secrets {
  readonly #options: SecretsOptions;
  readonly #secrets = new Map<string, SecretSpec>();
  readonly #revocations = new Map<string, RevocationList>();
  readonly #clients = new Map<string, Kept<TlsClientContext>>();
  readonly #tunnels = new Map<"client" | "server", Kept<TlsContext>>();

  constructor(options: SecretsOptions = {}) {
    this.#options = options;
  }

  apply(changes: Readonly<Record<string, SecretSpec | null>>): void {
    for (const [name, secret] of Object.entries(changes)) {
      if (secret === null) this.#secrets.delete(name);
      else this.#secrets.set(name, secret);
      this.#revocations.get(name)?.free();
      this.#revocations.delete(name);
      forget(this.#clients, name);
      forget(this.#tunnels, name);
    }
  }

  /** The own identity, for tunnels. @throws Error that says what is missing or not usable */
  tunnel(side: "client" | "server"): TlsContext {
    const kept = this.#tunnels.get(side);
    if (kept !== undefined) return kept.context;
    const own = this.#certificate(OWN_CERTIFICATE);
    const { roots, revocations } = this.#trust(MESH_ROOTS);
    const { policy } = this.#options;
    const context = new TlsContext(side, { ...own, roots: [roots] }, { policy, revocations });
    this.#tunnels.set(side, { context, secrets: [OWN_CERTIFICATE, MESH_ROOTS] });
    return context;
  }

  /** For a server outside of the tunnels. @throws Error that says what is missing or not usable */
  client(tls: UpstreamTlsSpec, alpn: readonly string[]): TlsClientContext {
    const { trust, certificate, minVersion, maxVersion, insecureSkipVerify } = tls;
    const key = JSON.stringify([trust, certificate, alpn, minVersion, maxVersion, insecureSkipVerify]);
    const kept = this.#clients.get(key);
    if (kept !== undefined) return kept.context;
    if (!insecureSkipVerify && trust === undefined) {
      throw new Error("the server is to be verified, but no roots are named to verify it by");
    }
    const trusted = insecureSkipVerify || trust === undefined ? undefined : this.#trust(trust);
    const context = new TlsClientContext({
      roots: trusted && [trusted.roots],
      revocations: trusted?.revocations,
      identity: certificate === undefined ? undefined : this.#certificate(certificate),
      alpn,
      minVersion,
      maxVersion,
    });
    const secrets = [trust, certificate].filter((name) => name !== undefined);
    this.#clients.set(key, { context, secrets });
    return context;
  }

  close(): void {
    for (const { context } of [...this.#clients.values(), ...this.#tunnels.values()]) context.close();
    for (const list of this.#revocations.values()) list.free();
    this.#clients.clear();
    this.#tunnels.clear();
    this.#revocations.clear();
  }

  #certificate(name: string): { readonly privateKey: string; readonly chain: readonly string[] } {
    const secret = this.#secrets.get(name);
    if (secret?.kind !== "certificate") {
      throw new Error(`the certificate ${name} ${secret === undefined ? "is not here yet" : "is none"}`);
    }
    return { privateKey: secret.key, chain: [secret.chain] };
  }

  #trust(name: string): { readonly roots: string; readonly revocations: RevocationList | undefined } {
    const secret = this.#secrets.get(name);
    if (secret?.kind === "system trust") {
      const roots = (this.#options.systemRoots ?? systemRoots)();
      if (roots === undefined) {
        throw new Error("no roots of the operating system are found; set SSL_CERT_FILE, or install ca-certificates");
      }
      return { roots, revocations: undefined };
    }
    if (secret?.kind !== "trust") {
      throw new Error(`the roots ${name} ${secret === undefined ? "are not here yet" : "are none"}`);
    }
    return { roots: secret.roots, revocations: this.#revocationsOf(name, secret.crl) };
  }

  #revocationsOf(name: string, crl: string | undefined): RevocationList | undefined {
    const { revocations } = this.#options;
    if (name === MESH_ROOTS && revocations !== undefined) return revocations.current;
    if (crl === undefined || crl === "") return undefined;
    const known = this.#revocations.get(name);
    if (known !== undefined) return known;
    const lists = splitLists(crl);
    if (lists.length === 0) throw new Error(`the revocation lists of ${name} hold no list in PEM`);
    const made = new RevocationList(lists);
    this.#revocations.set(name, made);
    return made;
  }
}

/** Of a secret's revocation lists, one a text. */
export function splitLists(crl: string): readonly string[] {
  return crl.match(/-----BEGIN X509 CRL-----[\s\S]*?-----END X509 CRL-----/g) ?? [];
}

function forget<Key>(kept: Map<Key, Kept<{ close(): void }>>, secret: string): void {
  for (const [key, { context, secrets }] of kept) {
    if (!secrets.includes(secret)) continue;
    context.close();
    kept.delete(key);
  }
}

function systemRoots(): string | undefined {
  const named = process.env["SSL_CERT_FILE"];
  for (const file of named === undefined || named === "" ? SYSTEM_BUNDLES : [named]) {
    try {
      return readFileSync(file, "utf8");
    } catch {
      continue;
    }
  }
  return undefined;
}
