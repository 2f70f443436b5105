/**
 * Envoy's ext_authz for HTTP chains (waypoint.md 3.3): a service decides about each request that the shadow policy before it picked out. Fails closed: whoever
 * cannot be asked in time, or answers what cannot be acted on, has not allowed anything, unless the provider's failure mode says otherwise.
 */
import type { FilterOutcome, HttpFilter, RequestContext } from "../engine/request_context.ts";
import { remove } from "../http/fields.ts";
import type { Timing } from "../http/timing.ts";
import type { ExtAuthzSpec } from "../spec/mod.ts";
import type { Clusters } from "../upstream/upstream.ts";
import { type CheckBody, compileAllowed, grpcHead, grpcReply, httpCheck } from "./ext_authz_grpc.ts";
import { compileHttpService } from "./ext_authz_http.ts";
import { applyEdits, changeQuery, removeHeaders, type Verdict } from "./ext_authz_verdict.ts";
import { RBAC_METADATA } from "./rbac.ts";
import { type CallReply, type CallRequest, UpstreamCall } from "./upstream_call.ts";

export const EXT_AUTHZ_METADATA = "envoy.filters.http.ext_authz";

/** Envoy's `ext_authz.…` counters. */
export type ExtAuthzEvent = "ok" | "denied" | "error" | "invalid" | "failure_mode_allowed" | "disabled";

export interface ExtAuthzDeps {
  readonly timing: Timing;
  readonly clusters: Clusters;
  /** Milliseconds since 1970. */
  wallMs(): number;
  readonly authzCounter?: (event: ExtAuthzEvent, statPrefix: string) => void;
}

/** More than any reply holds that was meant as one. */
export const MAX_REPLY_BYTES = 1 << 20;
const TOO_LARGE = { status: 413, body: "Payload Too Large", details: "request_payload_too_large" } as const;
const NO_BODY = new Uint8Array(0);
/** Envoy's, for a reply that it does not take. */
const INVALID_STATUS = 500;

interface Service {
  request(context: RequestContext, body: CheckBody | undefined): Pick<CallRequest, "head" | "body">;
  reply(reply: CallReply): Verdict;
}

/** @throws Error for what cannot be compiled, which refuses the chain */
export function createExtAuthzFilter(spec: ExtAuthzSpec, deps: ExtAuthzDeps): HttpFilter {
  const service = compileService(spec);
  return {
    name: EXT_AUTHZ_METADATA,
    request(context, resume): FilterOutcome {
      if (!isAsked(spec, context.metadata.get(RBAC_METADATA))) {
        deps.authzCounter?.("disabled", spec.statPrefix);
        return "pass";
      }
      return new Authorization(spec, service, deps, context, resume).start();
    },
  };
}

/** Whether the shadow policy that was in force is one of this service's. */
export function isAsked(
  { onlyIfPolicy }: ExtAuthzSpec,
  verdict: Readonly<Record<string, unknown>> | undefined,
): boolean {
  if (onlyIfPolicy === undefined) return true;
  const policy = verdict?.[onlyIfPolicy.metadataKey];
  return typeof policy === "string" && policy.startsWith(onlyIfPolicy.prefix);
}

function compileService({ service, body: bodySpec }: ExtAuthzSpec): Service {
  if (service.kind === "http") {
    const compiled = compileHttpService(service);
    return {
      request: (context, body) => ({ head: compiled.head(context, body), body: body?.bytes ?? NO_BODY }),
      reply: (reply) => compiled.reply(reply),
    };
  }
  const head = grpcHead(service);
  const allowed = compileAllowed(service);
  const asBytes = bodySpec?.asBytes ?? false;
  return {
    request: (context, body) => ({ head, body: httpCheck(context, body, asBytes, allowed) }),
    reply: grpcReply,
  };
}

/** One request that is being asked about. */
class Authorization {
  readonly #spec: ExtAuthzSpec;
  readonly #service: Service;
  readonly #deps: ExtAuthzDeps;
  readonly #context: RequestContext;
  readonly #resume: () => void;
  #call: UpstreamCall | undefined;
  #over = false;
  #fromWithin = true;
  #outcome: FilterOutcome | undefined;

  constructor(
    spec: ExtAuthzSpec,
    service: Service,
    deps: ExtAuthzDeps,
    context: RequestContext,
    resume: () => void,
  ) {
    this.#spec = spec;
    this.#service = service;
    this.#deps = deps;
    this.#context = context;
    this.#resume = resume;
  }

