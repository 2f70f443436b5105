/**
 * Files of /proc by bare system calls: a look at every process of a node is thousands of small reads, most of them of processes that
 * may be gone by then, and an exception for each is what costs most. Failures are `-errno` or undefined.
 */
import { EINTR } from "./errno.ts";
import { errnoWord, libc } from "./libc.ts";

const O_RDONLY_CLOEXEC = 0o2000000;
const AT_FDCWD = -100;
const STATX_INO = 0x100;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const statxBytes = new Uint8Array(new ArrayBuffer(256));
const statxView = new DataView(statxBytes.buffer);
/** Grows with the longest file; files of /proc do not tell their length. */
let buffer = new Uint8Array(16 * 1024);
const MAX_FILE_BYTES = 4 * 1024 * 1024;

/** Why the last `pathIdentity` or `readProcFile` of this thread gave undefined: an errno. */
export let lastErrno = 0;

/** Device and inode behind a path, links followed, in the form of `fileIdentity`. Undefined on failure. */
export function pathIdentity(path: string): string | undefined {
  if (libc.statx(AT_FDCWD, encoder.encode(path + "\0"), 0, STATX_INO, statxBytes) < 0) {
    lastErrno = errnoWord[0];
    return undefined;
  }
  return `${statxView.getUint32(136, true)}:${statxView.getUint32(140, true)}:${statxView.getBigUint64(32, true)}`;
}

/** The whole of a file, as text. Undefined on failure, and for one of more than 4 MiB (EFBIG). */
export function readProcFile(path: string): string | undefined {
  const fd = libc.open(encoder.encode(path + "\0"), O_RDONLY_CLOEXEC, 0);
  if (fd < 0) {
    lastErrno = errnoWord[0];
    return undefined;
  }
  const length = readAll(fd);
  libc.close(fd);
  if (length >= 0) return decoder.decode(buffer.subarray(0, length));
  lastErrno = -length;
  return undefined;
}

const EFBIG = 27;

function readAll(fd: number): number {
  for (let length = 0;;) {
    if (length === buffer.length) {
      if (length >= MAX_FILE_BYTES) return -EFBIG;
      const larger = new Uint8Array(2 * length);
      larger.set(buffer);
      buffer = larger;
    }
    const n = libc.read(fd, buffer.subarray(length), buffer.length - length);
    if (n === 0) return length;
    if (n > 0) length += n;
    else {
      const code = errnoWord[0];
      if (code !== EINTR) return -code;
    }
  }
}
