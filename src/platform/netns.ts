/**
 * Network namespaces of the calling thread, setns(2).
 *
 * A descriptor lies for life in the namespace it was created in, so only the creation happens inside: enter,
 * create, leave, in one synchronous run of preallocated calls. A thread that cannot come back would
 * put other pods' sockets into the wrong pod, so a failed return ends the process.
 */
import process from "node:process";
import { SystemError } from "./errno.ts";
import { errnoWord, libc } from "./libc.ts";

const CLONE_NEWNET = 0x40000000;
const O_RDONLY_CLOEXEC = 0o2000000;

const encoder = new TextEncoder();

/** Opens a namespace file, such as `/proc/4711/ns/net`. The caller closes the descriptor. Returns `-errno` on failure. */
export function openNamespace(path: string): number {
  const fd = libc.open(encoder.encode(path + "\0"), O_RDONLY_CLOEXEC, 0);
  return fd < 0 ? -errnoWord[0] : fd;
}

/** The namespace this thread was in when the module was loaded. */
const own = openNamespace("/proc/thread-self/ns/net");

/** Runs `create`, which must make its system calls at once and not throw, inside the namespace. `-errno` if it cannot be entered. */
export function insideNamespace(namespace: number, create: () => number): number {
  if (own < 0) throw new SystemError("cannot open this thread's own network namespace", -own);
  if (libc.setns(namespace, CLONE_NEWNET) < 0) return -errnoWord[0];
  let value = -1;
  try {
    value = create();
  } finally {
    if (libc.setns(own, CLONE_NEWNET) < 0) process.abort();
  }
  return value;
}
