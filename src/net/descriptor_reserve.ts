/**
 * The last descriptors of the process, which connections do not get: probes, scrapes and the control plane still need some when
 * clients have taken all others, and a runtime's own HTTP server spins or dies when it cannot accept.
 */
import { createEventFd } from "../platform/epoll.ts";
import { descriptorLimit } from "../platform/process.ts";
import { closeDescriptor } from "../platform/socket.ts";

/** Half for the second halves of what was accepted; the rest for three servers with a few clients each and a pod that comes. */
const RESERVE = 64;

/**
 * The limit, which whoever runs the process may change at any time, is asked for again after this many descriptors: few beside the
 * reserve, so that nothing else feels it when it was lowered meanwhile.
 */
const DESCRIPTORS_PER_LOOK = 16;
let limitSeen = 0;
let untilLook = 0;

function limitOfLate(): number {
  if (untilLook-- > 0) return limitSeen;
  untilLook = DESCRIPTORS_PER_LOOK - 1;
  limitSeen = descriptorLimit();
  return limitSeen;
}

function reserve(limit: number): number {
  return Math.min(RESERVE, limit >> 2);
}

/** True when `fd`, just accepted, is of the reserve: it is served, and is the last one for now. */
export function isLastAccepted(fd: number): boolean {
  const limit = limitOfLate();
  return fd >= limit - reserve(limit);
}

/** True when `fd`, made for the second half of a connection, must be given back. */
export function isReserved(fd: number): boolean {
  const limit = limitOfLate();
  return fd >= limit - (reserve(limit) >> 1);
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
  untilLook = 0;
  return !isLastAccepted(next);
}
