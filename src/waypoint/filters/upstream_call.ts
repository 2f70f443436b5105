/**
 * One small request to a cluster and its whole answer, for filters that ask somebody: bounded in size and time, given up with the request it is for.
 * A refusal that surely reached nobody is tried once more, on another connection.
 */
import { Timer, type TimerTarget } from "../../net/reactor.ts";
import type {
  ClientConnection,
  ClientExchange,
  ExchangeCut,
  FieldList,
  RequestHead,
  ResponseHead,
  ResponseReceiver,
} from "../http/exchange.ts";
import type { Timing } from "../http/timing.ts";
import { copyOf } from "../transport/copy.ts";
import type { Cluster, HttpWaiter, PickRequest, UpstreamFailure, UpstreamHost, Wait } from "../upstream/upstream.ts";

export interface CallReply {
  readonly status: number;
  readonly headers: FieldList;
  readonly body: Uint8Array;
  readonly trailers: FieldList;
}

export interface CallRequest {
  readonly cluster: Cluster;
  readonly connection: PickRequest["connection"];
  readonly head: RequestHead;
  readonly body: Uint8Array;
  /** 0: the longest that anybody waits. */
  readonly timeoutMs: number;
  readonly maxReplyBytes: number;
}

/** `failure`: for a log. */
export type CallDone = (reply: CallReply | undefined, failure: string) => void;

const MAX_TIMEOUT_MS = 600_000;
const ATTEMPTS = 2;

export class UpstreamCall implements HttpWaiter, ResponseReceiver, TimerTarget {
  readonly #request: CallRequest;
  readonly #timing: Timing;
  readonly #done: CallDone;
  readonly #timer = new Timer(this);
  #attempts = 0;
  #wait: Wait | undefined;
  #exchange: ClientExchange | undefined;
  #host: UpstreamHost | undefined;
  #head: ResponseHead | undefined;
  #parts: Uint8Array[] = [];
  #received = 0;
  #over = false;

  constructor(request: CallRequest, timing: Timing, done: CallDone) {
    this.#request = request;
    this.#timing = timing;
    this.#done = done;
  }

  /** May be done from within. */
  start(): void {
    this.#timing.setTimer(this.#timer, Math.min(this.#request.timeoutMs || MAX_TIMEOUT_MS, MAX_TIMEOUT_MS));
    this.#attempt();
  }

  /** Nobody waits for it any more; `done` is not called. */
  cancel(): void {
    if (this.#over) return;
    this.#stop();
    this.#exchange?.reset({ kind: "cancelled", refused: false, detail: "nobody waits for the answer any more" });
  }

  #attempt(): void {
    const attempt = ++this.#attempts;
    this.#exchange = undefined;
    const { cluster, connection, head } = this.#request;
    const wait = cluster.http(
      {
        connection,
        hash: undefined,
        authority: head.authority,
        tried: this.#host === undefined ? [] : [this.#host],
        avoidTried: false,
        hostAttempts: 1,
        priorityUpdateFrequency: 0,
      },
      head.version,
      this,
    );
    // It may have answered, or begun another, from within.
    if (attempt === this.#attempts && this.#exchange === undefined && !this.#over) this.#wait = wait;
  }

  connected(connection: ClientConnection, host: UpstreamHost): void {
    this.#wait = undefined;
    if (this.#over) return;
    this.#host = host;
    const { head, body } = this.#request;
    const exchange = connection.request({ ...head, headers: [...head.headers] }, body.length === 0, this);
    if (exchange === undefined) return this.#again("the connection went away");
    this.#exchange = exchange;
    // It may have answered from within.
    if (!this.#over && body.length > 0) exchange.data(body, 0, body.length, true);
  }

  failed({ reason, detail, safeToRetry, flag }: UpstreamFailure, host: UpstreamHost | undefined): void {
    this.#wait = undefined;
    if (this.#over) return;
    if (host !== undefined && flag === "UF") this.#outcome(host, "connect");
    this.#host = host ?? this.#host;
    const failure = detail === "" ? reason : detail;
    if (safeToRetry && flag === "UF") this.#again(failure);
    else this.#fail(failure);
  }

  #outcome(host: UpstreamHost, localFailure: "connect" | "reset" | "timeout"): void {
    this.#request.cluster.outcome(host, { localFailure });
  }

  #again(failure: string): void {
    if (this.#attempts < ATTEMPTS) this.#attempt();
    else this.#fail(failure);
  }

  // ---- the answer

  informational(): void {}

  head(head: ResponseHead, ended: boolean): void {
    if (this.#over) return;
    if (this.#host !== undefined) this.#request.cluster.outcome(this.#host, { status: head.status });
    this.#head = head;
    if (ended) this.#finish([]);
  }

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    const size = end - start;
    if (size > 0) this.#exchange?.consume(size);
    if (this.#over) return;
    this.#received += size;
    if (this.#received > this.#request.maxReplyBytes) {
      const exchange = this.#exchange;
      this.#fail(`the answer is longer than ${this.#request.maxReplyBytes} bytes`);
      return exchange?.reset({ kind: "cancelled", refused: false, detail: "the answer is too long" });
    }
    if (size > 0) this.#parts.push(copyOf(bytes, start, end));
    if (ended) this.#finish([]);
  }

  trailers(fields: FieldList): void {
    if (!this.#over) this.#finish(fields);
  }

  /** A body this small is taken whole. */
  writable(): void {}

  reset(cut: ExchangeCut): void {
    if (this.#over) return;
    if (this.#host !== undefined) this.#outcome(this.#host, "reset");
    if (cut.refused && this.#head === undefined) this.#again(cut.detail);
    else this.#fail(cut.detail);
  }

  expired(): void {
    if (this.#over) return;
    if (this.#host !== undefined) this.#outcome(this.#host, "timeout");
    const exchange = this.#exchange;
    this.#fail("it did not answer in time");
    exchange?.reset({ kind: "cancelled", refused: false, detail: "its time was up" });
  }

  // ---- its end

  #finish(trailers: FieldList): void {
    const { status, headers } = this.#head as ResponseHead;
    const body = joined(this.#parts, this.#received);
    this.#stop();
    this.#done({ status, headers, body, trailers }, "");
  }

  #fail(failure: string): void {
    this.#stop();
    this.#done(undefined, failure);
  }

  #stop(): void {
    this.#over = true;
    this.#parts = [];
    this.#timing.cancelTimer(this.#timer);
    this.#wait?.cancel();
    this.#wait = undefined;
  }
}

function joined(parts: readonly Uint8Array[], size: number): Uint8Array {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
