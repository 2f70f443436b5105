import assert from "node:assert/strict";
import { test } from "node:test";
import type { NetworkOutcome } from "../../../src/waypoint/engine/request_context.ts";
import { createNetworkExtAuthz } from "../../../src/waypoint/filters/ext_authz_network.ts";
import type { ExtAuthzSpec, NetworkRbacSpec } from "../../../src/waypoint/spec/mod.ts";
import { chain, INFO, type Seen, TestEngine } from "../support/test_engine.ts";
import { asked, checks, GRPC, lateDeps, overHttp, reply, replyBytes } from "./ext_authz_support.ts";

/** The verdict of a filter about a connection, with the service that the test plays. */
function judge(
  spec: ExtAuthzSpec,
  service: (seen: Seen) => void,
  rbac: readonly NetworkRbacSpec[] = [],
  source = INFO.source.ip,
) {
  const late = lateDeps();
  const engine = new TestEngine(chain([]), { upstream: "2" });
  late.engine = engine;
  engine.onWhole = service;
  const outcomes: NetworkOutcome[] = [];
  const filter = createNetworkExtAuthz(spec, rbac, late.deps);
  const info = { ...INFO, source: { ip: source, port: 1 } };
  const cancel = filter.connection(info, (outcome) => void outcomes.push(outcome));
  engine.run();
  return { engine, outcomes, cancel, events: late.events };
}

const TCP: ExtAuthzSpec = { ...GRPC, statPrefix: "tcp." };

test("ext_authz of connections: the service decides, told of addresses and identities", () => {
  const yes = judge(TCP, (seen) => reply(seen, { status: { code: 0 } }));
  assert.deepEqual(yes.outcomes, [{ allowed: true, details: "" }]);
  const { source, request } = asked(checks(yes.engine)[0]).attributes ?? {};
  assert.equal(source?.principal, INFO.peerPrincipal);
  assert.equal(request?.http, undefined);
  const no = judge(TCP, (seen) => reply(seen, { status: { code: 7 } }));
  assert.deepEqual(no.outcomes, [{ allowed: false, details: "ext_authz_denied", flag: "UAEX" }]);
  assert.deepEqual([yes.events, no.events], [["tcp.ok"], ["tcp.denied"]]);
});

test("ext_authz of connections: fails closed, or open where the provider says so", () => {
  const failures: readonly [ExtAuthzSpec, (seen: Seen) => void][] = [
    [TCP, (seen) => replyBytes(seen, new Uint8Array([0xff]))],
    [TCP, (seen) => seen.exchange.respond({ status: 404, headers: [] }, true)],
    [{ ...TCP, service: { ...TCP.service, cluster: "missing" as never } }, () => {}],
    [TCP, () => {}],
  ];
  for (const [spec, service] of failures) {
    const closed = judge(spec, service);
    closed.engine.advance(1001);
    assert.deepEqual(closed.outcomes, [{ allowed: false, details: "ext_authz_error", flag: "UAEX" }]);
    const open = judge({ ...spec, failureAllows: true }, service);
    open.engine.advance(1001);
    assert.deepEqual(open.outcomes, [{ allowed: true, details: "" }]);
  }
});

test("ext_authz of connections: one that ends takes its check along", () => {
  const { engine, outcomes, cancel } = judge(TCP, () => {});
  cancel?.();
  engine.run();
  engine.advance(2000);
  assert.ok(checks(engine)[0].cut !== undefined);
  assert.deepEqual(outcomes, []);
});

const shadow = (provider: string, cidr: string): NetworkRbacSpec => ({
  rules: undefined,
  shadow: {
    action: "deny",
    policies: [{
      name: `istio-ext-authz-${provider}-ns[a]-policy[b]-rule[0]`,
      principals: { kind: "source ip", cidr: cidr as never },
      permissions: { kind: "any" },
    }],
  },
  shadowPrefix: "istio_ext_authz_",
  statPrefix: "tcp.",
});

test("ext_authz of connections: each provider is asked about what its own policy picks out", () => {
  const only = (prefix: string): ExtAuthzSpec => ({
    ...TCP,
    onlyIfPolicy: { metadataKey: "istio_ext_authz_shadow_effective_policy_id", prefix: `istio-ext-authz-${prefix}` },
  });
  const cases: readonly [string, string, readonly NetworkRbacSpec[], boolean][] = [
    ["p1", "10.0.1.5", [shadow("p1", "10.0.1.0/24")], true],
    ["p1", "10.0.2.5", [shadow("p1", "10.0.1.0/24")], false],
    ["p2", "10.0.1.5", [shadow("p1", "10.0.1.0/24")], false],
    // A second provider's policy, matching or not, takes nothing from the first's.
    ["p1", "10.0.1.5", [shadow("p1", "10.0.1.0/24"), shadow("p2", "10.0.1.0/24")], true],
    ["p1", "10.0.1.5", [shadow("p1", "10.0.1.0/24"), shadow("p2", "10.9.0.0/24")], true],
    ["p1", "10.0.1.5", [], false],
  ];
  for (const [provider, source, rbac, isAsked] of cases) {
    const { engine, outcomes } = judge(only(provider), (seen) => reply(seen, { status: { code: 7 } }), rbac, source);
    assert.equal(outcomes[0].allowed, !isAsked, JSON.stringify([provider, source, rbac.length]));
    assert.equal(checks(engine).length, isAsked ? 1 : 0);
  }
});

test("ext_authz of connections: a service over HTTP refuses the chain", () => {
  assert.throws(() => createNetworkExtAuthz(overHttp(), [], lateDeps().deps), /gRPC alone/);
});
