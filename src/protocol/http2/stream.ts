/**
 * One stream of a connection. Small, because ten thousand idle ones are normal.
 *
 * The public face is the first block; the rest belongs to the modules of this folder.
 */
import type { Session } from "./session.ts";

export const StreamFlag = {
  LOCAL_ENDED: 1,
  REMOTE_ENDED: 2,
  CLOSED: 4,
  /** A request was sent, or a final response. */
  HEADERS_SENT: 8,
  /** A request came, or a final response. */
  HEADERS_RECEIVED: 16,
  /** A tunnel: DATA alone after the headers (RFC 9113 8.5). */
  CONNECT: 32,
  /** The response has no content whatever its content-length says. */
  HEAD: 64,
  /** In the queue of those to be told that they may send. */
  QUEUED: 128,
  /** Waits for its own window. */
  STARVED: 256,
  /** `blockedAtMs` counts. */
  BLOCKED: 512,
} as const;

export class Http2Stream<U> {
  readonly id: number;
  /** The owner's own record. */
  user: U;

  /** Of the module: bytes this end may send; bytes the peer may send. */
  sendWindow: number;
  recvWindow: number;
  /** Of the module: consumed and not yet returned to the peer; delivered and not yet consumed. */
  unacked = 0;
  unconsumed = 0;
  flags = 0;
  /** Of the module: what content-length still promises, or -1. */
  contentLeft = -1;
  /** Of the module: since when the peer's windows hold it up, in whole milliseconds of the connection's life. */
  blockedAtMs = 0;
  next: Http2Stream<U> | undefined = undefined;
  prev: Http2Stream<U> | undefined = undefined;
  readonly session: Session<U>;

  constructor(session: Session<U>, id: number, user: U, sendWindow: number, recvWindow: number) {
    this.session = session;
    this.id = id;
    this.user = user;
    this.sendWindow = sendWindow;
    this.recvWindow = recvWindow;
  }

  /** This end finished sending. */
  get localEnded(): boolean {
    return (this.flags & StreamFlag.LOCAL_ENDED) !== 0;
  }

  /** The peer finished sending. */
  get remoteEnded(): boolean {
    return (this.flags & StreamFlag.REMOTE_ENDED) !== 0;
  }

  /** Every call with it is a no-op from now on. */
  get isClosed(): boolean {
    return (this.flags & StreamFlag.CLOSED) !== 0;
  }

  /** Returns `n` bytes of received DATA to the peer as window. Updates are batched. */
  consume(n: number): void {
    if ((this.flags & StreamFlag.CLOSED) !== 0) return;
    const consumed = Math.min(n, this.unconsumed);
    this.unconsumed -= consumed;
    this.session.creditStream(this, consumed);
  }
}
