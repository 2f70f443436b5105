/**
 * The last descriptors of the process, which connections do not get: probes, scrapes and the control plane still need some when
 * clients have taken all others, and a runtime's own HTTP server spins or dies when it cannot accept.
 */
import { createEventFd } from "../platform/epoll.ts";
import { descriptorLimit } from "../platform/process.ts";
import { closeDescriptor } from "../platform/socket.ts";

/** Three servers with a few clients each, a certificate request, a pod that comes. */
const RESERVE = 64;

/** True for a descriptor of the reserve: what holds it is closed or, if it is the first, the last one taken. */
export function isReserved(fd: number): boolean {
  const limit = descriptorLimit();
  return fd >= limit - Math.min(RESERVE, limit >> 2);
}

/** Whether one more connection may be accepted. Descriptors are given out from the lowest free one. */
export function roomForConnection(): boolean {
  let next: number;
  try {
    next = createEventFd();
  } catch {
    return false;
  }
  closeDescriptor(next);
  return !isReserved(next);
}
