/**
 * epoll(7) and eventfd(2). Each registered descriptor carries a generation beside its number, so that an event
 * that was already fetched when its descriptor was closed and the number given out again is recognised as stale.
 */
import process from "node:process";
import { EINTR, SystemError } from "./errno.ts";
import { errnoWord, libc } from "./libc.ts";

export const EPOLLIN = 0x1;
export const EPOLLOUT = 0x4;
export const EPOLLERR = 0x8;
export const EPOLLHUP = 0x10;
export const EPOLLRDHUP = 0x2000;
/** Wakes one of several waiters of a listener instead of all. */
export const EPOLLEXCLUSIVE = 1 << 28;

const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EPOLL_CLOEXEC = 0o2000000;
const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

/** `struct epoll_event` is packed on x86-64 (12 bytes) and aligned elsewhere (16 bytes); counted in 32-bit words. */
const EVENT_WORDS = process.arch === "x64" ? 3 : 4;
const DATA_WORD = process.arch === "x64" ? 1 : 2;
/** More ready descriptors than this in one turn wait for the next, which follows at once. */
const EVENTS_PER_WAIT = 256;

/** One epoll set, used by one thread. */
export class Epoll {
  readonly #fd: number;
  readonly #control = new Int32Array(EVENT_WORDS);
  readonly #controlBytes = new Uint8Array(this.#control.buffer);
  readonly #events = new Int32Array(EVENT_WORDS * EVENTS_PER_WAIT);
  readonly #eventBytes = new Uint8Array(this.#events.buffer);

  constructor() {
    this.#fd = libc.epoll_create1(EPOLL_CLOEXEC);
    if (this.#fd < 0) throw new SystemError("cannot create an epoll set", errnoWord[0]);
  }

  /** The set's own descriptor, for whoever must close it when this thread is gone. */
  get fd(): number {
    return this.#fd;
  }

  /** 0, or `-errno`: ENOSPC and ENOMEM are limits a caller must survive. */
  add(fd: number, mask: number, generation: number): number {
    return this.#ctl(EPOLL_CTL_ADD, fd, mask, generation);
  }

  modify(fd: number, mask: number, generation: number): number {
    return this.#ctl(EPOLL_CTL_MOD, fd, mask, generation);
  }

  remove(fd: number): number {
    return this.#ctl(EPOLL_CTL_DEL, fd, 0, 0);
  }

  /** Waits at most `timeoutMs` (-1: for ever) and returns how many events are ready to be read by index. */
  wait(timeoutMs: number): number {
    const n = libc.epoll_wait(this.#fd, this.#eventBytes, EVENTS_PER_WAIT, timeoutMs);
    if (n >= 0) return n;
    const code = errnoWord[0];
    if (code === EINTR) return 0;
    throw new SystemError("epoll_wait", code);
  }

  eventMask(index: number): number {
    return this.#events[index * EVENT_WORDS];
  }

  eventFd(index: number): number {
    return this.#events[index * EVENT_WORDS + DATA_WORD];
  }

  eventGeneration(index: number): number {
    return this.#events[index * EVENT_WORDS + DATA_WORD + 1];
  }

  close(): void {
    libc.close(this.#fd);
  }

  #ctl(operation: number, fd: number, mask: number, generation: number): number {
    this.#control[0] = mask;
    this.#control[DATA_WORD] = fd;
    this.#control[DATA_WORD + 1] = generation;
    return libc.epoll_ctl(this.#fd, operation, fd, this.#controlBytes) < 0 ? -errnoWord[0] : 0;
  }
}

const counter = new Uint8Array(8);
const one = new Uint8Array(new BigUint64Array([1n]).buffer);

/** A wake-up counter that one thread waits on and any thread of the process may raise by `signalEventFd`. */
export function createEventFd(): number {
  const fd = libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw new SystemError("cannot create an eventfd", errnoWord[0]);
  return fd;
}

export function signalEventFd(fd: number): void {
  libc.write(fd, one, 8);
}

/** Resets the counter; messages posted before the matching signal are visible afterwards. */
export function drainEventFd(fd: number): void {
  libc.read(fd, counter, 8);
}