  start(): FilterOutcome {
    this.#context.onEnd(() => {
      this.#over = true;
      this.#call?.cancel();
    });
    this.#readBody();
    this.#fromWithin = false;
    return this.#outcome ?? "waiting";
  }

  #readBody(): void {
    const { body } = this.#spec;
    const { head, exchange } = this.#context;
    if (body === undefined || exchange.bodyEnded || head.upgrade !== "") return this.#ask(undefined);
    if (!body.allowPartial && head.contentLength > body.maxBytes) return this.#answer(TOO_LARGE);
    // Whoever waits to be told to go on would wait for ever: the endpoint that would say it is not asked yet.
    if (head.expectsContinue) {
      exchange.informational(100, []);
      remove(head.headers, "expect");
    }
    this.#context.bufferBody(body.maxBytes, body.allowPartial, (bytes) => {
      if (this.#over) return;
      if (bytes === undefined) return this.#answer(TOO_LARGE);
      // Its last byte may have come without word that it was the last.
      const isPartial = head.contentLength >= 0 ? bytes.length < head.contentLength : !exchange.bodyEnded;
      this.#ask({ bytes, isPartial });
    });
  }

  #ask(body: CheckBody | undefined): void {
    const { service } = this.#spec;
    const cluster = this.#deps.clusters.get(service.cluster);
    if (cluster === undefined) {
      return this.#decide({ kind: "error", reason: `the cluster ${service.cluster} is not known` });
    }
    const { head, body: bytes } = this.#service.request(this.#context, body);
    this.#call = new UpstreamCall(
      {
        cluster,
        connection: this.#context.connection,
        head,
        body: bytes,
        timeoutMs: service.timeoutMs,
        maxReplyBytes: MAX_REPLY_BYTES,
      },
      this.#deps.timing,
      (reply, failure) => {
        if (!this.#over) {
          this.#decide(reply === undefined ? { kind: "error", reason: failure } : this.#service.reply(reply));
        }
      },
    );
    this.#call.start();
  }

  #decide(verdict: Verdict): void {
    const { statusOnError: status, failureAllows } = this.#spec;
    switch (verdict.kind) {
      case "allowed":
        this.#count("ok");
        this.#apply(verdict);
        return this.#pass();
      case "denied":
        this.#count("denied");
        this.#keep(verdict.metadata);
        return this.#deny(verdict);
      case "invalid":
        this.#count("invalid");
        return this.#answer({ status: INVALID_STATUS, body: "", details: "ext_authz_invalid", flag: "UAEX" });
      case "error":
        this.#count("error");
        if (failureAllows) {
          this.#count("failure_mode_allowed");
          return this.#pass();
        }
        return this.#answer({ status, body: "", details: "ext_authz_error", flag: "UAEX" });
    }
  }

  #count(event: ExtAuthzEvent): void {
    this.#deps.authzCounter?.(event, this.#spec.statPrefix);
  }

  #keep(metadata: Readonly<Record<string, unknown>> | undefined): void {
    if (metadata !== undefined) this.#context.metadata.set(EXT_AUTHZ_METADATA, { ...metadata });
  }

  #apply(verdict: Extract<Verdict, { readonly kind: "allowed" }>): void {
    const context = this.#context;
    const { requestHeaders, removeRequestHeaders, responseHeaders, setQuery, removeQuery } = verdict;
    const changes = requestHeaders.length + removeRequestHeaders.length + setQuery.length + removeQuery.length > 0;
    // Without clearRouteCache what the service says does not choose the route: it is found before.
    if (changes && !this.#spec.clearRouteCache) context.route();
    this.#keep(verdict.metadata);
    applyEdits(context.head.headers, requestHeaders);
    removeHeaders(context.head.headers, removeRequestHeaders);
    context.head.path = changeQuery(context.head.path, setQuery, removeQuery);
    if (responseHeaders.length > 0) context.onResponse(({ headers }) => applyEdits(headers, responseHeaders));
    if (changes && this.#spec.clearRouteCache) context.clearRoute();
  }

  #deny({ status, headers: edits, body }: Extract<Verdict, { readonly kind: "denied" }>): void {
    const headers: string[] = [];
    applyEdits(headers, edits);
    // These have no body.
    const isBodiless = status === 204 || status === 304;
    this.#answer({ status, headers, body: isBodiless ? "" : body, details: "ext_authz_denied", flag: "UAEX" });
  }

  #pass(): void {
    if (this.#fromWithin) this.#outcome = "pass";
    else this.#resume();
  }

  #answer(answer: Parameters<RequestContext["answer"]>[0]): void {
    this.#outcome = "answered";
    this.#context.answer(answer);
  }
}
