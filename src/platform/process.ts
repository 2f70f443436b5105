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

/** A write to a closed connection is an error value, not a signal. Both runtimes do this already; ambit depends on it. */
export function ignoreBrokenPipes(): void {
  libc.signal(SIGPIPE, runtime.pointerFrom(SIG_IGN));
}

/** Descriptors this process has open now. */
export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

function toNumber(limit: bigint): number {
  return limit > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(limit);
}
