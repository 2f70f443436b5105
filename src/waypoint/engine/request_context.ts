/**
 * One request on its way through a chain: what filters read and change, and what logs, metrics and spans are made of afterwards.
 */
import type { ExchangeCut, RequestHead, ServerExchange } from "../http/exchange.ts";
import type { HttpChainSpec, RouteSpec } from "../spec/mod.ts";
import type { ConnectionInfo } from "./connection_info.ts";
import type { UpstreamHost } from "../upstream/upstream.ts";

/** Envoy's response flags, as users know them from logs. */
export type ResponseFlag =
  | "UH"
  | "UF"
  | "UO"
  | "NR"
  | "NC"
  | "URX"
  | "UT"
  | "DC"
  | "UC"
  | "UR"
  | "LR"
  | "LH"
  | "DPE"
  | "UPE"
  | "UAEX"
  | "FI"
  | "DI"
  | "RL"
  | "SI"
  | "IH"
  | "DT"
  | "UMSDR"
  | "OM"
  | "DF";

export interface RequestContext {
  readonly id: number;
  readonly connection: ConnectionInfo;
  readonly chain: HttpChainSpec;
  readonly exchange: ServerExchange;
  /** As filters and the route have changed it. */
  readonly head: RequestHead;
  /** As it came, for logs: changes of `head` do not show here. */
  readonly original: { readonly method: string; readonly path: string; readonly authority: string };
  /** Found when first asked for; a filter that changes headers or metadata calls `clearRoute`. Undefined: none matches. */
  route(): RouteSpec | undefined;
  clearRoute(): void;
  /** Dynamic metadata by filter name. */
  readonly metadata: Map<string, Record<string, unknown>>;
  readonly flags: Set<ResponseFlag>;
  /** Envoy's RESPONSE_CODE_DETAILS. */
  details: string;
  /** Answers from here instead of upstream. A gRPC request gets trailers only. Filters behind do not run. */
  answer(answer: LocalAnswer): void;
  /** The request body up to `maxBytes`, for filters that need it; the rest is held back. Undefined with `tooLarge` when it is longer and partial is not allowed. */
  bufferBody(
    maxBytes: number,
    allowPartial: boolean,
    done: (body: Uint8Array | undefined, tooLarge: boolean) => void,
  ): void;
  /** Changes of the response by filters, in order; run when its head comes. */
  onResponse(change: (head: { status: number; headers: string[] }) => void): void;
  /** Looks at the request's body, from its first byte, as the endpoint gets it. */
  onRequestData(tap: BodyTap): void;
  /** Looks at the body of the endpoint's answer, as it comes. */
  onResponseData(tap: BodyTap): void;
  /** What the client sends is something else for everybody behind. One filter of a chain may; before there is a route. */
  rewriteRequestBody(rewrite: RequestRewrite): void;
  /** What the endpoint answers is something else for the client. One filter of a chain may. */
  rewriteResponseBody(rewrite: ResponseRewrite): void;
  /** Called once when all is over, in the order of registration. */
  onEnd(done: (context: RequestContext) => void): void;
  /** Facts for telemetry; times are of the worker's clock, in milliseconds, undefined where it did not happen. */
  readonly facts: RequestFacts;
}

/** Sees `bytes[start..end)`, a view that is valid until it returns. */
export type BodyTap = (bytes: Uint8Array, start: number, end: number) => void;

export interface RequestRewrite {
  /** What stands for `bytes[start..end)`, perhaps nothing. Undefined: it cannot be read. */
  data(bytes: Uint8Array, start: number, end: number): Uint8Array | undefined;
  /** Whether what has come may end here. */
  isWhole(): boolean;
  /** To a client whose body cannot be read. */
  readonly refusal: LocalAnswer;
}

export interface ResponseRewrite {
  data(bytes: Uint8Array, start: number, end: number): Uint8Array;
  /** The last bytes of the body, which take the place of the trailers. */
  end(trailers: readonly string[]): Uint8Array;
}

export interface LocalAnswer {
  readonly status: number;
  /** Text is sent as UTF-8. */
  readonly body: string | Uint8Array;
  readonly headers?: readonly string[];
  readonly details: string;
  readonly flag?: ResponseFlag;
  /** Overrides the status that gRPC clients get. */
  readonly grpcStatus?: number;
}

export interface RequestFacts {
  readonly startedAtMs: number;
  /** Wall clock, milliseconds since 1970. */
  readonly startedAtWallMs: number;
  requestEndedAtMs: number | undefined;
  upstreamStartedAtMs: number | undefined;
  upstreamRequestEndedAtMs: number | undefined;
  upstreamRespondedAtMs: number | undefined;
  responseStartedAtMs: number | undefined;
  endedAtMs: number | undefined;
  status: number;
  responseHeaders: readonly string[];
  responseTrailers: readonly string[];
  grpcStatus: string;
  requestMessages: number;
  responseMessages: number;
  host: UpstreamHost | undefined;
  upstreamCluster: string;
  /** `ip:port` of our end towards upstream; "" unknown. */
  upstreamLocalAddress: string;
  upstreamFailure: string;
  connectionTermination: string;
  attempts: number;
  cut: ExchangeCut | undefined;
}

/**
 * A filter of one chain, compiled. `pass`: the next one runs; `answered`: `context.answer` was called; `waiting`: it calls `resume` once,
 * later, or answers. A filter that waits and whose request ends is told by `onEnd`.
 */
export type FilterOutcome = "pass" | "answered" | "waiting";

export interface HttpFilter {
  readonly name: string;
  request(context: RequestContext, resume: () => void): FilterOutcome;
}

export interface NetworkOutcome {
  readonly allowed: boolean;
  readonly details: string;
  readonly flag?: ResponseFlag;
}

/** A filter of a TCP chain: decided before the upstream is connected. Returns how to give up, where it takes its time. */
export interface NetworkFilter {
  readonly name: string;
  connection(info: ConnectionInfo, decided: (outcome: NetworkOutcome) => void): (() => void) | undefined;
}
