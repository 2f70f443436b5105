import assert from "node:assert/strict";
import { test } from "node:test";
import { createFilters, createNetworkFilters, type FilterDeps } from "../../../src/waypoint/filters/factory.ts";
import type { HttpPolicySpec, TcpChainSpec } from "../../../src/waypoint/spec/mod.ts";
import { replay, SCENARIOS } from "../config/fixtures.ts";
import { chain } from "../support/test_engine.ts";
import { TestTiming } from "../support/memory_stream.ts";
import { GRPC, overHttp } from "./ext_authz_support.ts";

const DEPS: FilterDeps = {
  timing: new TestTiming(),
  clusters: { get: () => undefined },
  wallMs: () => 0,
  random: () => 0.5,
  rbacCounters: { allowed() {}, denied() {}, shadowAllowed() {}, shadowDenied() {} },
  tokens: () => ({ verify() {} }),
};
const EMPTY = { rules: undefined, shadow: undefined, shadowPrefix: "" };

test("factory: every policy is a filter, in its place", () => {
  const policies: readonly HttpPolicySpec[] = [
    { kind: "ext_authz", extAuthz: GRPC },
    { kind: "jwt", jwt: { providers: {}, rules: [], bypassCorsPreflight: true } },
    { kind: "rbac", rbac: EMPTY },
    { kind: "grpc_web" },
    { kind: "grpc_stats" },
    { kind: "cors" },
  ];
  const names = createFilters({ ...chain([]), policies }, DEPS).map(({ name }) => name.split(".").at(-1));
  assert.deepEqual(names, ["ext_authz", "jwt_authn", "rbac", "grpc_web", "grpc_stats", "cors"]);
});

test("factory: what cannot be made refuses the chain, by name", () => {
  const make = (policy: unknown) => () => createFilters({ ...chain([]), policies: [policy as HttpPolicySpec] }, DEPS);
  assert.throws(make({ kind: "lua" }), /lua/);
  assert.throws(
    make({ kind: "ext_authz", extAuthz: overHttp({ addToCheck: [{ name: "x", value: "%A%" }] }) }),
    /ext_authz .* format string/,
  );
  const rules = {
    action: "allow",
    policies: [{
      name: "p",
      principals: { kind: "principal", match: { kind: "regex", pattern: "(" } },
      permissions: { kind: "any" },
    }],
  };
  assert.throws(make({ kind: "rbac", rbac: { ...EMPTY, rules } }), /rbac/);
  const tcp = { rbac: [], extAuthz: [overHttp()] } as unknown as TcpChainSpec;
  assert.throws(() => createNetworkFilters(tcp, DEPS), /ext_authz .* gRPC/);
});

test("factory: all that a real istiod sent can be made", () => {
  let filters = 0;
  for (const scenario of SCENARIOS) {
    for (const { chains = [] } of replay(scenario).updates) {
      for (const spec of chains) {
        if (spec.kind === "http") {
          const made = createFilters(spec, DEPS);
          assert.equal(made.length, spec.policies.length, spec.name);
          filters += made.length;
        } else if (spec.kind === "tcp") {
          filters += createNetworkFilters(spec, DEPS).length;
        }
      }
    }
  }
  assert.ok(filters > 20, `${filters}`);
});
