/** Envoy's CORS filter: preflights of a route with a policy are answered here, answers get the headers that let a browser read them. */
import type { FilterOutcome, HttpFilter, RequestContext } from "../engine/request_context.ts";
import { first, set } from "../http/fields.ts";
import { compileText, type TextPredicate } from "../match/text.ts";
import type { CorsSpec } from "../spec/mod.ts";

/** Made once for each policy. */
const compiled = new WeakMap<CorsSpec, readonly TextPredicate[]>();

export const corsFilter: HttpFilter = {
  name: "envoy.filters.http.cors",
  request(context): FilterOutcome {
    const cors = context.route()?.cors;
    const origin = first(context.head.headers, "origin");
    if (cors === undefined || origin === undefined) return "pass";
    const allowed = originsOf(cors).some((test) => test(origin));
    if (isPreflight(context)) return preflight(context, cors, origin, allowed);
    if (allowed) {
      context.onResponse(({ headers }) => {
        set(headers, "access-control-allow-origin", origin);
        if (cors.credentials) set(headers, "access-control-allow-credentials", "true");
        if (cors.exposeHeaders !== "") set(headers, "access-control-expose-headers", cors.exposeHeaders);
      });
    }
    return "pass";
  },
};

function originsOf(cors: CorsSpec): readonly TextPredicate[] {
  let tests = compiled.get(cors);
  if (tests === undefined) {
    tests = cors.origins.map(compileText);
    compiled.set(cors, tests);
  }
  return tests;
}

/** What a browser asks before the request itself (fetch.spec.whatwg.org, CORS-preflight request). */
export function isPreflight({ head }: Pick<RequestContext, "head">): boolean {
  return head.method === "OPTIONS" && (first(head.headers, "access-control-request-method") ?? "") !== "" &&
    first(head.headers, "origin") !== undefined;
}

function preflight(context: RequestContext, cors: CorsSpec, origin: string, allowed: boolean): FilterOutcome {
  if (!allowed) {
    if (cors.forwardOtherPreflights) return "pass";
    context.answer({ status: 200, body: "", details: "cors_response" });
    return "answered";
  }
  const headers = ["access-control-allow-origin", origin];
  if (cors.credentials) headers.push("access-control-allow-credentials", "true");
  if (cors.methods !== "") headers.push("access-control-allow-methods", cors.methods);
  if (cors.headers !== "") headers.push("access-control-allow-headers", cors.headers);
  if (cors.maxAge !== "") headers.push("access-control-max-age", cors.maxAge);
  context.answer({ status: 200, body: "", headers, details: "cors_response" });
  return "answered";
}
