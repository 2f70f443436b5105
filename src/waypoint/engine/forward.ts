/**
 * A request on its way upstream: one try after the other until one answers, the route's time is up, or nobody wants to try again. What reaches
 * the client comes from exactly one try.
 */
import { Timer, type TimerTarget } from "../../net/reactor.ts";
import type { ExchangeCut, FieldList, RequestHead } from "../http/exchange.ts";
import { first, set } from "../http/fields.ts";
import type { CompiledCluster, CompiledForward, CompiledRoute } from "../router/compiled_routes.ts";
import { requestHash } from "../router/hash_policy.ts";
import type { HeaderChange } from "../router/header_changes.ts";
import type { TryOutcome } from "../router/retry.ts";
import type { Cluster, UpstreamHost } from "../upstream/upstream.ts";
import { Mirror } from "./mirror.ts";
import type { Request } from "./request.ts";
import type { ResponseFlag } from "./request_context.ts";
import { Try } from "./try.ts";

const UPSTREAM_ERROR = "upstream connect error or disconnect/reset before headers. ";

export class Forward implements TimerTarget {
  readonly request: Request;
  readonly #route: CompiledRoute;
  readonly #action: CompiledForward;
  readonly #timer = new Timer(this);
  readonly #tried: UpstreamHost[] = [];
  #chosen: CompiledCluster | undefined;
  #cluster: Cluster | undefined;
  #head: RequestHead | undefined;
  #hash: number | undefined;
  #setCookie: string | undefined;
  #try: Try | undefined;
  #mirrors: Mirror[] = [];
  #attempts = 0;
  #retryDone: (() => void) | undefined;
  #waitingToRetry = false;
  #timeoutMs = 0;
  #deadlineMs = Infinity;
  #over = false;

  constructor(request: Request, route: CompiledRoute, action: CompiledForward) {
    this.request = request;
    this.#route = route;
    this.#action = action;
  }

  /** Header changes of the chosen cluster, for its answer. */
  get change(): HeaderChange | undefined {
    return this.#chosen?.change;
  }

  start(): void {
    const { request } = this;
    const { services } = request;
    this.#chosen = this.#choose();
    if (this.#chosen === undefined) return this.#noCluster("", "NC");
    const { cluster: name } = this.#chosen.spec;
    request.facts.upstreamCluster = name;
    this.#cluster = services.clusters.get(name);
    if (this.#cluster === undefined) return this.#noCluster(name, "NC");
    const { hash, setCookie } = requestHash(this.#action.spec.hash, request, () => services.uuid());
    this.#hash = hash;
    this.#setCookie = setCookie;
    this.#timeoutMs = this.#requestTimeout();
    this.#head = this.#upstreamHead();
    this.#startMirrors(this.#head);
    if (request.body.ended || request.exchange.bodyEnded) this.#startTimeout();
    this.#attempt();
  }

  #noCluster(name: string, flag: ResponseFlag): void {
    const status = this.#action.spec.unknownClusterStatus;
    this.request.answer({ status, body: "", details: "cluster_not_found", flag });
    this.request.facts.upstreamCluster = name;
  }

  #choose(): CompiledCluster | undefined {
    const { clusters, totalWeight } = this.#action;
    if (clusters.length <= 1) return clusters[0];
    let at = this.request.services.random() * totalWeight;
    for (const cluster of clusters) {
      at -= cluster.spec.weight;
      if (at < 0) return cluster;
    }
    return clusters[clusters.length - 1];
  }

  /** The head as the endpoint gets it; the request's own stays what the client sent, for logs and filters behind. */
  #upstreamHead(): RequestHead {
    const { request } = this;
    const { spec, rewrite } = this.#action;
    const headers = [...request.head.headers];
    const facts = () => request.formatFacts();
    this.#chosen?.change.request(headers, facts);
    this.#route.change.request(headers, facts);
    this.#route.host.change.request(headers, facts);
    const head: RequestHead = { ...request.head, headers };
    const host = this.#chosen?.spec.hostRewrite ?? spec.hostRewrite;
    if (host !== undefined) {
      if (spec.appendForwardedHost) headers.push("x-forwarded-host", head.authority);
      head.authority = host;
    }
    if (rewrite !== undefined) {
      if (first(headers, "x-envoy-original-path") === undefined) headers.push("x-envoy-original-path", head.path);
      head.path = rewrite(head.path);
    }
    const expected = this.#expectedMs();
    if (expected > 0) set(headers, "x-envoy-expected-rq-timeout-ms", String(Math.round(expected)));
    return head;
  }

