/**
 * One CONNECT request of a client: finds a tunnel, asks, and hands the accepted stream on, or says why there is none.
 *
 * A stream that the peer refuses unprocessed (RFC 9113 section 8.7) is asked for again, on whichever tunnel the source gives: a GOAWAY
 * crossed it, or the peer's limit was reached. So is one on a tunnel that had served others and is lost before it answers.
 */
import type { Reactor } from "../net/reactor.ts";
import { Timer, type TimerTarget } from "../net/reactor.ts";
import { ErrorCode, type Fields } from "../protocol/http2/mod.ts";
import type { HboneConnection, TunnelStream, TunnelUser } from "./connection.ts";
import type { DialFailure, TunnelWaiter } from "./pool.ts";

/** The peer connects to its application within 10 s, then answers; ztunnel itself waits for ever. */
export const RESPONSE_TIMEOUT_MS = 20_000;
const MAX_REFUSALS = 3;
const MAX_LOSSES = 1;

/** Where tunnels come from: a pool, or the way through another tunnel. */
export interface TunnelSource {
  /** Answers the waiter once, perhaps from within. */
  acquire(waiter: TunnelWaiter): void;
  /** The waiter does not wait any more. */
  cancel(waiter: TunnelWaiter): void;
}

/** Why there is no stream. */
export type ConnectFailure =
  | DialFailure
  | { readonly stage: "status"; readonly status: string }
  | { readonly stage: "reset"; readonly code: number }
  /** The tunnel broke a rule of HTTP/2, or never spoke it. */
  | { readonly stage: "h2"; readonly message: string }
  | { readonly stage: "answer"; readonly message: string };

export interface ConnectOwner {
  /** The answer was 200: take the stream over by setting its user. `endStream`: the peer has nothing to send. */
  connectAccepted(tunnel: HboneConnection, stream: TunnelStream, fields: Fields, endStream: boolean): void;
  connectFailed(failure: ConnectFailure): void;
}

export class ConnectStream implements TunnelWaiter, TunnelUser, TimerTarget {
  readonly #reactor: Reactor;
  readonly #source: TunnelSource;
  readonly #fields: Fields;
  readonly #owner: ConnectOwner;
  readonly #timer = new Timer(this);
  #tunnel: HboneConnection | undefined;
  #stream: TunnelStream | undefined;
  #refusals = 0;
  #losses = 0;
  #done = false;

  constructor(reactor: Reactor, source: TunnelSource, fields: Fields, owner: ConnectOwner) {
    this.#reactor = reactor;
    this.#source = source;
    this.#fields = fields;
    this.#owner = owner;
  }

  start(): void {
    this.#source.acquire(this);
  }

  /** Gives up without a further call to the owner. */
  cancel(): void {
    if (this.#done) return;
    this.#end();
    const { stream, tunnel } = { stream: this.#stream, tunnel: this.#tunnel };
    this.#stream = undefined;
    if (stream !== undefined && tunnel !== undefined) {
      tunnel.h2.resetStream(stream, ErrorCode.CANCEL);
      tunnel.touch();
    } else {
      this.#source.cancel(this);
    }
  }

  tunnelReady(connection: HboneConnection): void {
    if (this.#done) return;
    const stream = connection.h2.openStream(this.#fields, false, this);
    if (stream === undefined) {
      return this.#fail({ stage: "answer", message: "the tunnel takes no more streams; try again" });
    }
    this.#tunnel = connection;
    this.#stream = stream;
    this.#reactor.setTimer(this.#timer, RESPONSE_TIMEOUT_MS);
    connection.touch();
  }

  tunnelFailed(failure: DialFailure): void {
    if (!this.#done) this.#fail(failure);
  }

  headers(stream: TunnelStream, fields: Fields, endStream: boolean): void {
    const status = fields[0] === ":status" ? fields[1] : "";
    if (status.startsWith("1") || this.#done) return;
    const tunnel = this.#tunnel as HboneConnection;
    if (status !== "200") return this.#fail({ stage: "status", status });
    this.#end();
    this.#owner.connectAccepted(tunnel, stream, fields, endStream);
  }

  /** DATA before the response is nothing a server may send. */
  data(): void {
    this.#fail({ stage: "answer", message: "the tunnel sent data before it accepted the connection" });
  }

  writable(): void {}

  reset(stream: TunnelStream, code: number): void {
    if (stream !== this.#stream || this.#done) return;
    this.#stream = undefined;
    // The peer refused the tunnel itself, after our half of the handshake.
    const failure = this.#tunnel?.failure;
    if (failure !== undefined) return this.#fail(failure);
    if (code === ErrorCode.REFUSED_STREAM && this.#refusals++ < MAX_REFUSALS) return this.#again();
    const { failedWith = -1, lastFault = "" } = this.#tunnel?.h2 ?? {};
    if (failedWith > ErrorCode.NO_ERROR) return this.#fail({ stage: "h2", message: lastFault });
    if (failedWith === ErrorCode.NO_ERROR) {
      // A tunnel that had been used before went away as it was asked once more. No byte of the application is on its way yet.
      if (stream.id > 1 && this.#losses++ < MAX_LOSSES) return this.#again();
      return this.#fail({
        stage: "answer",
        message: `the tunnel was lost before it accepted the connection: ${lastFault}`,
      });
    }
    this.#fail({ stage: "reset", code });
  }

  #again(): void {
    this.#tunnel = undefined;
    this.#reactor.cancelTimer(this.#timer);
    this.#source.acquire(this);
  }

  closed(stream: TunnelStream): void {
    if (stream !== this.#stream || this.#done) return;
    this.#stream = undefined;
    this.#fail({ stage: "answer", message: "the tunnel ended before it accepted the connection" });
  }

  expired(): void {
    this.#fail({
      stage: "answer",
      message: `the peer did not answer the CONNECT request within ${RESPONSE_TIMEOUT_MS / 1000} s`,
    });
  }

  #fail(failure: ConnectFailure): void {
    if (this.#done) return;
    this.#end();
    const { stream, tunnel } = { stream: this.#stream, tunnel: this.#tunnel };
    this.#stream = undefined;
    this.#owner.connectFailed(failure);
    if (stream !== undefined && tunnel !== undefined) {
      tunnel.h2.resetStream(stream, ErrorCode.CANCEL);
      tunnel.touch();
    }
  }

  #end(): void {
    this.#done = true;
    this.#reactor.cancelTimer(this.#timer);
  }
}
