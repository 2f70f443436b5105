import assert from "node:assert/strict";
import { test } from "node:test";
import { Registry, renderOpenMetrics } from "../../../src/telemetry/mod.ts";
import type { ClusterName, TcpChainSpec } from "../../../src/waypoint/spec/mod.ts";
import type { TcpFacts } from "../../../src/waypoint/telemetry/tcp_facts.ts";
import { SeriesTable } from "../../../src/waypoint/telemetry/istio_series.ts";
import { CLIENT } from "../format/support.ts";
import { INFO, TestEngine } from "../support/test_engine.ts";
import { caught, pass, simpleChain, STATS } from "./support.ts";

const SERVICE = { host: "b.demo.svc.cluster.local", name: "b", namespace: "demo" };

/** As istiod's metadata says of a cluster. */
function withService(context: { facts: { host: unknown } }): void {
  const host = context.facts.host as { cluster: { spec: object } };
  host.cluster.spec = { service: SERVICE, source: "", statName: "" };
}

test("istio metrics: a request counts with all labels in Istio's order", () => {
  const all = caught();
  pass(all, simpleChain({ stats: STATS }), { before: withService });
  assert.deepEqual(all.scrape("istio_requests_total"), [
    'istio_requests_total{reporter="waypoint",source_workload="client",source_canonical_service="client-app",' +
    'source_canonical_revision="v1",source_workload_namespace="a",' +
    'source_principal="spiffe://cluster.local/ns/a/sa/client",source_app="client-app",source_version="v1",' +
    'source_cluster="Kubernetes",destination_workload="b",destination_workload_namespace="demo",' +
    'destination_principal="spiffe://cluster.local/ns/demo/sa/b",destination_app="b-app",destination_version="v2",' +
    'destination_service="b.demo.svc.cluster.local",destination_canonical_service="b-app",' +
    'destination_canonical_revision="v2",destination_service_name="b",destination_service_namespace="demo",' +
    'destination_cluster="Kubernetes",request_protocol="http",response_code="200",grpc_response_status="",' +
    'response_flags="-",connection_security_policy="mutual_tls"} 1',
  ]);
  assert.match(all.scrape("istio_request_duration_milliseconds_sum")[0], / 12$/);
  const buckets = all.scrape("istio_request_duration_milliseconds_bucket").map((line) =>
    /le="([^"]+)"} (\d+)/.exec(line)!
  );
  assert.deepEqual(buckets.filter(([, , count]) => count === "1")[0][1], "25.0");
  assert.equal(buckets.length, 20);
  // Bodies of 5 and 6 bytes, and their heads.
  assert.ok(Number(all.scrape("istio_request_bytes_sum")[0].split(" ").at(-1)) > 50);
  assert.ok(Number(all.scrape("istio_response_bytes_sum")[0].split(" ").at(-1)) > 50);
  assert.deepEqual(all.scrape("istio_request_messages"), []);
  assert.deepEqual(all.scrape("istio_build"), ['istio_build{component="proxy",tag="1.31.0"} 1']);
});

test("istio metrics: the same labels are one series, other outcomes are others, and a late scrape loses nothing", () => {
  const all = caught();
  const spec = simpleChain({ stats: STATS });
  for (let i = 0; i < 3; i++) pass(all, spec);
  all.scrape("istio_requests_total");
  pass(all, spec);
  pass(all, spec, { status: 503 });
  pass(all, spec, { before: (context) => context.flags.add("UF").add("URX") });
  const lines = all.scrape("istio_requests_total");
  const counts = lines.map((line) => /response_code="(\d+)".*response_flags="([^"]+)".* (\d+)$/.exec(line)!.slice(1));
  assert.deepEqual(counts, [["200", "-", "4"], ["503", "-", "1"], ["200", "UF,URX", "1"]]);
});

test("istio metrics: an unknown peer reads unknown, and the Host header names the service only where it may", () => {
  const all = caught();
  const forget = (context: { connection: object; facts: { host: unknown } }) => {
    Object.assign(context, { connection: { ...INFO, downstreamPeer: undefined, peerPrincipal: "" } });
    context.facts.host = undefined;
  };
  pass(all, simpleChain({ stats: STATS }), { before: forget, authority: "x.example" });
  pass(all, simpleChain({ stats: { ...STATS, hostHeaderFallback: false } }), {
    before: forget,
    authority: "x.example",
  });
  const [first, second] = all.scrape("istio_requests_total");
  assert.match(
    first,
    /source_workload="unknown",source_canonical_service="unknown",source_canonical_revision="latest"/,
  );
  assert.match(first, /destination_service="x.example".*destination_canonical_revision="unknown"/);
  assert.match(first, /connection_security_policy="none"/);
  assert.match(second, /destination_service="unknown".*destination_service_name="unknown"/);
});

