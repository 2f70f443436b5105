import assert from "node:assert/strict";
import { test } from "node:test";
import { renderOpenMetrics } from "../../src/telemetry/openmetrics.ts";
import { createProcessMetrics } from "../../src/telemetry/process_metrics.ts";
import { Registry } from "../../src/telemetry/registry.ts";
import { createTrafficMetrics } from "../../src/telemetry/traffic_metrics.ts";
import type { TrafficKey, TrafficPeer } from "../../src/telemetry/traffic_metrics.ts";

const unknown: TrafficPeer = {
  workload: undefined,
  canonicalService: undefined,
  canonicalRevision: undefined,
  namespace: undefined,
  principal: undefined,
  app: undefined,
  version: undefined,
  cluster: undefined,
  region: undefined,
  zone: undefined,
  owner: undefined,
};
const client: TrafficPeer = {
  workload: "client",
  canonicalService: "client-svc",
  canonicalRevision: "v1",
  namespace: "shop",
  principal: "spiffe://cluster.local/ns/shop/sa/client",
  app: "client-svc",
  version: "v1",
  cluster: "Kubernetes",
  region: undefined,
  zone: undefined,
  owner: "shop/client",
};
const key: TrafficKey = {
  reporter: "source",
  source: client,
  destination: unknown,
  service: { hostname: "echo.shop.svc.cluster.local", namespace: "shop", name: "echo" },
  mutualTls: true,
};

function open(maxSeries?: number) {
  const registry = new Registry({ nowMs: () => 0, retainMs: 0 });
  return { registry, metrics: createTrafficMetrics(registry, maxSeries) };
}

const LABELS = 'reporter="source",source_workload="client",source_canonical_service="client-svc",' +
  'source_canonical_revision="v1",source_workload_namespace="shop",' +
  'source_principal="spiffe://cluster.local/ns/shop/sa/client",source_app="client-svc",source_version="v1",' +
  'source_cluster="Kubernetes",destination_service="echo.shop.svc.cluster.local",' +
  'destination_service_namespace="shop",destination_service_name="echo",destination_workload="unknown",' +
  'destination_canonical_service="unknown",destination_canonical_revision="unknown",' +
  'destination_workload_namespace="unknown",destination_principal="unknown",destination_app="unknown",' +
  'destination_version="unknown",destination_cluster="unknown",request_protocol="tcp",response_flags="FLAGS",' +
  'connection_security_policy="mutual_tls"';

test("traffic metrics: names, labels and their order are Istio's", () => {
  const { registry, metrics } = open();
  const connection = metrics.open(key);
  registry.add(connection.receivedSlot, 100);
  registry.add(connection.sentSlot, 2000);
  connection.close("DENY");
  connection.close("DENY");
  metrics.failed(key, "CONNECT");
  metrics.socketsOpen("source", 2);
  metrics.socketsOpen("source", -1);
  const lines = renderOpenMetrics(registry).split("\n").filter((line) => !line.startsWith("# HELP"));
  const plain = LABELS.replace("FLAGS", "-");
  assert.deepEqual(lines, [
    "# TYPE istio_tcp_connections_opened counter",
    `istio_tcp_connections_opened_total{${plain}} 1`,
    "# TYPE istio_tcp_connections_closed counter",
    `istio_tcp_connections_closed_total{${LABELS.replace("FLAGS", "DENY")}} 1`,
    "# TYPE istio_tcp_received_bytes counter",
    `istio_tcp_received_bytes_total{${plain}} 100`,
    "# TYPE istio_tcp_sent_bytes counter",
    `istio_tcp_sent_bytes_total{${plain}} 2000`,
    "# TYPE istio_tcp_connections_failed counter",
    `istio_tcp_connections_failed_total{${LABELS.replace("FLAGS", "CONNECT")}} 1`,
    "# TYPE istio_tcp_sockets_open gauge",
    'istio_tcp_sockets_open{reporter="source"} 1',
    "# EOF",
    "",
  ]);
});

test("traffic metrics: localities are there as soon as one side has one", () => {
  const { registry, metrics } = open();
  metrics.open({ ...key, destination: { ...unknown, region: "r1" }, mutualTls: false });
  assert.ok(
    renderOpenMetrics(registry).includes(
      'connection_security_policy="unknown",source_region="unknown",source_zone="unknown",' +
        'destination_region="r1",destination_zone="unknown"} 1',
    ),
  );
});

test("traffic metrics: label values are escaped", () => {
  const { registry, metrics } = open();
  metrics.open({ ...key, source: { ...client, workload: 'a"\n\\' } });
  assert.ok(renderOpenMetrics(registry).includes('source_workload="a\\"\\n\\\\",'));
});

test("traffic metrics: the series of a gone workload go with its last connection, counted to the end", () => {
  const { registry, metrics } = open();
  const connection = metrics.open(key);
  metrics.evict("shop/client");
  registry.add(connection.sentSlot, 5);
  connection.close("-");
  const last = renderOpenMetrics(registry);
  assert.match(last, /istio_tcp_sent_bytes_total\{.*\} 5\n/);
  assert.match(last, /istio_tcp_connections_closed_total\{.*\} 1\n/);
  renderOpenMetrics(registry);
  assert.equal(renderOpenMetrics(registry), "# EOF\n");
});

test("traffic metrics: above the limit of series, connections are counted as unknown", () => {
  const { registry, metrics } = open(10);
  for (let i = 0; i < 100; i++) metrics.open({ ...key, source: { ...client, workload: `w${i}` } }).close("-");
  assert.ok(registry.seriesCount < 20, String(registry.seriesCount));
  const text = renderOpenMetrics(registry);
  let opened = 0;
  for (const [, value] of text.matchAll(/istio_tcp_connections_opened_total\{.*\} ([0-9]+)\n/g)) {
    opened += Number(value);
  }
  assert.equal(opened, 100);
  assert.match(text, /ambit_traffic_label_sets_overflowed_total [0-9]+\n/);
});

test("process metrics: istio_build carries the tag, empty families are there as gauges", () => {
  const registry = new Registry({ nowMs: () => 0, retainMs: 0 });
  const metrics = createProcessMetrics(registry, "1.31.0");
  metrics.setFileDescriptors(7, 1024);
  metrics.setProxyCounts(2, 1);
  metrics.proxyStarted();
  const text = renderOpenMetrics(registry);
  assert.match(text, /istio_build\{component="ztunnel",tag="1\.31\.0"\} 1\n/);
  assert.match(text, /process_open_fds 7\n/);
  assert.match(text, /process_max_fds 1024\n/);
  assert.match(text, /workload_manager_active_proxy_count 2\n/);
  assert.match(text, /workload_manager_proxies_started_total 1\n/);
  assert.match(text, /workload_manager_proxies_stopped_total 0\n/);
});
