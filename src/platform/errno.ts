/** errno values of Linux (asm-generic, the same on x86-64 and arm64) that ambit tells apart, with their names. */

export const EPERM = 1;
export const ENOENT = 2;
export const EINTR = 4;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const EPIPE = 32;
export const ENAMETOOLONG = 36;
export const EPROTO = 71;
export const EOPNOTSUPP = 95;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;
export const ENETUNREACH = 101;
export const ECONNABORTED = 103;
export const ECONNRESET = 104;
export const ENOBUFS = 105;
export const ENOTCONN = 107;
export const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;
export const EHOSTUNREACH = 113;
export const EINPROGRESS = 115;

const names: Readonly<Record<number, readonly [string, string]>> = {
  [EPERM]: ["EPERM", "operation not permitted"],
  [ENOENT]: ["ENOENT", "no such file or directory"],
  [EINTR]: ["EINTR", "interrupted"],
  [EBADF]: ["EBADF", "bad file descriptor"],
  [EAGAIN]: ["EAGAIN", "try again"],
  [ENOMEM]: ["ENOMEM", "out of memory"],
  [EACCES]: ["EACCES", "permission denied"],
  [EINVAL]: ["EINVAL", "invalid argument"],
  [ENFILE]: ["ENFILE", "too many open files in the system"],
  [EMFILE]: ["EMFILE", "too many open files"],
  [EPIPE]: ["EPIPE", "broken pipe"],
  [ENAMETOOLONG]: ["ENAMETOOLONG", "file name too long"],
  [EPROTO]: ["EPROTO", "protocol error"],
  [EOPNOTSUPP]: ["EOPNOTSUPP", "operation not supported"],
  [EADDRINUSE]: ["EADDRINUSE", "address already in use"],
  [EADDRNOTAVAIL]: ["EADDRNOTAVAIL", "address not available"],
  [ENETUNREACH]: ["ENETUNREACH", "network unreachable"],
  [ECONNABORTED]: ["ECONNABORTED", "connection aborted"],
  [ECONNRESET]: ["ECONNRESET", "connection reset by peer"],
  [ENOBUFS]: ["ENOBUFS", "no buffer space"],
  [ENOTCONN]: ["ENOTCONN", "not connected"],
  [ETIMEDOUT]: ["ETIMEDOUT", "connection timed out"],
  [ECONNREFUSED]: ["ECONNREFUSED", "connection refused"],
  [EHOSTUNREACH]: ["EHOSTUNREACH", "no route to host"],
  [EINPROGRESS]: ["EINPROGRESS", "in progress"],
};

/** "connection refused (ECONNREFUSED)" for a known number, "error 999" for another. */
export function describeErrno(code: number): string {
  const known = names[code];
  return known === undefined ? `error ${code}` : `${known[1]} (${known[0]})`;
}

/** A failed system call where failure is a bug or ends start-up: expected network outcomes are values instead. */
export class SystemError extends Error {
  readonly code: number;
  constructor(action: string, code: number) {
    super(`${action}: ${describeErrno(code)}`);
    this.name = "SystemError";
    this.code = code;
  }
}
