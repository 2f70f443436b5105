/** Network failures as a test compares them: by the kernel's number. */
import { describeErrno } from "../../../src/platform/errno.ts";

export class NetworkError extends Error {
  constructor(message: string, readonly code: number) {
    super(message);
  }
}

export function connectErrorText(code: number, ip: string, port: number): NetworkError {
  return new NetworkError(`cannot connect to ${ip} port ${port}: ${describeErrno(code)}`, code);
}
