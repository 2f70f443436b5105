/** A network namespace of nobody, to try things in: unshare(2). It is gone, with all that is in it, when its descriptor is closed. */
import process from "node:process";
import { describeErrno } from "./errno.ts";
import { errnoWord, libc } from "./libc.ts";
import { openNamespace } from "./netns.ts";
import { runtime } from "./runtime.ts";

const CLONE_NEWNET = 0x40000000;

const { unshare } = runtime.open("libc.so.6", { unshare: { args: ["i32"], returns: "i32" } });

/**
 * The new namespace's descriptor, which the caller closes, or why there is none. This thread leaves its own namespace for three system
 * calls; one that cannot come back ends the process.
 */
export function openScratchNamespace(): number | { readonly error: string } {
  const home = openNamespace("/proc/thread-self/ns/net");
  if (home < 0) return { error: describeErrno(-home) };
  try {
    if (unshare(CLONE_NEWNET) < 0) return { error: describeErrno(errnoWord[0]) };
    const fd = openNamespace("/proc/thread-self/ns/net");
    if (libc.setns(home, CLONE_NEWNET) < 0) process.abort();
    return fd < 0 ? { error: describeErrno(-fd) } : fd;
  } finally {
    libc.close(home);
  }
}
