import assert from "node:assert/strict";
import { test } from "node:test";
import { createAuthorizationMetrics, policyOwner } from "../../src/telemetry/authorization_metrics.ts";
import { createLimits, LIMITS } from "../../src/telemetry/limits.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { renderOpenMetrics } from "../../src/telemetry/openmetrics.ts";
import { createProcessMetrics } from "../../src/telemetry/process_metrics.ts";
import { Registry } from "../../src/telemetry/registry.ts";
import type { TrafficPeer } from "../../src/telemetry/traffic_metrics.ts";
import { createWorkerMetrics } from "../../src/telemetry/worker_metrics.ts";
import { createXdsMetrics } from "../../src/telemetry/xds_metrics.ts";

const web: TrafficPeer = {
  workload: "web",
  canonicalService: "web-svc",
  canonicalRevision: "v1",
  namespace: "shop",
  principal: "spiffe://td/ns/shop/sa/web",
  app: "web",
  version: "v1",
  cluster: "c1",
  region: undefined,
  zone: undefined,
  owner: "shop/web",
};

function open(retainMs = 0) {
  const lines: string[] = [];
  const clock = { ms: 0 };
  const nowMs = () => clock.ms;
  const log = createLog({ filter: "info", format: "plain", sink: (line) => lines.push(line), nowMs: () => 0 });
  const registry = new Registry({ nowMs, retainMs });
  return { registry, log, lines, clock, metrics: createWorkerMetrics(registry, log, nowMs) };
}

/** Sample lines of one family. */
function samples(registry: Registry, family: string): string[] {
  return renderOpenMetrics(registry).split("\n").filter((line) => line.startsWith(family));
}

/** A series goes once a scrape has seen its last value, and that value stood still until the next. */
function exportLastValues(registry: Registry): void {
  renderOpenMetrics(registry);
  renderOpenMetrics(registry);
}

test("ztunnel metrics: every family of ztunnel is there, with its type and its mark", () => {
  const { registry, metrics } = open();
  createProcessMetrics(registry, "1.31.0");
  const xds = createXdsMetrics(registry);
  const key = { reporter: "source", source: web, destination: web, service: undefined, mutualTls: true } as const;
  metrics.traffic.open(key).close("-");
  metrics.traffic.failed(key, "CONNECT");
  metrics.traffic.socketsOpen("source", 1);
  metrics.onDemandDns.resolved(web, "db.example.org");
  metrics.crl.rejected("source");
  metrics.crl.untracked("destination");
  xds.connectionTerminated("Reconnect");
  xds.message("type.googleapis.com/istio.workload.Address", 10);
  const query = { type: "A", protocol: "udp", source: web } as const;
  metrics.dns.request(query);
  metrics.dns.upstreamRequest(query);
  metrics.dns.upstreamFailure(query);
  metrics.dns.upstreamAnswered(query, 2);
  const text = renderOpenMetrics(registry);
  /** Name, type, whether it is part of what users may rely on. */
  const families: readonly (readonly [string, string, boolean])[] = [
    ["istio_tcp_connections_opened", "counter", true],
    ["istio_tcp_connections_closed", "counter", true],
    ["istio_tcp_connections_failed", "counter", false],
    ["istio_tcp_received_bytes", "counter", true],
    ["istio_tcp_sent_bytes", "counter", true],
    ["istio_tcp_sockets_open", "gauge", false],
    ["istio_on_demand_dns", "counter", false],
    ["istio_crl_policy_rejections", "counter", false],
    ["istio_crl_untracked_connections", "counter", false],
    ["istio_build", "gauge", true],
    ["istio_xds_connection_terminations", "counter", false],
    ["istio_xds_message", "counter", false],
    ["istio_xds_message_bytes", "counter", false],
    ["istio_dns_requests", "counter", false],
    ["istio_dns_upstream_requests", "counter", false],
    ["istio_dns_upstream_failures", "counter", false],
    ["istio_dns_upstream_request_duration_seconds", "histogram", false],
    ["workload_manager_active_proxy_count", "gauge", false],
    ["workload_manager_pending_proxy_count", "gauge", false],
    ["workload_manager_proxies_started", "counter", false],
    ["workload_manager_proxies_stopped", "counter", false],
    ["process_open_fds", "gauge", true],
    ["process_max_fds", "gauge", true],
  ];
  for (const [name, type, stable] of families) {
    const help = new RegExp(`^# HELP ${name} [A-Z].*?( \\(unstable\\))?\\.$`, "m").exec(text);
    assert.ok(help, name);
    assert.equal(help[1] === undefined, stable, name);
    assert.ok(text.includes(`# TYPE ${name} ${type}\n`), name);
  }
  assert.ok(text.endsWith("# EOF\n"));
});

