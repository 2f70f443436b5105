/**
 * SOCK_SEQPACKET conversations of the main thread in a worker's reactor: no runtime watches such sockets (design: "raw descriptors of
 * the control plane"). Whole messages and the descriptors that came with them go to the main thread; nothing is said unasked.
 *
 * A descriptor that came in is noted as this worker's until the main thread has taken it, so none is lost with the worker.
 */
import { describeErrno, EAGAIN } from "../platform/errno.ts";
import { EPOLLEXCLUSIVE, EPOLLIN } from "../platform/epoll.ts";
import { connectSeqpacket, MessageReceiver, MessageSender, peerCredentials } from "../platform/seqpacket.ts";
import { acceptSocket } from "../platform/socket.ts";
import type { Reactor } from "../net/reactor.ts";
import type { LinkEvent, LinkOrder } from "./messages.ts";

/** Both ends of every conversation read into this much (reference ztunnel 2.1). */
export const LINK_MESSAGE_BYTES = 1024;
/** Messages taken from one connection in a turn, so that a chatty one starves nobody. */
const MESSAGES_PER_TURN = 32;
const CONNECTIONS_PER_TURN = 8;

export class WorkerLinks {
  readonly #reactor: Reactor;
  readonly #post: (event: LinkEvent) => void;
  readonly #firstLink: number;
  readonly #fds = new Map<number, number>();
  /** Listeners are the main thread's: never closed here. */
  readonly #listeners = new Map<number, number>();
  #receiver: MessageReceiver | undefined;
  #sender: MessageSender | undefined;
  #accepted = 0;

  /** `generation` makes the numbers of accepted connections unique among all workers that ever ran. */
  constructor(reactor: Reactor, generation: number, post: (event: LinkEvent) => void) {
    this.#reactor = reactor;
    this.#post = post;
    this.#firstLink = -generation * 1_000_000;
  }

  handle(order: LinkOrder): void {
    switch (order.do) {
      case "connect":
        return this.#connect(order.link, order.path);
      case "accept":
        return this.#accept(order.link, order.fd);
      case "send":
        return this.#send(order.link, order.bytes, order.fds);
      case "close":
        return this.#close(order.link);
    }
  }

  #connect(link: number, path: string): void {
    const fd = connectSeqpacket(path);
    if (fd < 0) {
      const reason = `cannot connect to ${path}: ${describeErrno(-fd)}`;
      return this.#post({ event: "closed", link, reason });
    }
    if (!this.#watch(link, fd)) return;
    this.#post({ event: "connected", link, uid: peerCredentials(fd)?.uid ?? -1 });
  }

  #accept(link: number, listener: number): void {
    // Exclusive, though alone: that is how the reactor knows that the descriptor is not this worker's.
    const outcome = this.#reactor.add(listener, EPOLLIN | EPOLLEXCLUSIVE, {
      ready: () => {
        for (let i = 0; i < CONNECTIONS_PER_TURN; i++) {
          const fd = acceptSocket(listener);
          if (fd < 0) return;
          const accepted = this.#firstLink - ++this.#accepted;
          const uid = peerCredentials(fd)?.uid ?? -1;
          this.#post({ event: "accepted", link: accepted, listener: link, uid });
          this.#watch(accepted, fd);
        }
      },
    });
    if (outcome < 0) this.#post({ event: "closed", link, reason: `cannot watch: ${describeErrno(-outcome)}` });
    else this.#listeners.set(link, listener);
  }

  #watch(link: number, fd: number): boolean {
    const outcome = this.#reactor.add(fd, EPOLLIN, { ready: () => this.#receive(link, fd) });
    this.#fds.set(link, fd);
    if (outcome === 0) return true;
    this.#end(link, `cannot watch the connection: ${describeErrno(-outcome)}`);
    return false;
  }

  #receive(link: number, fd: number): void {
    const receiver = this.#receiver ??= new MessageReceiver(LINK_MESSAGE_BYTES);
    for (let i = 0; i < MESSAGES_PER_TURN && this.#fds.get(link) === fd; i++) {
      const length = receiver.receive(fd);
      if (length === -EAGAIN) return;
      for (const received of receiver.fds) this.#reactor.own(received);
      if (length <= 0) {
        receiver.closeDescriptors();
        return this.#end(link, length === 0 ? "the other end closed the connection" : describeErrno(-length));
      }
      const damage = receiver.truncated
        ? `the message is longer than ${LINK_MESSAGE_BYTES} bytes`
        : receiver.controlTruncated
        ? "descriptors were lost, for want of room or because no more files may be open"
        : undefined;
      this.#post({ event: "message", link, bytes: receiver.copy(length), fds: receiver.fds, damage });
    }
  }

  #send(link: number, bytes: Uint8Array, fds: readonly number[]): void {
    const fd = this.#fds.get(link);
    if (fd === undefined) return;
    const sent = (this.#sender ??= new MessageSender(LINK_MESSAGE_BYTES)).send(fd, bytes, fds);
    // Answers are small and one at a time: who lets them pile up does not read them.
    if (sent < 0) this.#end(link, `cannot send: ${describeErrno(-sent)}`);
  }

  #close(link: number): void {
    const fd = this.#fds.get(link);
    if (fd !== undefined) this.#reactor.close(fd);
    this.#fds.delete(link);
    const listener = this.#listeners.get(link);
    if (listener !== undefined) this.#reactor.remove(listener);
    this.#listeners.delete(link);
  }

  #end(link: number, reason: string): void {
    this.#close(link);
    this.#post({ event: "closed", link, reason });
  }
}
