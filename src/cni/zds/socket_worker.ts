/**
 * The ztunnels' connections in the reactor of a thread of their own, because no runtime watches SOCK_SEQPACKET sockets. It blocks until
 * something happens; whole messages go to the main thread, which has all the meaning.
 *
 * A connection is this thread's alone. Descriptors that are sent stay the main thread's. An end of a connection is noticed at once,
 * without the periodic reads that a blocking server needs.
 */
import { EPOLLEXCLUSIVE, EPOLLIN, EPOLLOUT } from "../../platform/epoll.ts";
import { describeErrno, EAGAIN, ECONNABORTED, EINTR, ENOBUFS, ENOMEM, EPIPE } from "../../platform/errno.ts";
import { MessageReceiver, MessageSender, peerCredentials } from "../../platform/seqpacket.ts";
import { acceptSocket } from "../../platform/socket.ts";
import { Reactor, Timer } from "../../net/reactor.ts";
import { ZDS_MESSAGE_BYTES } from "../../protocol/zds.ts";
import type { ZdsEvent, ZdsOrder, ZdsThreadStart } from "./messages.ts";

/**
 * How long a message may wait for memory and descriptors of the kernel; then it fails, before the main thread gives the connection up,
 * as it does when the other end takes nothing for 5 s.
 */
const SHORTAGE_LIMIT_MS = 4_000;
const SEND_RETRY_MS = { first: 50, last: 400 } as const;
const WATCH_RETRY_MS = 1_000;
/** Messages taken from one connection in a turn; one is normal. */
const MESSAGES_PER_TURN = 8;
/** The user has too many descriptors in flight on unix sockets (unix(7)). */
const ETOOMANYREFS = 109;
/** Shortages that pass: the socket is as before, and the message may be sent later. */
const TRANSIENT: ReadonlySet<number> = new Set([ENOBUFS, ENOMEM, ETOOMANYREFS, EINTR]);

type SendOrder = Extract<ZdsOrder, { do: "send" }>;

class Connection {
  sending: SendOrder | undefined;
  sinceMs = 0;
  retryMs: number = SEND_RETRY_MS.first;
  awaitsRoom = false;
  readonly timer: Timer;

  constructor(readonly number: number, readonly fd: number, retry: (connection: Connection) => void) {
    this.timer = new Timer({ expired: () => retry(this) });
  }
}

export class ZdsSockets {
  readonly #reactor: Reactor;
  readonly #post: (event: ZdsEvent) => void;
  readonly #connections = new Map<number, Connection>();
  readonly #receiver = new MessageReceiver(ZDS_MESSAGE_BYTES);
  readonly #sender: Pick<MessageSender, "send">;
  readonly #acceptTimer: Timer;
  readonly #first: number;
  readonly #acceptGapMs: number;
  #listener = -1;
  #accepted = 0;

  /** `generation` makes the numbers of connections unique among all threads that ever ran. */
  constructor(
    reactor: Reactor,
    { generation, acceptGapMs }: ZdsThreadStart,
    post: (event: ZdsEvent) => void,
    sender: Pick<MessageSender, "send"> = new MessageSender(ZDS_MESSAGE_BYTES),
  ) {
    this.#reactor = reactor;
    this.#post = post;
    this.#sender = sender;
    this.#first = generation * 1_000_000;
    this.#acceptGapMs = acceptGapMs;
    this.#acceptTimer = new Timer({ expired: () => this.#watchListener() });
  }