test("ztunnel metrics: labels of dns, on-demand names, crl and xds", () => {
  const { registry, metrics } = open();
  const xds = createXdsMetrics(registry);
  const query = { type: "AAAA", protocol: "tcp", source: web } as const;
  metrics.dns.request(query);
  metrics.dns.request({ ...query, type: "TYPE4711" });
  metrics.dns.upstreamAnswered(query, 20);
  metrics.onDemandDns.resolved(web, "db.example.org");
  metrics.crl.rejected("source");
  xds.message("type.googleapis.com/istio.workload.Address", 10);
  xds.connectionTerminated("ConnectionError");
  assert.deepEqual(samples(registry, "istio_dns_requests"), [
    'istio_dns_requests_total{request_query_type="AAAA",request_protocol="tcp",source_canonical_service="web-svc",source_canonical_revision="v1"} 1',
    'istio_dns_requests_total{request_query_type="unknown",request_protocol="tcp",source_canonical_service="web-svc",source_canonical_revision="v1"} 1',
  ]);
  const buckets = samples(registry, "istio_dns_upstream_request_duration_seconds_bucket");
  assert.deepEqual(buckets.map((line) => /le="([^"]*)"\} (.*)/.exec(line)?.slice(1)), [
    ["0.0005", "0"],
    ["0.001", "0"],
    ["0.01", "0"],
    ["0.1", "1"],
    ["1.0", "1"],
    ["5.0", "1"],
    ["+Inf", "1"],
  ]);
  assert.deepEqual(samples(registry, "istio_on_demand_dns"), [
    'istio_on_demand_dns_total{source_workload="web",source_canonical_service="web-svc",source_canonical_revision="v1",' +
    'source_workload_namespace="shop",source_principal="spiffe://td/ns/shop/sa/web",source_app="web",source_version="v1",' +
    'source_cluster="c1",hostname="db.example.org"} 1',
  ]);
  assert.deepEqual(samples(registry, "istio_crl"), ['istio_crl_policy_rejections_total{reporter="source"} 1']);
  assert.deepEqual(samples(registry, "istio_xds"), [
    'istio_xds_connection_terminations_total{reason="ConnectionError"} 1',
    'istio_xds_message_total{url="type.googleapis.com/istio.workload.Address"} 1',
    'istio_xds_message_bytes_total{url="type.googleapis.com/istio.workload.Address"} 10',
  ]);
});

test("ztunnel metrics: a workload that is gone takes its series along", () => {
  const { registry, metrics } = open();
  metrics.dns.request({ type: "A", protocol: "udp", source: web });
  metrics.onDemandDns.resolved(web, "db.example.org");
  metrics.authorization.denied(web, { reason: "no_allow_matched", policy: undefined, rule: undefined, late: false });
  metrics.authorization.dryRun(web, { policy: "shop/p", rule: 0, would: "deny" });
  const families = ["istio_dns", "istio_on_demand", "ambit_authorization"];
  assert.equal(families.flatMap((family) => samples(registry, family)).length, 4);
  registry.evict("shop/web");
  exportLastValues(registry);
  assert.deepEqual(families.flatMap((family) => samples(registry, family)), []);
});

test("authorization metrics: a denial names policy and rule, and goes with the policy", () => {
  const { registry, metrics } = open();
  metrics.authorization.denied(web, { reason: "deny_policy", policy: "shop/no", rule: 2, late: false });
  metrics.authorization.denied(web, { reason: "deny_policy", policy: "shop/no", rule: 2, late: true });
  metrics.authorization.denied(web, { reason: "no_allow_matched", policy: undefined, rule: undefined, late: false });
  const subject = 'destination_workload="web",destination_workload_namespace="shop"';
  const name = "ambit_authorization_denied_total";
  assert.deepEqual(samples(registry, name), [
    `${name}{reason="deny_policy",phase="open",policy="shop/no",rule="3",${subject}} 1`,
    `${name}{reason="deny_policy",phase="policy_change",policy="shop/no",rule="3",${subject}} 1`,
    `${name}{reason="no_allow_matched",phase="open",policy="",rule="",${subject}} 1`,
  ]);
  registry.evict(policyOwner("shop/no"));
  exportLastValues(registry);
  assert.equal(samples(registry, name).length, 1);
});

