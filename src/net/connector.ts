/** Outgoing TCP connections with a deadline. A failure is a value: an errno, ETIMEDOUT included. */
import { EINPROGRESS, ETIMEDOUT } from "../platform/errno.ts";
import { EPOLLOUT } from "../platform/epoll.ts";
import { connectSocket, isConnected, takeSocketError } from "../platform/socket.ts";
import { type EventHandler, type Reactor, Timer, type TimerTarget } from "./reactor.ts";

export interface ConnectHandler {
  /** Connected; the handler owns the descriptor, which is not watched any more. */
  connected(fd: number): void;
  connectFailed(code: number): void;
}

export class Connector implements EventHandler, TimerTarget {
  readonly #reactor: Reactor;
  readonly #handler: ConnectHandler;
  /** Of a connect that takes its time. */
  #timer: Timer | undefined;
  #fd: number;

  /**
   * Starts connecting `fd`, a socket of `family` that this object owns until `connected`. The handler is called at the earliest
   * in a later turn, or from here when the kernel refuses at once. With `near` it is called from here, too, when the connection
   * is there at once, as it mostly is on the own machine.
   */
  constructor(
    reactor: Reactor,
    handler: ConnectHandler,
    fd: number,
    family: number,
    ip: string,
    port: number,
    timeoutMs: number,
    near = false,
  ) {
    this.#reactor = reactor;
    this.#handler = handler;
    this.#fd = fd;
    const outcome = connectSocket(fd, ip, port, family);
    if (outcome < 0 && outcome !== -EINPROGRESS) {
      this.#fail(-outcome);
      return;
    }
    if (near && isConnected(fd)) {
      this.#fd = -1;
      handler.connected(fd);
      return;
    }
    const watched = reactor.add(fd, EPOLLOUT, this);
    if (watched < 0) {
      this.#fail(-watched);
      return;
    }
    this.#timer = new Timer(this);
    reactor.setTimer(this.#timer, timeoutMs);
  }

  /** The handler was told, or is not going to be. */
  get done(): boolean {
    return this.#fd === -1;
  }

  ready(): void {
    const code = takeSocketError(this.#fd);
    if (code !== 0) {
      this.#fail(code);
      return;
    }
    const fd = this.#fd;
    this.#fd = -1;
    this.#stopTimer();
    this.#reactor.remove(fd);
    this.#handler.connected(fd);
  }

  expired(): void {
    this.#fail(ETIMEDOUT);
  }

  /** Gives up without calling the handler. */
  cancel(): void {
    if (this.#fd === -1) return;
    this.#stopTimer();
    this.#reactor.close(this.#fd);
    this.#fd = -1;
  }

  #stopTimer(): void {
    if (this.#timer !== undefined) this.#reactor.cancelTimer(this.#timer);
  }

  #fail(code: number): void {
    this.cancel();
    this.#handler.connectFailed(code);
  }
}
