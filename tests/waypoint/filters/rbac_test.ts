import assert from "node:assert/strict";
import { test } from "node:test";
import type { HttpFilter } from "../../../src/waypoint/engine/request_context.ts";
import { corsFilter } from "../../../src/waypoint/filters/cors.ts";
import { createFaultFilter } from "../../../src/waypoint/filters/fault.ts";
import { createNetworkRbacFilter, createRbacFilter } from "../../../src/waypoint/filters/rbac.ts";
import type { RbacRulesSpec, RbacSpec, RuleSpec } from "../../../src/waypoint/spec/mod.ts";
import { replay } from "../config/fixtures.ts";
import { chain, forwardTo, INFO, route, TestEngine } from "../support/test_engine.ts";

const NO_COUNTERS = { allowed() {}, denied() {}, shadowAllowed() {}, shadowDenied() {} };
const ANY: RuleSpec = { kind: "any" };
const principal = (text: string): RuleSpec => ({
  kind: "principal",
  match: { kind: "exact", text, ignoreCase: false },
});
const rules = (action: RbacRulesSpec["action"], principals: RuleSpec, permissions: RuleSpec = ANY): RbacSpec => ({
  rules: { action, policies: [{ name: "p", principals, permissions }] },
  shadow: undefined,
  shadowPrefix: "",
});

function ask(
  filters: readonly HttpFilter[],
  head: Parameters<TestEngine["request"]>[0] = {},
): [number | undefined, TestEngine] {
  const engine = new TestEngine(chain([route({ action: forwardTo("b") })]), { filters });
  engine.onRequest = (seen) => seen.exchange.respond({ status: 200, headers: [] }, true);
  return [engine.request(head).status, engine];
}

const judged = (spec: RbacSpec, head: Parameters<TestEngine["request"]>[0] = {}): number | undefined =>
  ask([createRbacFilter(spec, NO_COUNTERS)], head)[0];

test("rbac: identities, addresses, ports, headers, methods and paths", () => {
  const me = INFO.peerPrincipal;
  const path = (match: RuleSpec): RbacSpec => rules("allow", ANY, match);
  const cases: readonly [RbacSpec, Parameters<TestEngine["request"]>[0], number][] = [
    [rules("allow", principal(me)), {}, 200],
    [rules("allow", principal("spiffe://cluster.local/ns/a/sa/other")), {}, 403],
    [rules("deny", principal(me)), {}, 403],
    [rules("deny", principal("spiffe://x")), {}, 200],
    [rules("log", principal(me)), {}, 200],
    [rules("allow", { kind: "principal", match: { kind: "regex", pattern: ".*/ns/a/.*" } }), {}, 200],
    [rules("allow", { kind: "not", of: principal(me) }), {}, 403],
    [rules("allow", { kind: "source ip", cidr: "10.0.1.0/24" }), {}, 200],
    [rules("allow", { kind: "remote ip", cidr: "10.0.2.0/24" }), {}, 403],
    [rules("allow", ANY, { kind: "destination port", port: 80 }), {}, 200],
    [rules("allow", ANY, { kind: "destination port", port: 8080 }), {}, 403],
    [rules("allow", ANY, { kind: "destination ip", cidr: "10.96.0.0/16" }), {}, 200],
    [rules("allow", { kind: "and", of: [principal(me), { kind: "authenticated" }] }), {}, 200],
    [rules("allow", { kind: "or", of: [{ kind: "never" }, principal(me)] }), {}, 200],
    [
      path({
        kind: "header",
        match: {
          name: ":method",
          value: { kind: "exact", text: "GET", ignoreCase: false },
          invert: false,
          missingIsEmpty: false,
        },
      }),
      {},
      200,
    ],
    [path({ kind: "path", match: { kind: "text", match: { kind: "prefix", text: "/ok", ignoreCase: false } } }), {
      path: "/ok?x=/no",
    }, 200],
    [path({ kind: "path", match: { kind: "text", match: { kind: "exact", text: "/ok", ignoreCase: false } } }), {
      path: "/no?x=/ok",
    }, 403],
    [path({ kind: "path", match: { kind: "text", match: { kind: "exact", text: "/ok", ignoreCase: false } } }), {
      path: "/x/../ok",
    }, 200],
    [path({ kind: "path", match: { kind: "template", template: "/a/{*}/c" } }), { path: "/a/b/c" }, 200],
    [{ rules: { action: "allow", policies: [] }, shadow: undefined, shadowPrefix: "" }, {}, 403],
    [{ rules: undefined, shadow: undefined, shadowPrefix: "" }, {}, 200],
  ];
  for (const [spec, head, wanted] of cases) assert.equal(judged(spec, head), wanted, JSON.stringify([spec, head]));
});