test("authorization metrics: label values cannot break the exposition, and there is an end to them", () => {
  const registry = new Registry({ nowMs: () => 0, retainMs: 0 });
  let full = 0;
  const metrics = createAuthorizationMetrics(registry, 3, () => full++);
  for (let rule = 0; rule < 6; rule++) metrics.dryRun(web, { policy: 'a"b\n\\', rule, would: "allow" });
  const lines = samples(registry, "ambit_authorization_dry_run");
  assert.match(lines[0], /policy="a\\"b\\n\\\\",rule="1"/);
  assert.equal(lines.length, 4);
  assert.match(
    lines[3],
    /policy="other",rule="",destination_workload="unknown",destination_workload_namespace="unknown"} 3$/,
  );
  assert.equal(full, 3);
});

test("xds metrics: a server that makes up type urls fills nothing", () => {
  const registry = new Registry({ nowMs: () => 0, retainMs: 0 });
  const metrics = createXdsMetrics(registry);
  for (let i = 0; i < 100; i++) metrics.message(`type-${i}`, 1);
  const lines = samples(registry, "istio_xds_message_total");
  assert.equal(lines.length, 33);
  assert.match(lines[32], /url="other"} 68$/);
});

test("limits: each hit is counted, one in ten seconds is logged, with how many there were", () => {
  const { registry, lines, clock, metrics } = open();
  for (let i = 0; i < 5; i++) metrics.limits.reached("tunnel_abuse", { "src.addr": "1.2.3.4:5" });
  metrics.limits.reached("mesh_cache");
  assert.equal(lines.length, 2);
  assert.match(
    lines[0],
    /\twarn\tlimits\tlimit reached: .*the tunnel is closed\tlimit="tunnel_abuse" times=1 src\.addr="1\.2\.3\.4:5"\n$/,
  );
  clock.ms = 10_000;
  metrics.limits.reached("tunnel_abuse");
  assert.match(lines[2], /times=5\n$/);
  metrics.limits.count("log_lines", 7);
  metrics.limits.count("metric_series", 0);
  assert.equal(lines.length, 3);
  assert.deepEqual(samples(registry, "ambit_limit_reached"), [
    'ambit_limit_reached_total{limit="tunnel_abuse"} 6',
    'ambit_limit_reached_total{limit="mesh_cache"} 1',
    'ambit_limit_reached_total{limit="log_lines"} 7',
  ]);
});

test("limits: docs/limits.md names every one", async () => {
  const { readFileSync } = await import("node:fs");
  const text = readFileSync(new URL("../../docs/limits.md", import.meta.url), "utf8");
  for (const limit of Object.keys(LIMITS)) assert.ok(text.includes(`\`${limit}\``), limit);
});

test("worker metrics: what a worker counts is merged by a registry that registered the same", () => {
  const worker = open();
  const main = open();
  worker.metrics.authorization.denied(web, { reason: "missing_policy", policy: "a/b", rule: undefined, late: false });
  worker.metrics.dns.upstreamAnswered({ type: "A", protocol: "udp", source: web }, 1);
  worker.metrics.limits.reached("missing_policy");
  main.registry.merge(worker.registry.snapshot("worker-1"));
  assert.equal(samples(main.registry, "ambit_").length, 2);
  assert.equal(samples(main.registry, "istio_dns_upstream_request_duration_seconds_count").length, 1);
});

test("limits: a log of its own can be given", () => {
  const registry = new Registry({ nowMs: () => 0, retainMs: 0 });
  const seen: string[] = [];
  const limits = createLimits({
    registry,
    log: { enabled: () => true, log: (_level, _target, message) => void seen.push(message) },
    nowMs: () => 0,
  });
  limits.reached("open_files");
  assert.match(seen[0], /raise RLIMIT_NOFILE/);
});
