/**
 * What the TLS records of an HBONE connection travel over: a socket, or a stream of another tunnel (nested_link.ts). The link owns
 * its descriptor or stream; the connection owns the link and the session.
 */
import type { EventHandler, Reactor } from "../net/reactor.ts";
import { EPOLLIN } from "../platform/epoll.ts";
import type { TlsSession } from "../platform/tls_session.ts";

export interface TunnelLink {
  readonly session: TlsSession;
  /** Reports EPOLL* readiness to the handler from now on: 0, or `-errno`. Begins with EPOLLIN. */
  open(handler: EventHandler): number;
  /** Which readiness matters now. */
  watch(mask: number): void;
  /** The session produced all it can for now: send it on its way. After each flush, handshakes included; after `close` it does nothing. */
  flushed(): void;
  /** Bytes of the session that are not on their way yet: closing now would lose them. */
  readonly unsent: number;
  /** Ends it, after the session's close_notify, before the session is freed. Nothing is reported any more. */
  close(): void;
}

/** A connected, unwatched socket. */
export class SocketLink implements TunnelLink {
  readonly session: TlsSession;
  readonly unsent = 0;
  readonly #reactor: Reactor;
  readonly #fd: number;

  constructor(reactor: Reactor, fd: number, session: TlsSession) {
    this.#reactor = reactor;
    this.#fd = fd;
    this.session = session;
  }

  open(handler: EventHandler): number {
    return this.#reactor.add(this.#fd, EPOLLIN, handler);
  }

  watch(mask: number): void {
    this.#reactor.modify(this.#fd, mask);
  }

  flushed(): void {}

  close(): void {
    this.#reactor.close(this.#fd);
  }
}