  #expectedMs(): number {
    const perTry = this.#action.retry?.spec.perTryTimeoutMs ?? 0;
    if (perTry > 0 && (this.#timeoutMs === 0 || perTry < this.#timeoutMs)) return perTry;
    return this.#timeoutMs;
  }

  /** The route's, or the gRPC client's own as far as the route lets it. */
  #requestTimeout(): number {
    const { timeoutMs, maxGrpcTimeoutMs } = this.#action.spec;
    if (maxGrpcTimeoutMs === undefined || !this.request.isGrpc) return timeoutMs;
    const asked = grpcTimeout(first(this.request.head.headers, "grpc-timeout"));
    if (asked === undefined) return timeoutMs;
    return maxGrpcTimeoutMs === 0 ? asked : Math.min(asked, maxGrpcTimeoutMs);
  }

  #startTimeout(): void {
    if (this.#timeoutMs <= 0 || this.#deadlineMs !== Infinity || this.request.head.upgrade !== "") return;
    const { timing } = this.request.services;
    this.#deadlineMs = timing.nowMs + this.#timeoutMs;
    timing.setTimer(this.#timer, this.#timeoutMs);
  }

  #startMirrors(head: RequestHead): void {
    const { services } = this.request;
    for (const spec of this.#action.spec.mirrors) {
      if (services.random() * 1_000_000 >= spec.fraction) continue;
      const cluster = services.clusters.get(spec.cluster);
      if (cluster !== undefined) this.#mirrors.push(new Mirror(cluster, spec, head, this.request));
    }
  }

  // ---- tries

