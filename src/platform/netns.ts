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

const AT_EMPTY_PATH = 0x1000;
const STATX_INO = 0x100;
/** `struct statx` is the same everywhere: the inode at 32, the device's major and minor numbers at 136. */
const statxBytes = new Uint8Array(new ArrayBuffer(256));
const statxView = new DataView(statxBytes.buffer);
const EMPTY_PATH = new Uint8Array(1);

/** What tells an open file from every other that is alive, such as a namespace: device and inode. Undefined when it is not open. */
export function fileIdentity(fd: number): string | undefined {
  if (libc.statx(fd, EMPTY_PATH, AT_EMPTY_PATH, STATX_INO, statxBytes) < 0) return undefined;
  const device = `${statxView.getUint32(136, true)}:${statxView.getUint32(140, true)}`;
  return `${device}:${statxView.getBigUint64(32, true)}`;
}

/** ioctl: a descriptor of a socket's network namespace. Needs NET_ADMIN there. */
const SIOCGSKNS = 0x894c;

/** The identity of the namespace a socket lies in; undefined when the kernel does not tell. */
export function socketNamespaceIdentity(fd: number): string | undefined {
  const namespace = libc.ioctl(fd, SIOCGSKNS, 0);
  if (namespace < 0) return undefined;
  const identity = fileIdentity(namespace);
  libc.close(namespace);
  return identity;
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
