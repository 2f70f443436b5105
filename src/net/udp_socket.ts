/**
 * UDP under the reactor. A `UdpServer` watches a bound socket that several workers share: each datagram wakes one of them. A
 * `UdpExchange` is a socket of its own for one question to one server: the kernel picks a random port for it and lets nothing through
 * but what comes from that server.
 */
import { describeErrno, EAGAIN } from "../platform/errno.ts";
import { EPOLLEXCLUSIVE, EPOLLIN } from "../platform/epoll.ts";
import { connectSocket, receive, send } from "../platform/socket.ts";
import { type DatagramPeer, DatagramReceiver, duplicateDescriptor, sendDatagram } from "../platform/datagram.ts";
import type { EventHandler, Reactor } from "./reactor.ts";

/** Datagrams taken in one turn of the reactor; more wait for the next, behind whatever else is ready. */
const BATCH = 16;
/** Longer datagrams are dropped: no question is. */
const DATAGRAM_BYTES = 4096;

export interface DatagramHandler {
  /** `bytes` is valid until this returns. */
  datagram(bytes: Uint8Array, peer: DatagramPeer): void;
}

let receiver: DatagramReceiver | undefined;

export class UdpServer implements EventHandler {
  readonly #reactor: Reactor;
  readonly #handler: DatagramHandler;
  #fd: number;

  /**
   * Serves a bound socket of another thread by a descriptor of its own: answers may still leave when that thread has closed
   * its one. Throws when that cannot be.
   */
  constructor(reactor: Reactor, socket: number, handler: DatagramHandler) {
    this.#reactor = reactor;
    this.#handler = handler;
    this.#fd = duplicateDescriptor(socket);
    if (this.#fd < 0) throw new Error(`cannot share a UDP socket: ${describeErrno(-this.#fd)}`);
    reactor.own(this.#fd);
    const outcome = reactor.add(this.#fd, EPOLLIN | EPOLLEXCLUSIVE, this);
    if (outcome < 0) {
      this.close();
      throw new Error(`cannot watch a UDP socket: ${describeErrno(-outcome)}`);
    }
  }

  /** Takes no more by itself; answers may still be sent. */
  pause(): void {
    if (this.#fd !== -1) this.#reactor.remove(this.#fd);
  }

  ready(): void {
    this.receive();
  }

  /** Takes a batch: false when no more than that waited. */
  receive(): boolean {
    receiver ??= new DatagramReceiver(BATCH, DATAGRAM_BYTES);
    const count = receiver.receive(this.#fd);
    for (let i = 0; i < count; i++) {
      const peer = receiver.takePeer(i);
      const bytes = receiver.datagram(i);
      if (bytes !== undefined && this.#fd !== -1) this.#handler.datagram(bytes, peer);
    }
    return count === BATCH;
  }

  /** An answer that the kernel has no room for is lost, as a datagram may be. */
  send(bytes: Uint8Array, peer: DatagramPeer): void {
    if (this.#fd !== -1) sendDatagram(this.#fd, bytes, peer);
  }

  close(): void {
    if (this.#fd === -1) return;
    this.#reactor.close(this.#fd);
    this.#fd = -1;
  }
}

export interface UdpExchangeHandler {
  /** A datagram from the server, valid until this returns. The exchange goes on until it is closed. */
  answered(bytes: Uint8Array): void;
  /** The server cannot be reached: ECONNREFUSED when nothing listens there. The exchange is closed. */
  exchangeFailed(code: number): void;
}

export class UdpExchange implements EventHandler {
  readonly #reactor: Reactor;
  readonly #buffer: Uint8Array;
  readonly #handler: UdpExchangeHandler;
  #fd: number;

  /** Takes over `fd`, a fresh socket of `family`. `buffer` is shared with others and used up to each handler's return. */
  constructor(reactor: Reactor, buffer: Uint8Array, fd: number, handler: UdpExchangeHandler) {
    this.#reactor = reactor;
    this.#buffer = buffer;
    this.#fd = fd;
    this.#handler = handler;
  }

  /** Sends the question: 0, or `-errno` and the exchange is closed; the handler is not called for that. */
  start(ip: string, port: number, family: number, question: Uint8Array): number {
    let outcome = connectSocket(this.#fd, ip, port, family);
    if (outcome === 0) outcome = this.#reactor.add(this.#fd, EPOLLIN, this);
    if (outcome === 0) outcome = Math.min(0, send(this.#fd, question, 0, question.length));
    if (outcome < 0) this.close();
    return outcome;
  }

  ready(): void {
    while (this.#fd !== -1) {
      const n = receive(this.#fd, this.#buffer, 0, this.#buffer.length);
      if (n === -EAGAIN) return;
      if (n < 0) {
        this.close();
        return this.#handler.exchangeFailed(-n);
      }
      this.#handler.answered(this.#buffer.subarray(0, n));
    }
  }

  close(): void {
    if (this.#fd === -1) return;
    this.#reactor.close(this.#fd);
    this.#fd = -1;
  }
}
