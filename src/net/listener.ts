/**
 * Accepting connections. Several workers watch one listening socket with EPOLLEXCLUSIVE; each accepts a few
 * connections per turn so that busy connections are not starved.
 *
 * When descriptors run out, those kept for the process itself aside, the listener rests instead of spinning: the kernel's
 * queue holds the connections meanwhile.
 */
import { EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM, EPROTO } from "../platform/errno.ts";
import { EPOLLEXCLUSIVE, EPOLLIN } from "../platform/epoll.ts";
import { acceptedPeer, acceptSocket } from "../platform/socket.ts";
import type { SocketAddress } from "../platform/sockaddr.ts";
import { isLastAccepted, roomForConnection } from "./descriptor_reserve.ts";
import { type EventHandler, type Reactor, Timer, type TimerTarget } from "./reactor.ts";

const ACCEPTS_PER_TURN = 32;
/** Long enough not to burn a core, short against any client's connect timeout. */
const REST_MS = 100;
/** Bounds the last accepting, so that a flood cannot hold up a drain. */
const LAST_ROUNDS = 64;

export interface AcceptHandler {
  /** A new connection; the handler owns the descriptor. */
  accepted(fd: number, peer: SocketAddress): void;
  /** Accepting failed for want of a resource and goes on after a rest; reported once per rest. */
  acceptFailed(code: number): void;
}

export class Listener implements EventHandler, TimerTarget {
  readonly #reactor: Reactor;
  readonly #fd: number;
  readonly #handler: AcceptHandler;
  readonly #rest = new Timer(this);
  #watched = false;
  #short = false;
  #closed = false;

  /** Watches a listening socket owned by another thread: `close` only stops watching. */
  constructor(reactor: Reactor, fd: number, handler: AcceptHandler) {
    this.#reactor = reactor;
    this.#fd = fd;
    this.#handler = handler;
    this.#watch();
  }

  ready(): void {
    this.#acceptSome();
  }

  /** False when nothing is left to accept, or accepting failed. */
  #acceptSome(): boolean {
    // Looking costs two calls, so it is done only after descriptors ran short.
    if (this.#short && !roomForConnection()) {
      this.#takeRest(EMFILE);
      return false;
    }
    this.#short = false;
    for (let i = 0; i < ACCEPTS_PER_TURN; i++) {
      const fd = acceptSocket(this.#fd);
      if (fd >= 0) {
        const peer = acceptedPeer();
        this.#handler.accepted(fd, peer ?? { ip: "0.0.0.0", port: 0 });
        if (this.#closed) return false;
        if (!isLastAccepted(fd)) continue;
        this.#takeRest(EMFILE);
        return false;
      }
      if (fd === -EAGAIN) return false;
      // The peer gave up, or a firewall refused it, while it was in the queue: the next one may be fine.
      if (fd === -ECONNABORTED || fd === -EINTR || fd === -EPROTO || fd === -EPERM) continue;
      this.#takeRest(-fd);
      return false;
    }
    return true;
  }

  expired(): void {
    if (!this.#closed) this.#watch();
  }

  /** Accepts though no event came: it may have gone to a process that has the socket too, and has ended. */
  sweep(): void {
    if (!this.#closed && this.#watched) this.#acceptSome();
  }

  /** Takes everything that waits in the kernel's queue, then stops: those clients believe they are connected. */
  acceptLast(): void {
    for (let rounds = 0; rounds < LAST_ROUNDS && !this.#closed && this.#watched; rounds++) {
      if (!this.#acceptSome()) break;
    }
    this.close();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reactor.cancelTimer(this.#rest);
    if (this.#watched) this.#reactor.remove(this.#fd);
    this.#watched = false;
  }

  #takeRest(code: number): void {
    if (this.#watched) this.#reactor.remove(this.#fd);
    this.#watched = false;
    this.#short = true;
    this.#handler.acceptFailed(code);
    // EMFILE, ENFILE, ENOBUFS and ENOMEM pass; anything else means that the listener itself is gone.
    if (code === EMFILE || code === ENFILE || code === ENOBUFS || code === ENOMEM) {
      this.#reactor.setTimer(this.#rest, REST_MS);
    }
  }

  #watch(): void {
    const outcome = this.#reactor.add(this.#fd, EPOLLIN | EPOLLEXCLUSIVE, this);
    if (outcome === 0) this.#watched = true;
    else this.#takeRest(-outcome);
  }
}