  #attempt(): void {
    this.#waitingToRetry = false;
    this.#attempts++;
    this.request.facts.attempts = this.#attempts;
    const retry = this.#action.retry?.spec;
    this.#try = new Try(this, this.#cluster as Cluster, this.#head as RequestHead, {
      connection: this.request.connection,
      hash: this.#hash,
      authority: this.#head?.authority ?? "",
      tried: this.#tried,
      avoidTried: retry?.avoidPreviousHosts ?? false,
      hostAttempts: retry?.hostAttempts ?? 1,
      priorityUpdateFrequency: retry?.priorityUpdateFrequency ?? 0,
    }, retry?.perTryTimeoutMs ?? 0);
    this.#try.start();
  }

  /** A try found its host. */
  hostChosen(host: UpstreamHost, localAddress: string): void {
    this.#tried.push(host);
    const { facts, services } = this.request;
    facts.host = host;
    facts.upstreamLocalAddress = localAddress;
    facts.upstreamStartedAtMs ??= services.timing.nowMs;
  }

  /** What a try came to before anything of it reached the client: false takes the answer, true throws it away for another try. */
  judge(outcome: TryOutcome): boolean {
    const { retry } = this.#action;
    if (retry === undefined || this.#over || !this.request.body.replayable || this.request.answered) return false;
    if (!retry.wants(outcome, this.request.head)) return false;
    if (this.#attempts > retry.spec.retries) {
      this.request.flags.add("URX");
      return false;
    }
    const done = this.#cluster?.takeRetry();
    if (done === undefined) {
      this.request.flags.add("UO");
      return false;
    }
    this.#endRetry();
    this.#retryDone = done;
    const { timing, random } = { timing: this.request.services.timing, random: () => this.request.services.random() };
    this.#try = undefined;
    this.request.body.detach();
    this.#waitingToRetry = true;
    const delayMs = retry.backoffMs(this.#attempts, random);
    timing.setTimer(this.#timer, Math.max(1, Math.min(delayMs, this.#deadlineMs - timing.nowMs)));
    return true;
  }

  #endRetry(): void {
    this.#retryDone?.();
    this.#retryDone = undefined;
  }

  /** The last try failed, and no other follows. */
  failed(outcome: TryOutcome): void {
    if (this.#over) return;
    const { request } = this;
    const before = this.#attempts > 1 ? "retried and the latest reset reason: " : "reset reason: ";
    switch (outcome.kind) {
      case "timeout":
        request.flags.add("UT");
        return request.answer({ status: 504, body: "upstream request timeout", details: "response_timeout" });
      case "failure": {
        const { flag, reason, detail } = outcome.failure;
        request.facts.upstreamFailure = flag === "UF" ? detail : "";
        if (flag === "UH") {
          return request.answer({ status: 503, body: "no healthy upstream", details: "no_healthy_upstream", flag });
        }
        const tail = flag === "UF" && detail !== "" ? `, transport failure reason: ${detail}` : "";
        return request.answer({
          status: 503,
          body: `${UPSTREAM_ERROR}${before}${reason}${tail}`,
          headers: flag === "UO" ? ["x-envoy-overloaded", "true"] : [],
          details: `upstream_reset_before_response_started{${reason.replaceAll(" ", "_")}}`,
          flag,
        });
      }
      case "cut": {
        const { reason, flag } = cutReason(outcome.cut);
        request.facts.cut = outcome.cut;
        return request.answer({
          status: outcome.cut.kind === "protocol error" ? 502 : 503,
          body: `${UPSTREAM_ERROR}${before}${reason}`,
          details: `upstream_reset_before_response_started{${reason.replaceAll(" ", "_")}}`,
          flag,
        });
      }
      case "response":
        return;
    }
  }

  // ---- the answer

  respond(status: number, headers: FieldList, ended: boolean): void {
    const { request } = this;
    const { facts, services } = request;
    facts.upstreamRespondedAtMs = services.timing.nowMs;
    this.#endRetry();
    request.details = this.#attempts > 1 && request.details === "" ? "via_upstream" : "via_upstream";
    if (facts.upstreamStartedAtMs !== undefined) {
      set(
        headers,
        "x-envoy-upstream-service-time",
        String(Math.round(services.timing.nowMs - facts.upstreamStartedAtMs)),
      );
    }
    if (this.#setCookie !== undefined) headers.push("set-cookie", this.#setCookie);
    const grpcStatus = first(headers, "grpc-status");
    if (grpcStatus !== undefined) facts.grpcStatus = grpcStatus;
    request.respond(status, headers, ended);
  }

  outcome(host: UpstreamHost, status: number): void {
    this.#cluster?.outcome(host, { status });
  }

  localFailure(host: UpstreamHost, localFailure: "connect" | "reset" | "timeout"): void {
    this.#cluster?.outcome(host, { localFailure });
  }

  // ---- the client

  requestProgress(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    for (const mirror of this.#mirrors) mirror.data(bytes, start, end, ended);
    if (ended) this.#startTimeout();
  }

  requestTrailers(fields: FieldList): void {
    for (const mirror of this.#mirrors) mirror.trailers(fields);
    this.#startTimeout();
  }

  clientWritable(): void {
    this.#try?.clientWritable();
  }

  clientGone(): void {
    this.end();
  }

  expired(): void {
    if (this.#over) return;
    if (this.#waitingToRetry && this.request.services.timing.nowMs < this.#deadlineMs) {
      if (this.#deadlineMs !== Infinity) {
        this.request.services.timing.setTimer(this.#timer, this.#deadlineMs - this.request.services.timing.nowMs);
      }
      return this.#attempt();
    }
    this.#try?.timedOut();
    if (this.request.answered) {
      this.request.flags.add("UT");
      this.request.cut({ kind: "cancelled", refused: false, detail: "the route's time was up" });
    } else {
      this.failed({ kind: "timeout" });
    }
  }

  /** Whatever is under way is given up. */
  end(): void {
    if (this.#over) return;
    this.#over = true;
    this.request.services.timing.cancelTimer(this.#timer);
    this.#endRetry();
    this.#try?.cancel();
    this.#try = undefined;
    for (const mirror of this.#mirrors) mirror.sourceEnded();
  }
}

/** Envoy's words and flag for an exchange that was cut. */
function cutReason(cut: ExchangeCut): { readonly reason: string; readonly flag: ResponseFlag } {
  switch (cut.kind) {
    case "peer reset":
      return cut.refused
        ? { reason: "remote refused stream reset", flag: "UR" }
        : { reason: "remote reset", flag: "UR" };
    case "connection lost":
      return { reason: "connection termination", flag: "UC" };
    case "protocol error":
      return { reason: "protocol error", flag: "UPE" };
    case "overload":
      return { reason: "overflow", flag: "UO" };
    case "cancelled":
      return { reason: "local reset", flag: "LR" };
  }
}

const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/** `grpc-timeout`, in milliseconds; undefined when there is none that can be read. */
export function grpcTimeout(value: string | undefined): number | undefined {
  const found = value === undefined ? null : /^(\d{1,8})([HMSmun])$/.exec(value);
  return found === null ? undefined : Math.max(1, Number(found[1]) * UNITS[found[2]]);
}
