/** What this process is allowed and has: open files, signals that would kill it, the death of its parent. */
import { readdirSync } from "node:fs";
import { describeErrno } from "./errno.ts";
import { errnoWord, libc } from "./libc.ts";
import { runtime } from "./runtime.ts";

const RLIMIT_NOFILE = 7;
const SIGPIPE = 13;
const SIG_IGN = 1n;

/** Raises the soft limit of open files to the hard one, as every proxy must. Returns the limit in force. */
export function raiseDescriptorLimit(): { readonly limit: number; readonly error: string | undefined } {
  const limits = new BigUint64Array(2);
  const bytes = new Uint8Array(limits.buffer);
  if (libc.getrlimit(RLIMIT_NOFILE, bytes) < 0) return { limit: 0, error: describeErrno(errnoWord[0]) };
  const soft = limits[0];
  limits[0] = limits[1];
  if (libc.setrlimit(RLIMIT_NOFILE, bytes) < 0) {
    return { limit: toNumber(soft), error: describeErrno(errnoWord[0]) };
  }
  return { limit: toNumber(limits[0]), error: undefined };
}

const limitWords = new Uint32Array(4);
const limitBytes = new Uint8Array(limitWords.buffer);

/** The limit of open files in force now; who runs the process may change it at any time. */
export function descriptorLimit(): number {
  if (libc.getrlimit(RLIMIT_NOFILE, limitBytes) < 0) return NO_LIMIT;
  return limitWords[1] !== 0 || limitWords[0] > NO_LIMIT ? NO_LIMIT : limitWords[0];
}

/** Descriptors are 32-bit numbers. */
const NO_LIMIT = 2 ** 31 - 1;

/** A write to a closed connection is an error value, not a signal. Both runtimes do this already; ambit depends on it. */
export function ignoreBrokenPipes(): void {
  libc.signal(SIGPIPE, runtime.pointerFrom(SIG_IGN));
}

/**
 * Has the runtime seed the generator of its own TLS on another thread. Deno does it when that is first used, and for 36 ms nothing else
 * runs (measured, Deno 2.9); a key that WebCrypto makes elsewhere needs the same seed. Bun has nothing to gain.
 */
export function seedRuntimeTls(): void {
  if (runtime.name !== "deno") return;
  crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]).catch(() => {
    // Whoever needs a key will say so.
  });
}

/** Descriptors this process has open now. */
export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** Gives back what a burst left behind: this thread's garbage, and free memory that the C library holds on to. */
export function releaseMemory(): void {
  runtime.collectGarbage();
  libc.malloc_trim(0);
}

/** The same for a thread that no connection waits for, such as the main one once it is set up: its compiled code goes too. */
export function shrinkMemory(): void {
  runtime.shrinkHeap();
  libc.malloc_trim(0);
}

function toNumber(limit: bigint): number {
  return limit > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(limit);
}
