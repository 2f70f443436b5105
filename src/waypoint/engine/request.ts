/**
 * One request's life: normalize, filter, route, then answer from here or hand over to a try upstream (forward.ts). It owns the client's side: its
 * exchange, its body, its answer, and the facts that logs and metrics are made of.
 */
import type { BodyReceiver, ExchangeCut, FieldList, RequestHead, ServerExchange } from "../http/exchange.ts";
import type { FormatFacts } from "../format/facts.ts";
import { normalizePath } from "../match/normalize.ts";
import type { CompiledRoute } from "../router/compiled_routes.ts";
import type { HttpChainSpec, RouteSpec } from "../spec/mod.ts";
import { wireBytes } from "../http/fields.ts";
import type { CompiledHttpChain } from "./compiled_chain.ts";
import type { ConnectionInfo } from "./connection_info.ts";
import { Forward } from "./forward.ts";
import { isGrpc, localResponse } from "./local_answer.ts";
import { RequestBody } from "./request_body.ts";
import type {
  BodyTap,
  LocalAnswer,
  RequestContext,
  RequestFacts,
  RequestRewrite,
  ResponseFlag,
  ResponseRewrite,
} from "./request_context.ts";
import { finishResponse, sanitizeRequest } from "./sanitize.ts";
import type { EngineServices } from "./services.ts";

let nextId = 1;

interface BodyWait {
  readonly maxBytes: number;
  readonly allowPartial: boolean;
  readonly done: (body: Uint8Array | undefined, tooLarge: boolean) => void;
}

export class Request implements RequestContext, BodyReceiver {
  readonly id = nextId++;
  readonly connection: ConnectionInfo;
  readonly chain: HttpChainSpec;
  readonly exchange: ServerExchange;
  readonly head: RequestHead;
  readonly original: { readonly method: string; readonly path: string; readonly authority: string };
  readonly metadata = new Map<string, Record<string, unknown>>();
  readonly flags = new Set<ResponseFlag>();
  details = "";
  readonly facts: RequestFacts;
  readonly body: RequestBody;
  readonly services: EngineServices;
  isGrpc: boolean;
  readonly #compiled: CompiledHttpChain;
  #route: CompiledRoute | undefined;
  #routeKnown = false;
  #filter = 0;
  #answered = false;
  #ended = false;
  #forward: Forward | undefined;
  #bodyWait: BodyWait | undefined;
  #onResponse: ((head: { status: number; headers: FieldList }) => void)[] = [];
  #onEnd: ((context: RequestContext) => void)[] = [];
  // Undefined where nobody asked: most requests.
  #requestTap: BodyTap | undefined;
  #responseTap: BodyTap | undefined;
  #requestRewrite: RequestRewrite | undefined;
  #responseRewrite: ResponseRewrite | undefined;

  constructor(
    services: EngineServices,
    compiled: CompiledHttpChain,
    connection: ConnectionInfo,
    exchange: ServerExchange,
  ) {
    this.services = services;
    this.#compiled = compiled;
    this.chain = compiled.spec;
    this.connection = connection;
    this.exchange = exchange;
    this.head = exchange.head;
    const { method, path, authority } = exchange.head;
    this.original = { method, path, authority };
    this.isGrpc = isGrpc(exchange.head);
    const nowMs = services.timing.nowMs;
    this.facts = newFacts(nowMs, services.wallMs());
    if (exchange.bodyEnded) this.facts.requestEndedAtMs = nowMs;
    this.body = new RequestBody(
      exchange,
      exchange.bodyEnded && exchange.head.upgrade === "",
      compiled.spec.options.maxBufferedBytes,
    );
  }

