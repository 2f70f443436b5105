/** One try of a request at one host: waits for a connection, sends, and hands the answer on, or says what it came to. */
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
import { HIGH_WATER_BYTES } from "../transport/byte_stream.ts";
import type { Cluster, HttpWaiter, PickRequest, UpstreamFailure, UpstreamHost, Wait } from "../upstream/upstream.ts";
import type { Forward } from "./forward.ts";

export class Try implements HttpWaiter, ResponseReceiver, TimerTarget {
  readonly #forward: Forward;
  readonly #cluster: Cluster;
  readonly #head: RequestHead;
  readonly #pick: PickRequest;
  readonly #perTryMs: number;
  readonly #timer = new Timer(this);
  #wait: Wait | undefined;
  #exchange: ClientExchange | undefined;
  #host: UpstreamHost | undefined;
  #responding = false;
  #over = false;
  /** Bytes of the answer whose credit the endpoint waits for. */
  #owed = 0;

  constructor(forward: Forward, cluster: Cluster, head: RequestHead, pick: PickRequest, perTryMs: number) {
    this.#forward = forward;
    this.#cluster = cluster;
    this.#head = head;
    this.#pick = pick;
    this.#perTryMs = perTryMs;
  }

  start(): void {
    if (this.#perTryMs > 0) this.#forward.request.services.timing.setTimer(this.#timer, this.#perTryMs);
    const wait = this.#cluster.http(this.#pick, this.#head.version, this);
    if (this.#exchange === undefined && !this.#over) this.#wait = wait;
  }

  // ---- a connection

  connected(connection: ClientConnection, host: UpstreamHost, localAddress: string): void {
    this.#wait = undefined;
    if (this.#over) return;
    const { body } = this.#forward.request;
    this.#host = host;
    this.#forward.hostChosen(host, localAddress);
    const isWhole = body.ended && body.total === 0 && body.trailers === undefined && this.#head.upgrade === "";
    const exchange = connection.request(this.#head, isWhole, this);
    if (exchange === undefined) {
      const failure: UpstreamFailure = {
        flag: "UF",
        reason: "remote connection failure",
        detail: "the connection went away",
        safeToRetry: true,
      };
      return this.#fail({ kind: "failure", failure });
    }
    this.#exchange = exchange;
    // It may have answered from within.
    if (!this.#over && !isWhole) body.attach(exchange);
  }

  failed(failure: UpstreamFailure, host: UpstreamHost | undefined): void {
    this.#wait = undefined;
    if (this.#over) return;
    if (host !== undefined) {
      this.#host = host;
      this.#forward.hostChosen(host, "");
      if (failure.flag === "UF") this.#forward.localFailure(host, "connect");
    }
    this.#fail({ kind: "failure", failure });
  }

  #fail(outcome: Parameters<Forward["failed"]>[0]): void {
    this.#end();
    if (!this.#forward.judge(outcome)) this.#forward.failed(outcome);
  }

  // ---- the answer

  informational(status: number, headers: FieldList): void {
    if (this.#over || status === 101) return;
    const { request } = this.#forward;
    if (status !== 100 || request.chain.options.proxy100Continue) request.exchange.informational(status, headers);
  }

  head(head: ResponseHead, ended: boolean): void {
    if (this.#over) return;
    const host = this.#host as UpstreamHost;
    this.#forward.outcome(host, head.status);
    if (head.status !== 101) {
      const outcome = { kind: "response", status: head.status, headers: head.headers } as const;
      if (this.#forward.judge(outcome)) {
        this.#exchange?.reset({ kind: "cancelled", refused: false, detail: "tried again" });
        return this.#end();
      }
    }
    this.#stopTimer();
    this.#responding = true;
    if (ended) this.#over = true;
    this.#forward.respond(head.status, head.headers, ended);
  }

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    const size = end - start;
    if (this.#over || !this.#responding) return this.#exchange?.consume(size);
    const { request } = this.#forward;
    if (ended) this.#over = true;
    request.sendData(bytes, start, end, ended);
    if (size > 0) {
      if (request.exchange.queued >= HIGH_WATER_BYTES) this.#owed += size;
      else this.#exchange?.consume(size);
    }
    if (ended) request.finish();
  }

  trailers(fields: FieldList): void {
    if (this.#over) return;
    this.#over = true;
    const { request } = this.#forward;
    request.countTrailers(fields);
    const at = fields.indexOf("grpc-status");
    if (at >= 0) request.facts.grpcStatus = fields[at + 1];
    request.sendTrailers(fields);
    request.finish();
  }

  /** The endpoint takes bytes of the request again. */
  writable(): void {
    if (!this.#over) this.#forward.request.body.giveCredit();
  }

  clientWritable(): void {
    if (this.#owed === 0) return;
    const owed = this.#owed;
    this.#owed = 0;
    this.#exchange?.consume(owed);
  }

  reset(cut: ExchangeCut): void {
    if (this.#over) return;
    if (this.#host !== undefined) this.#forward.localFailure(this.#host, "reset");
    if (this.#responding) {
      this.#end();
      const { request } = this.#forward;
      request.flags.add(cut.kind === "connection lost" ? "UC" : "UR");
      request.details = "upstream_reset_after_response_started";
      return request.cut(cut);
    }
    this.#fail({ kind: "cut", cut, requestSent: this.#exchange !== undefined });
  }

  // ---- its end

  expired(): void {
    if (this.#over || this.#responding) return;
    if (this.#host !== undefined) this.#forward.localFailure(this.#host, "timeout");
    this.#give("its time was up");
    this.#fail({ kind: "timeout" });
  }

  /** The route's time is up. */
  timedOut(): void {
    if (this.#over) return;
    if (this.#host !== undefined) this.#forward.localFailure(this.#host, "timeout");
    this.cancel();
  }

  cancel(): void {
    if (this.#over) return this.#stopTimer();
    this.#give("the request was given up");
    this.#end();
  }

  #give(detail: string): void {
    this.#wait?.cancel();
    this.#wait = undefined;
    this.#exchange?.reset({ kind: "cancelled", refused: false, detail });
  }

  #end(): void {
    this.#over = true;
    this.#forward.request.body.detach();
    this.#stopTimer();
  }

  #stopTimer(): void {
    this.#forward.request.services.timing.cancelTimer(this.#timer);
  }
}