  handle(order: ZdsOrder): void {
    switch (order.do) {
      case "listen":
        this.#listener = order.fd;
        return this.#watchListener();
      case "send":
        return this.#send(order);
      case "close": {
        const connection = this.#connections.get(order.connection);
        if (connection !== undefined) this.#end(connection, "the node agent closed it", true);
        return;
      }
      case "stop":
        if (this.#listener !== -1) this.#reactor.remove(this.#listener);
        this.#reactor.cancelTimer(this.#acceptTimer);
        for (const connection of [...this.#connections.values()]) this.#forget(connection);
        this.#reactor.stop();
    }
  }

  #watchListener(): void {
    // Exclusive, though alone: that is how the reactor knows that the descriptor is not this thread's.
    const outcome = this.#reactor.add(this.#listener, EPOLLIN | EPOLLEXCLUSIVE, { ready: () => this.#accept() });
    if (outcome === 0) return;
    this.#post({ event: "failed", reason: `cannot watch the socket: ${describeErrno(-outcome)}` });
    this.#reactor.setTimer(this.#acceptTimer, WATCH_RETRY_MS);
  }

  /** One, then a pause: further ones wait in the socket's queue. */
  #accept(): void {
    const fd = acceptSocket(this.#listener);
    if (fd === -EAGAIN || fd === -EINTR || fd === -ECONNABORTED) return;
    this.#reactor.remove(this.#listener);
    this.#reactor.setTimer(this.#acceptTimer, this.#acceptGapMs);
    if (fd < 0) return this.#post({ event: "failed", reason: `cannot accept: ${describeErrno(-fd)}` });
    const connection = new Connection(this.#first + ++this.#accepted, fd, (self) => this.#attempt(self));
    this.#reactor.own(fd);
    this.#connections.set(connection.number, connection);
    const { pid, uid } = peerCredentials(fd) ?? { pid: -1, uid: -1 };
    this.#post({ event: "accepted", connection: connection.number, pid, uid });
    const outcome = this.#reactor.add(fd, EPOLLIN, { ready: (mask) => this.#ready(connection, mask) });
    if (outcome < 0) this.#end(connection, `cannot watch the connection: ${describeErrno(-outcome)}`, false);
  }

  #ready(connection: Connection, mask: number): void {
    if ((mask & EPOLLOUT) !== 0 && connection.sending !== undefined) this.#attempt(connection);
    if ((mask & ~EPOLLOUT) !== 0) this.#receive(connection);
  }

  #receive(connection: Connection): void {
    const receiver = this.#receiver;
    for (let i = 0; i < MESSAGES_PER_TURN && this.#isOpen(connection); i++) {
      const length = receiver.receive(connection.fd);
      if (length === -EAGAIN || length === -EINTR) return;
      // No descriptor is ever expected.
      const fds = receiver.fds.length;
      receiver.closeDescriptors();
      if (length <= 0) {
        const reason = length === 0 ? "ztunnel closed the connection" : describeErrno(-length);
        return this.#end(connection, reason, length === 0);
      }
      const damage = receiver.truncated
        ? `its message is longer than ${ZDS_MESSAGE_BYTES} bytes`
        : fds > 0 || receiver.controlTruncated
        ? "its message came with descriptors"
        : undefined;
      this.#post({ event: "message", connection: connection.number, bytes: receiver.copy(length), damage });
    }
  }

  #send(order: SendOrder): void {
    const connection = this.#connections.get(order.connection);
    // Its end was told.
    if (connection === undefined) return;
    connection.sending = order;
    connection.sinceMs = this.#reactor.nowMs;
    connection.retryMs = SEND_RETRY_MS.first;
    this.#attempt(connection);
  }

  #attempt(connection: Connection): void {
    const order = connection.sending;
    if (order === undefined || !this.#isOpen(connection)) return;
    const sent = this.#sender.send(connection.fd, order.bytes, order.fd === -1 ? [] : [order.fd]);
    if (sent >= 0) return this.#settle(connection, order, undefined);
    const code = -sent;
    if (code !== EAGAIN && !TRANSIENT.has(code)) {
      return this.#end(connection, `cannot send: ${describeErrno(code)}`, code === EPIPE);
    }
    if (code === EAGAIN) {
      if (!connection.awaitsRoom) this.#reactor.modify(connection.fd, EPOLLIN | EPOLLOUT);
      connection.awaitsRoom = true;
      return;
    }
    if (this.#reactor.nowMs - connection.sinceMs >= SHORTAGE_LIMIT_MS) {
      return this.#settle(connection, order, `${describeErrno(code)} for ${SHORTAGE_LIMIT_MS / 1000} s`);
    }
    this.#reactor.setTimer(connection.timer, connection.retryMs);
    connection.retryMs = Math.min(2 * connection.retryMs, SEND_RETRY_MS.last);
  }

  #settle(connection: Connection, order: SendOrder, error: string | undefined): void {
    connection.sending = undefined;
    this.#reactor.cancelTimer(connection.timer);
    if (connection.awaitsRoom) {
      connection.awaitsRoom = false;
      this.#reactor.modify(connection.fd, EPOLLIN);
    }
    this.#post({ event: "sent", connection: connection.number, message: order.message, error });
  }

  #isOpen(connection: Connection): boolean {
    return this.#connections.get(connection.number) === connection;
  }

  #end(connection: Connection, reason: string, quiet: boolean): void {
    this.#forget(connection);
    this.#post({ event: "closed", connection: connection.number, reason, quiet });
  }

  #forget(connection: Connection): void {
    this.#connections.delete(connection.number);
    this.#reactor.cancelTimer(connection.timer);
    this.#reactor.close(connection.fd);
  }
}
