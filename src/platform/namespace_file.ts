/**
 * Opens a file that must be a network namespace, when the path comes from somebody else: nothing of a file that turns out to be something
 * else is touched (a FIFO would block, a device might act).
 */
import { describeErrno } from "./errno.ts";
import { errnoWord, libc } from "./libc.ts";
import { runtime } from "./runtime.ts";

const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
/** linux/magic.h: NSFS_MAGIC. */
const NSFS_MAGIC = 0x6e736673n;
/** ioctl_ns(2): which kind of namespace. */
const NS_GET_NSTYPE = 0xb703;
const CLONE_NEWNET = 0x40000000;

const encoder = new TextEncoder();
const { fstatfs } = runtime.open("libc.so.6", { fstatfs: { args: ["i32", "buffer"], returns: "i32" } });
/** `struct statfs` of 64-bit Linux: 120 bytes, the type first. */
const statfsBytes = new Uint8Array(new ArrayBuffer(256));
const statfsView = new DataView(statfsBytes.buffer);

/** The descriptor, which the caller closes, or why there is none. */
export function openNetworkNamespace(path: string): number | { readonly error: string } {
  if (path.includes("\0")) return { error: "the path holds a zero byte" };
  const handle = libc.open(encoder.encode(path + "\0"), O_PATH | O_CLOEXEC, 0);
  if (handle < 0) return { error: describeErrno(errnoWord[0]) };
  try {
    if (fstatfs(handle, statfsBytes) < 0) {
      return { error: `cannot tell its file system: ${describeErrno(errnoWord[0])}` };
    }
    if (statfsView.getBigInt64(0, true) !== NSFS_MAGIC) return { error: "it is not a namespace" };
    const fd = libc.open(encoder.encode(`/proc/self/fd/${handle}\0`), O_CLOEXEC, 0);
    if (fd < 0) return { error: describeErrno(errnoWord[0]) };
    if (libc.ioctl(fd, NS_GET_NSTYPE, 0) === CLONE_NEWNET) return fd;
    libc.close(fd);
    return { error: "it is a namespace, but not one of networks" };
  } finally {
    libc.close(handle);
  }
}