test("istio metrics: an endpoint whose address nobody knows is named by its own text", () => {
  const all = caught();
  pass(all, simpleChain({ stats: STATS }), {
    before(context) {
      const host = context.facts.host!;
      context.facts.host = {
        ...host,
        endpoint: {
          ...host.endpoint,
          reach: { kind: "direct", host: "10.9.9.9", port: 80, others: [] },
          workload: "other;shop;other-app;v7;west",
        },
      };
    },
  });
  const [line] = all.scrape("istio_requests_total");
  assert.match(
    line,
    /destination_workload="other",destination_workload_namespace="shop",destination_principal="unknown"/,
  );
  assert.match(line, /destination_canonical_service="other-app",destination_canonical_revision="v7"/);
  assert.match(line, /destination_cluster="west"/);
});

test("istio metrics: gRPC has its protocol, status and messages", () => {
  const all = caught();
  pass(all, simpleChain({ stats: STATS }), {
    headers: ["content-type", "application/grpc+proto"],
    before(context) {
      context.facts.grpcStatus = "14";
      context.facts.requestMessages = 3;
      context.facts.responseMessages = 2;
    },
  });
  assert.match(
    all.scrape("istio_requests_total")[0],
    /request_protocol="grpc",response_code="200",grpc_response_status="14"/,
  );
  assert.match(all.scrape("istio_request_messages_total")[0], / 3$/);
  assert.match(all.scrape("istio_response_messages_total")[0], / 2$/);
});

test("istio metrics: messages of a gRPC call count while it goes on, and once", () => {
  const all = caught();
  const spec = simpleChain({ stats: STATS, policies: [{ kind: "grpc_stats" } as never] });
  const filter = all.telemetry.filter(spec)!;
  const engine = new TestEngine(spec, { filters: [filter] });
  engine.request({ method: "POST", headers: ["content-type", "application/grpc"] }, "hello");
  const seen: { facts: { requestMessages: number } }[] = [];
  const spying = new TestEngine(spec, { filters: [filter, { name: "spy", request: (c) => (seen.push(c), "pass") }] });
  spying.request({ method: "POST", headers: ["content-type", "application/grpc"] }, "hello");
  seen[0].facts.requestMessages = 5;
  all.timing.advance(5001);
  assert.match(all.scrape("istio_request_messages_total")[0], / 5$/);
  seen[0].facts.requestMessages = 7;
  spying.answer(spying.seen[0], 200, "x");
  all.telemetry.requestFinished(spying.finished[0]);
  const total = all.scrape("istio_request_messages_total").map((line) => Number(line.split(" ").at(-1)));
  assert.equal(total.reduce((a, b) => a + b), 7);
});

test("istio metrics: overrides add labels from CEL, take labels away and drop metrics; other metrics stay as they are", async () => {
  const all = caught();
  const spec = simpleChain({
    stats: {
      ...STATS,
      metrics: [
        {
          name: "requests_total",
          dimensions: { request_host: "request.host", none: "request.headers['x-none']" },
          tagsToRemove: ["response_flags"],
          match: "",
          drop: false,
        },
        { name: "request_bytes", dimensions: {}, tagsToRemove: [], match: "", drop: true },
        { name: "", dimensions: {}, tagsToRemove: ["source_version"], match: "response.code >= 500", drop: false },
      ],
    },
  });
  all.telemetry.configured([spec], [], undefined);
  assert.equal(all.rests.length, 1);
  await all.rests[0]();
  pass(all, spec, { authority: "one.example" });
  pass(all, spec, { authority: "two.example", status: 500 });
  const [one, two] = all.scrape("istio_requests_total");
  assert.match(one, /request_host="one.example",none="unknown"} 1$/);
  assert.ok(!one.includes("response_flags") && one.includes('source_version="v1"'), one);
  assert.match(two, /request_host="two.example"/);
  assert.ok(!two.includes("source_version"), two);
  assert.deepEqual(all.scrape("istio_request_bytes"), []);
  const [bytes] = all.scrape("istio_response_bytes_sum");
  assert.ok(bytes.includes('response_flags="-"') && !bytes.includes("request_host"), bytes);
});

test("istio metrics: a metric of the operator's own is counted by its expression", async () => {
  const all = caught();
  const spec = simpleChain({
    stats: { ...STATS, definitions: [{ name: "uploads_total", value: "request.size", type: "counter" }] },
  });
  all.telemetry.configured([spec], [], undefined);
  await all.rests[0]();
  pass(all, spec);
  pass(all, spec);
  assert.match(all.scrape("istio_uploads_total")[0], / 10$/);
});

