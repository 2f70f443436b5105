/**
 * The file of revocation lists (CRL_PATH): several lists in PEM, or one in DER. Kubernetes replaces it by swapping a symbolic link beside it,
 * so its directory is watched, and looked at now and then in case the watch misses something (reference ztunnel, section 4).
 *
 * It fails closed once it has been read: a file that is gone or broken leaves the last good lists in force. An empty file says
 * that nothing is revoked.
 */
import { type FSWatcher, readFileSync, watch } from "node:fs";
import { Buffer } from "node:buffer";
import { dirname } from "node:path";
import { RevocationList } from "../platform/revocations.ts";

/** As long as ztunnel waits for a swap to be complete. */
const SETTLE_MS = 2_000;
const POLL_MS = 60_000;
/** A ConfigMap holds 1 MiB; all workers keep a copy. */
const MAX_BYTES = 16 * 1024 * 1024;

/** What is in force. */
export interface LoadedLists {
  /** PEM, one list each. */
  readonly lists: readonly string[];
  /** Certificates that they revoke. */
  readonly revoked: number;
  readonly nextUpdateMs: number | undefined;
}

export interface CrlFileOptions {
  readonly path: string;
  /** Runs `task` after a delay; the result cancels it. */
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  /** Other lists are in force from now on. */
  readonly changed: (loaded: LoadedLists) => void;
  /** The file cannot be used: what was in force stays. Each reason once, until the file is good again. */
  readonly failed: (error: string) => void;
  /** For tests: undefined when there is no such file. Throws when it cannot be read. */
  readonly read?: (path: string) => Uint8Array | undefined;
  /** For tests. Throws when the directory cannot be watched. */
  readonly watch?: (directory: string, changed: () => void) => { close(): void };
}

export class CrlFile {
  readonly #options: CrlFileOptions;
  #last: Uint8Array | undefined;
  #error = "";
  #watcher: { close(): void } | undefined;
  #cancelSettle: () => void = () => {};
  #cancelPoll: () => void = () => {};

  constructor(options: CrlFileOptions) {
    this.#options = options;
  }

  /**
   * Reads it for the first time and follows it from now on. A missing file is tolerated: it may come. Throws when there is one that cannot be
   * used: nobody could say then what is revoked.
   */
  start(): void {
    const { path } = this.#options;
    const bytes = this.#read();
    if (bytes === undefined) this.#fail(`there is no ${path} (yet): nothing is revoked until it comes`);
    else this.#take(bytes);
    this.#watch();
    this.#poll();
  }

  close(): void {
    this.#watcher?.close();
    this.#cancelSettle();
    this.#cancelPoll();
  }

  #read(): Uint8Array | undefined {
    return (this.#options.read ?? readIfThere)(this.#options.path);
  }

  #take(bytes: Uint8Array): void {
    if (this.#last !== undefined && sameBytes(bytes, this.#last)) {
      this.#error = "";
      return;
    }
    const lists = splitRevocationLists(bytes);
    const checked = new RevocationList(lists);
    const { revoked, nextUpdateMs } = checked;
    checked.free();
    this.#last = bytes;
    this.#error = "";
    this.#options.changed({ lists, revoked, nextUpdateMs });
  }

  #check(): void {
    this.#watch();
    try {
      const bytes = this.#read();
      if (bytes !== undefined) this.#take(bytes);
      else if (this.#last !== undefined) this.#fail(`${this.#options.path} is gone: its last lists stay in force`);
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      this.#fail(this.#last === undefined ? text : `${text}; the last good lists stay in force`);
    }
  }

  #fail(error: string): void {
    if (error === this.#error) return;
    this.#error = error;
    this.#options.failed(error);
  }

  #watch(): void {
    if (this.#watcher !== undefined) return;
    const directory = dirname(this.#options.path);
    try {
      this.#watcher = (this.#options.watch ?? watchDirectory)(directory, () => this.#settle());
    } catch {
      // The directory may come later; until then it is looked at now and then.
    }
  }

  #settle(): void {
    this.#cancelSettle();
    this.#cancelSettle = this.#options.schedule(() => this.#check(), SETTLE_MS);
  }

  #poll(): void {
    this.#cancelPoll = this.#options.schedule(() => {
      this.#check();
      this.#poll();
    }, POLL_MS);
  }
}

const BEGIN = "-----BEGIN X509 CRL-----";
const PEM = /-----BEGIN X509 CRL-----[\s\S]*?-----END X509 CRL-----/g;
/** How every DER list begins: a SEQUENCE. No PEM text does. */
const DER_SEQUENCE = 0x30;

/** The lists in a file, one PEM text each; none in an empty file. Throws when it holds something else. */
export function splitRevocationLists(bytes: Uint8Array): string[] {
  if (bytes.length > MAX_BYTES) throw new Error(`revocation lists: more than ${MAX_BYTES} bytes`);
  if (bytes[0] === DER_SEQUENCE) {
    if (derLength(bytes) !== bytes.length) {
      throw new Error("revocation lists: the DER list is cut, or something follows it");
    }
    return [`${BEGIN}\n${toBase64(bytes)}\n-----END X509 CRL-----\n`];
  }
  const text = new TextDecoder().decode(bytes);
  const lists = text.match(PEM) ?? [];
  if (text.split(BEGIN).length - 1 !== lists.length) throw new Error("revocation lists: a PEM block is not complete");
  if (lists.length === 0 && text.trim() !== "") {
    throw new Error(
      'revocation lists: neither PEM ("BEGIN X509 CRL") nor DER; to revoke nothing, leave the file empty',
    );
  }
  return lists;
}

/** The length that the outermost element says it has, header included; -1 when it says none. */
function derLength(bytes: Uint8Array): number {
  const first = bytes[1] ?? 0;
  if (first < 0x80) return 2 + first;
  const count = first & 0x7f;
  if (count === 0 || count > 4 || bytes.length < 2 + count) return -1;
  let length = 0;
  for (let i = 0; i < count; i++) length = length * 256 + bytes[2 + i];
  return 2 + count + length;
}

/** In lines, which OpenSSL insists on. */
function toBase64(bytes: Uint8Array): string {
  return (Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64").match(/.{1,64}/g) ?? []).join(
    "\n",
  );
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

function readIfThere(path: string): Uint8Array | undefined {
  try {
    return readFileSync(path);
  } catch (cause) {
    const code = (cause as { readonly code?: string }).code;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new Error(`revocation lists: cannot read ${path}: ${code ?? cause}`);
  }
}

function watchDirectory(directory: string, changed: () => void): { close(): void } {
  const watcher: FSWatcher = watch(directory, () => changed());
  watcher.on("error", () => {});
  return watcher;
}