test("rbac: says which policy denied, and what was only judged", () => {
  const spec: RbacSpec = {
    ...rules("deny", ANY),
    shadow: rules("allow", { kind: "never" }).rules,
    shadowPrefix: "istio_dry_run_allow_",
  };
  const counts: string[] = [];
  const filter = createRbacFilter(spec, {
    allowed: (name) => void counts.push(`allowed ${name}`),
    denied: (name) => void counts.push(`denied ${name}`),
    shadowAllowed: (name) => void counts.push(`shadow allowed ${name}`),
    shadowDenied: (name) => void counts.push(`shadow denied ${name}`),
  });
  const [status, engine] = ask([filter]);
  assert.equal(status, 403);
  const [context] = engine.finished;
  assert.equal(context.details, "rbac_access_denied_matched_policy[p]");
  assert.deepEqual(context.metadata.get("envoy.filters.http.rbac"), {
    istio_dry_run_allow_shadow_engine_result: "denied",
  });
  assert.deepEqual(counts, ["shadow denied ", "denied p"]);
  assert.equal(engine.seen.length, 0);
});

test("rbac: a condition about HTTP holds for no connection", () => {
  const spec = rules("allow", ANY, {
    kind: "path",
    match: { kind: "text", match: { kind: "prefix", text: "/", ignoreCase: false } },
  });
  const outcome = (of: RbacSpec): boolean | undefined => {
    let allowed: boolean | undefined;
    createNetworkRbacFilter({ ...of, statPrefix: "tcp." }, NO_COUNTERS).connection(
      INFO,
      (verdict) => void (allowed = verdict.allowed),
    );
    return allowed;
  };
  assert.equal(outcome(spec), false);
  assert.equal(outcome(rules("allow", principal(INFO.peerPrincipal))), true);
  assert.equal(outcome(rules("deny", { kind: "source ip", cidr: "10.0.1.5/32" })), false);
});

test("rbac: all policies that a real istiod sent compile", () => {
  const { updates } = replay("authz");
  let count = 0;
  for (const { chains = [] } of updates) {
    for (const spec of chains) {
      if (spec.kind === "http") {
        for (const policy of spec.policies) {
          if (policy.kind === "rbac") count += createRbacFilter(policy.rbac, NO_COUNTERS) && 1;
        }
      } else if (spec.kind === "tcp") {
        for (const rbac of spec.rbac) count += createNetworkRbacFilter(rbac, NO_COUNTERS) && 1;
      }
    }
  }
  assert.ok(count > 5, `${count} filters`);
});

test("fault: aborts and delays the share of requests that it is told to", () => {
  const fault = {
    delay: { ms: 100, fraction: 1_000_000 },
    abort: { kind: "http", status: 418, fraction: 500_000 },
  } as const;
  const spec = chain([route({ fault, action: forwardTo("b") })]);
  const make = (chance: number) => {
    const filters: HttpFilter[] = [];
    const engine = new TestEngine(spec, { filters });
    filters.push(createFaultFilter(engine.timing, () => chance));
    return engine;
  };
  const aborted = make(0.4);
  const answer = aborted.request({});
  assert.equal(answer.status, undefined);
  aborted.advance(101);
  assert.deepEqual([answer.status, answer.body], [418, "fault filter abort"]);
  assert.deepEqual([...aborted.finished[0].flags].sort(), ["DI", "FI"]);
  const delayed = make(0.6);
  delayed.request({});
  assert.equal(delayed.seen.length, 0);
  delayed.advance(101);
  assert.equal(delayed.seen.length, 1);
});

test("cors: preflights are answered, answers can be read by the origins that may", () => {
  const cors = {
    origins: [{ kind: "exact", text: "https://a.example", ignoreCase: false }],
    methods: "GET,PUT",
    headers: "x-a",
    exposeHeaders: "x-b",
    maxAge: "600",
    credentials: true,
    forwardOtherPreflights: true,
  } as const;
  const engine = new TestEngine(chain([route({ cors, action: forwardTo("b") })]), { filters: [corsFilter] });
  engine.onRequest = (seen) =>
    seen.exchange.respond({ status: 200, headers: ["access-control-allow-origin", "*"] }, true);
  const preflight = engine.request({
    method: "OPTIONS",
    headers: ["origin", "https://a.example", "access-control-request-method", "PUT"],
  });
  assert.equal(preflight.status, 200);
  assert.equal(preflight.header("access-control-allow-methods"), "GET,PUT");
  assert.equal(preflight.header("access-control-max-age"), "600");
  assert.equal(engine.seen.length, 0);
  const read = engine.request({ headers: ["origin", "https://a.example"] });
  assert.equal(read.header("access-control-allow-origin"), "https://a.example");
  assert.equal(read.header("access-control-expose-headers"), "x-b");
  const foreign = engine.request({
    method: "OPTIONS",
    headers: ["origin", "https://evil", "access-control-request-method", "PUT"],
  });
  assert.equal(foreign.header("access-control-allow-methods"), undefined);
});