test("istio metrics: names that clients make up are counted together above the limit, and services are not", () => {
  const all = caught();
  const spec = simpleChain({ stats: STATS });
  const context = pass(all, spec, { before: ({ facts }) => void (facts.host = undefined) });
  for (let i = 0; i < 1_000; i++) {
    Object.assign(context, { original: { ...context.original, authority: `h${i}.example` } });
    all.telemetry.requestFinished(context);
  }
  pass(all, spec, { before: withService });
  const lines = all.scrape("istio_requests_total");
  // 200 names, the others, and the service.
  assert.equal(lines.length, 202);
  assert.match(lines.find((line) => line.includes('destination_service="unknown"'))!, / 801$/);
  assert.match(lines.at(-1)!, /destination_service="b.demo.svc.cluster.local".* 1$/);
  assert.ok(all.warnings.includes("full"));
  assert.equal(all.telemetry.report().next().value!.dropped["metric_series"], 801);
  for (let minute = 0; minute < 31; minute++) all.timing.advance(60_001);
  Object.assign(context, { original: { ...context.original, authority: "later.example" } });
  all.telemetry.requestFinished(context);
  assert.ok(all.scrape("istio_requests_total").some((line) => line.includes('destination_service="later.example"')));
});

test("istio metrics: label sets above the limit are counted together", () => {
  const registry = new Registry({ nowMs: () => 0, retainMs: 0 });
  const family = registry.register({ name: "x", help: "x", type: "counter" });
  let full = 0;
  const table = new SeriesTable({ registry, families: [family], maxSets: 3, full: () => full++ });
  for (let i = 0; i < 10; i++) {
    const set = table.create(i, 0, 0, () => [["n", String(i)]], () => [["n", "unknown"]]);
    registry.add(table.slot(set, 0), 1);
  }
  assert.equal(full, 7);
  assert.deepEqual(renderOpenMetrics(registry).split("\n").filter((line) => line.startsWith("x_total")), [
    'x_total{n="0"} 1',
    'x_total{n="1"} 1',
    'x_total{n="2"} 1',
    'x_total{n="unknown"} 7',
  ]);
});

test("istio metrics: a series that nobody met for half an hour is given up", () => {
  const all = caught();
  const spec = simpleChain({ stats: STATS });
  pass(all, spec);
  assert.equal(all.scrape("istio_requests_total").length, 1);
  for (let minute = 0; minute < 31; minute++) all.timing.advance(60_001);
  // Its last value is shown once more before it goes.
  for (let scrape = 0; scrape < 2; scrape++) assert.equal(all.scrape("istio_requests_total").length, 1);
  assert.deepEqual(all.scrape("istio_requests_total"), []);
  pass(all, spec);
  assert.match(all.scrape("istio_requests_total")[0], / 1$/);
});

const TCP: TcpChainSpec = {
  kind: "tcp",
  name: "tcp" as never,
  rbac: [],
  extAuthz: [],
  clusters: [{ cluster: "b" as ClusterName, weight: 1 }],
  idleTimeoutMs: 0,
  maxConnectionMs: 0,
  hashSourceIp: false,
  sniForward: undefined,
  accessLogs: [],
  stats: STATS,
};

test("istio metrics: a connection's bytes are reported while it is open, and all of it once", () => {
  const all = caught();
  const facts: TcpFacts = {
    connection: { ...INFO, downstreamPeer: CLIENT },
    chain: TCP,
    startedAtWallMs: 0,
    endedAtMs: undefined,
    bytesReceived: 0,
    bytesSent: 0,
    host: undefined,
    upstreamCluster: "b" as ClusterName,
    upstreamLocalAddress: "",
    upstreamFailure: "",
    flags: "",
    connectionTermination: "",
  };
  all.telemetry.tcpOpened(facts);
  all.timing.advance(5001);
  assert.deepEqual(all.scrape("istio_tcp"), []);
  facts.host = {
    shown: "10.0.3.1:80",
    endpoint: {
      id: "10.0.3.1:80",
      reach: { kind: "hbone", target: "10.0.3.1:80", via: undefined },
      health: "healthy",
      weight: 1,
      tag: "tunnel",
      workload: "",
    },
    cluster: { spec: { service: SERVICE } } as never,
  };
  facts.bytesReceived = 10;
  all.timing.advance(5001);
  assert.match(all.scrape("istio_tcp_received_bytes_total")[0], / 10$/);
  assert.match(
    all.scrape("istio_tcp_connections_opened_total")[0],
    /request_protocol="tcp",response_flags="-",connection_security_policy="mutual_tls"} 1$/,
  );
  assert.deepEqual(all.scrape("istio_tcp_connections_closed_total"), []);
  facts.bytesReceived = 15;
  facts.bytesSent = 7;
  all.telemetry.tcpFinished(facts);
  assert.match(all.scrape("istio_tcp_received_bytes_total")[0], / 15$/);
  assert.match(all.scrape("istio_tcp_sent_bytes_total")[0], / 7$/);
  assert.match(all.scrape("istio_tcp_connections_opened_total")[0], / 1$/);
  assert.match(all.scrape("istio_tcp_connections_closed_total")[0], / 1$/);
  assert.match(all.scrape("istio_tcp_connections_closed_total")[0], /destination_workload="b"/);
});