  start(): void {
    this.exchange.setReceiver(this);
    const { options } = this.chain;
    if (this.head.method === "CONNECT") {
      return this.answer({ status: 403, body: "", details: "upgrade_failed" });
    }
    const normal = normalizePath(this.head.path, options);
    if (normal.kind === "refused") {
      this.flags.add("DPE");
      return this.answer({ status: 400, body: "", details: normal.details });
    }
    if (normal.kind === "redirect") {
      return this.answer({
        status: 307,
        body: "",
        headers: ["location", normal.path],
        details: "path_normalization_redirect",
      });
    }
    this.head.path = normal.path;
    sanitizeRequest(this.head, options, this.connection, () => this.services.uuid());
    this.#runFilters();
  }

  // ---- filters

  readonly #resume = (): void => {
    this.#filter++;
    this.#runFilters();
  };

  #runFilters(): void {
    const { filters } = this.#compiled;
    while (this.#filter < filters.length && !this.#answered && !this.#ended) {
      const outcome = filters[this.#filter].request(this, this.#resume);
      if (outcome !== "pass") return;
      this.#filter++;
    }
    if (!this.#answered && !this.#ended) this.#takeRoute();
  }

  compiledRoute(): CompiledRoute | undefined {
    if (!this.#routeKnown) {
      this.#routeKnown = true;
      this.#route = this.#compiled.routes.find(this, this.isGrpc);
    }
    return this.#route;
  }

  route(): RouteSpec | undefined {
    return this.compiledRoute()?.spec;
  }

  clearRoute(): void {
    this.#routeKnown = false;
    this.#route = undefined;
    this.isGrpc = isGrpc(this.head);
  }

  #takeRoute(): void {
    const route = this.compiledRoute();
    if (route === undefined) return this.answer({ status: 404, body: "", details: "route_not_found", flag: "NR" });
    if (route.spec.refusal !== undefined) {
      return this.answer({ status: 503, body: "", details: `route_refused{${route.spec.refusal}}`, flag: "NC" });
    }
    const { action } = route;
    switch (action.kind) {
      case "direct":
        return this.answer({ status: action.status, body: action.body, details: "direct_response" });
      case "redirect":
        return this.answer({
          status: action.status,
          body: "",
          headers: ["location", action.location(this.head)],
          details: "direct_response",
        });
      case "forward":
        this.#forward = new Forward(this, route, action);
        return this.#forward.start();
    }
  }

  // ---- the client's body

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (ended) this.facts.requestEndedAtMs = this.services.timing.nowMs;
    if (this.#answered && this.#forward === undefined) return this.exchange.consume(end - start);
    if (this.#requestRewrite !== undefined) return this.#rewritten(this.#requestRewrite, bytes, start, end, ended);
    this.#receive(bytes, start, end, ended, end - start);
  }

  /** `came`: bytes that the client sent for these. */
  #receive(bytes: Uint8Array, start: number, end: number, ended: boolean, came: number): void {
    this.#requestTap?.(bytes, start, end);
    this.body.receive(bytes, start, end, ended, came);
    this.#forward?.requestProgress(bytes, start, end, ended);
    this.#checkBodyWait();
  }

  #rewritten(rewrite: RequestRewrite, bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    const out = rewrite.data(bytes, start, end);
    if (out === undefined || (ended && !rewrite.isWhole())) {
      this.exchange.consume(end - start);
      return this.#refuseBody(rewrite);
    }
    this.#receive(out, 0, out.length, ended, end - start);
  }

  #refuseBody({ refusal }: RequestRewrite): void {
    this.#requestRewrite = undefined;
    // An answer that has begun cannot become another one.
    if (this.#answered) this.cut({ kind: "protocol error", refused: false, detail: refusal.details });
    else this.answer(refusal);
  }

  trailers(fields: FieldList): void {
    this.facts.requestEndedAtMs = this.services.timing.nowMs;
    const rewrite = this.#requestRewrite;
    if (rewrite !== undefined && !rewrite.isWhole()) return this.#refuseBody(rewrite);
    this.body.receiveTrailers(fields);
    this.#forward?.requestTrailers(fields);
    this.#checkBodyWait();
  }

  onRequestData(tap: BodyTap): void {
    const before = this.#requestTap;
    this.#requestTap = before === undefined ? tap : both(before, tap);
    this.body.eachKept((part) => tap(part, 0, part.length));
  }

  onResponseData(tap: BodyTap): void {
    const before = this.#responseTap;
    this.#responseTap = before === undefined ? tap : both(before, tap);
  }

  rewriteRequestBody(rewrite: RequestRewrite): void {
    const kept = this.body.takeKept();
    this.#requestRewrite = rewrite;
    for (const part of kept) {
      const out = rewrite.data(part, 0, part.length);
      if (out === undefined) return this.#refuseBody(rewrite);
      this.body.keep(out);
    }
    if (this.body.ended && !rewrite.isWhole()) this.#refuseBody(rewrite);
  }

  rewriteResponseBody(rewrite: ResponseRewrite): void {
    this.#responseRewrite = rewrite;
  }

  bufferBody(maxBytes: number, allowPartial: boolean, done: BodyWait["done"]): void {
    this.#bodyWait = { maxBytes, allowPartial, done };
    this.#checkBodyWait();
  }

  #checkBodyWait(): void {
    const wait = this.#bodyWait;
    if (wait === undefined) return;
    const { keptBytes, ended } = this.body;
    if (keptBytes > wait.maxBytes || (keptBytes === wait.maxBytes && !ended)) {
      this.#bodyWait = undefined;
      if (wait.allowPartial) wait.done(this.body.bytes(wait.maxBytes), false);
      else if (keptBytes > wait.maxBytes) wait.done(undefined, true);
      else this.#bodyWait = wait;
    } else if (ended) {
      this.#bodyWait = undefined;
      wait.done(this.body.bytes(wait.maxBytes), false);
    }
    // Bounded by what the filter asked for: the client may go on sending.
    if (this.#bodyWait !== undefined) this.body.giveCredit();
  }

  writable(): void {
    this.#forward?.clientWritable();
  }

  /** The client is gone. */
  reset(cause: ExchangeCut): void {
    if (this.#ended) return;
    this.flags.add(cause.kind === "protocol error" ? "DPE" : "DC");
    if (this.details === "") this.details = "downstream_remote_disconnect";
    this.facts.cut = cause;
    this.#forward?.clientGone();
    this.finish();
  }

  // ---- the answer

  onResponse(change: (head: { status: number; headers: FieldList }) => void): void {
    this.#onResponse.push(change);
  }

  onEnd(done: (context: RequestContext) => void): void {
    this.#onEnd.push(done);
  }

  answer(answer: LocalAnswer): void {
    if (this.#answered || this.#ended) return;
    if (answer.flag !== undefined) this.flags.add(answer.flag);
    this.details = answer.details;
    this.body.discard();
    const { status, headers, body } = localResponse(this.head, answer);
    const grpcStatus = headers[headers.indexOf("grpc-status") + 1];
    if (this.isGrpc) this.facts.grpcStatus = grpcStatus;
    this.respond(status, headers, body.length === 0);
    if (body.length > 0) {
      this.exchange.data(body, 0, body.length, true);
      this.finish();
    }
  }

  /** The head of the answer, local or from upstream, with everything that belongs to it. */
  respond(status: number, headers: FieldList, ended: boolean): void {
    if (this.#answered) return;
    this.#answered = true;
    const head = { status, headers };
    const route = this.#routeKnown ? this.#route : undefined;
    if (route !== undefined) {
      const facts = (): FormatFacts => this.formatFacts();
      this.#forward?.change?.response(headers, facts);
      route.change.response(headers, facts);
      route.host.change.response(headers, facts);
      this.#compiled.routes.change.response(headers, facts);
      if (route.spec.operation !== "" && !this.#clientDecorates()) {
        headers.push("x-envoy-decorator-operation", route.spec.operation);
      }
    }
    for (const change of this.#onResponse) change(head);
    finishResponse(headers, this.chain.options, this.services.wallMs());
    this.facts.status = head.status;
    this.facts.responseHeaders = headers;
    this.facts.responseStartedAtMs = this.services.timing.nowMs;
    this.exchange.respond(head, ended);
    if (ended) this.finish();
  }

  /** The body of the endpoint's answer, on its way to the client. */
  sendData(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    this.#responseTap?.(bytes, start, end);
    const rewrite = this.#responseRewrite;
    if (rewrite === undefined) return this.exchange.data(bytes, start, end, ended);
    const out = rewrite.data(bytes, start, end);
    if (out.length > 0) this.exchange.data(out, 0, out.length, false);
    if (ended) this.#sendEnd(rewrite, NO_TRAILERS);
  }

  sendTrailers(fields: FieldList): void {
    if (this.#responseRewrite === undefined) this.exchange.trailers(fields);
    else this.#sendEnd(this.#responseRewrite, fields);
  }

  #sendEnd(rewrite: ResponseRewrite, trailers: FieldList): void {
    const last = rewrite.end(trailers);
    this.exchange.data(last, 0, last.length, true);
  }

  /** A caller that names the span itself is told nothing of ours. */
  #clientDecorates(): boolean {
    return this.head.headers.includes("x-envoy-decorator-operation");
  }

  get answered(): boolean {
    return this.#answered;
  }

  /** Upstream was cut in the middle of its answer: the client must not take it for whole. */
  cut(cause: ExchangeCut): void {
    if (this.#ended) return;
    this.facts.cut = cause;
    this.exchange.reset(cause);
    this.finish();
  }

  finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.facts.endedAtMs = this.services.timing.nowMs;
    this.#forward?.end();
    this.body.discard();
    for (const done of this.#onEnd) done(this);
    this.services.finished(this);
  }

  get ended(): boolean {
    return this.#ended;
  }

  formatFacts(): FormatFacts {
    const { facts, exchange } = this;
    return {
      connection: this.connection,
      request: this,
      startedAtWallMs: facts.startedAtWallMs,
      nowMs: this.services.timing.nowMs,
      responseFlags: [...this.flags].join(","),
      routeName: this.#route?.spec.name ?? "",
      chainName: this.chain.name,
      upstreamHost: facts.host?.shown ?? "",
      upstreamCluster: facts.upstreamCluster,
      upstreamLocalAddress: facts.upstreamLocalAddress,
      upstreamFailure: facts.upstreamFailure,
      connectionTermination: facts.connectionTermination,
      bytesReceived: exchange.bytes.received,
      bytesSent: exchange.bytes.sent,
      endedAtMs: facts.endedAtMs,
    };
  }

  /** Bytes of the answer's trailers, for metrics. */
  countTrailers(fields: FieldList): void {
    this.facts.responseTrailers = fields;
    this.exchange.bytes.headSent += wireBytes(fields);
  }
}

const NO_TRAILERS: FieldList = [];

function both(one: BodyTap, other: BodyTap): BodyTap {
  return (bytes, start, end) => {
    one(bytes, start, end);
    other(bytes, start, end);
  };
}

function newFacts(startedAtMs: number, startedAtWallMs: number): RequestFacts {
  return {
    startedAtMs,
    startedAtWallMs,
    requestEndedAtMs: undefined,
    upstreamStartedAtMs: undefined,
    upstreamRequestEndedAtMs: undefined,
    upstreamRespondedAtMs: undefined,
    responseStartedAtMs: undefined,
    endedAtMs: undefined,
    status: 0,
    responseHeaders: [],
    responseTrailers: [],
    grpcStatus: "",
    requestMessages: 0,
    responseMessages: 0,
    host: undefined,
    upstreamCluster: "",
    upstreamLocalAddress: "",
    upstreamFailure: "",
    connectionTermination: "",
    attempts: 0,
    cut: undefined,
  };
}
