/** When a request is tried again, and after how long: Envoy's retry policy, waypoint.md 4.4. */
import { isGrpc } from "../engine/local_answer.ts";
import type { ExchangeCut, RequestHead } from "../http/exchange.ts";
import { first } from "../http/fields.ts";
import { compileHeader } from "../match/head.ts";
import type { RetryCondition, RetrySpec } from "../spec/mod.ts";
import type { UpstreamFailure } from "../upstream/upstream.ts";

/** What came of a try, before anything of it reached the client. */
export type TryOutcome =
  | { readonly kind: "response"; readonly status: number; readonly headers: readonly string[] }
  | { readonly kind: "cut"; readonly cut: ExchangeCut; readonly requestSent: boolean }
  | { readonly kind: "failure"; readonly failure: UpstreamFailure }
  | { readonly kind: "timeout" };

export interface RetryPolicy {
  readonly spec: RetrySpec;
  wants(outcome: TryOutcome, request: RequestHead): boolean;
  /** Before the next try, in milliseconds: random below a bound that doubles. `attempt` from 1. */
  backoffMs(attempt: number, random: () => number): number;
}

const GRPC_CONDITIONS: ReadonlyMap<string, RetryCondition> = new Map([
  ["1", "cancelled"],
  ["4", "deadline-exceeded"],
  ["8", "resource-exhausted"],
  ["13", "internal"],
  ["14", "unavailable"],
]);

export function compileRetry(spec: RetrySpec): RetryPolicy {
  const on = new Set(spec.on);
  const statuses = new Set(spec.statuses);
  const retriable = spec.retriableHeaders.map(compileHeader);
  const byResponse = (status: number, headers: readonly string[], request: RequestHead): boolean => {
    if (on.has("5xx") && status >= 500 && status < 600) return true;
    if (on.has("gateway-error") && status >= 502 && status <= 504) return true;
    if (on.has("retriable-4xx") && status === 409) return true;
    if (on.has("retriable-status-codes") && statuses.has(status)) return true;
    if (on.has("envoy-ratelimited") && first(headers, "x-envoy-ratelimited") !== undefined) return true;
    if (on.has("retriable-headers") && retriable.some((test) => test(asRequest(headers, request)))) return true;
    const grpcStatus = first(headers, "grpc-status");
    const condition = grpcStatus === undefined ? undefined : GRPC_CONDITIONS.get(grpcStatus);
    return condition !== undefined && isGrpc(request) && on.has(condition);
  };
  const byCut = (cut: ExchangeCut, requestSent: boolean): boolean => {
    if (cut.kind === "overload") return false;
    if (cut.refused && on.has("refused-stream")) return true;
    return on.has("reset") || on.has("5xx") || on.has("gateway-error") ||
      (on.has("reset-before-request") && !requestSent);
  };
  return {
    spec,
    wants(outcome, request): boolean {
      switch (outcome.kind) {
        case "response":
          return byResponse(outcome.status, outcome.headers, request);
        case "cut":
          return byCut(outcome.cut, outcome.requestSent);
        case "timeout":
          return on.has("reset") || on.has("5xx") || on.has("gateway-error");
        case "failure":
          if (outcome.failure.flag === "UF") {
            return on.has("connect-failure") || on.has("5xx") || on.has("gateway-error") || on.has("reset");
          }
          return false;
      }
    },
    backoffMs(attempt, random): number {
      const bound = Math.min(spec.maxBackoffMs, spec.baseBackoffMs * (2 ** attempt - 1));
      return random() * Math.max(1, bound);
    },
  };
}

/** Matchers look at requests; here the headers are an answer's. */
function asRequest(headers: readonly string[], request: RequestHead): RequestHead {
  return { ...request, headers: [...headers] };
}
