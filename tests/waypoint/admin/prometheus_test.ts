import assert from "node:assert/strict";
import { test } from "node:test";
import { labelSet } from "../../../src/telemetry/mod.ts";
import { createAgentMetrics } from "../../../src/waypoint/admin/mod.ts";
import { report, testAdmin } from "./support.ts";

test("prometheus: Envoy's names that Istio includes, and the registry's, in format 0.0.4", async () => {
  const all = testAdmin();
  const family = all.registry.register({ name: "istio_requests", help: "Requests", type: "counter" });
  all.registry.add(all.registry.acquire(family, labelSet({ reporter: "waypoint" })), 3);
  all.reports.push(report({ http: { "inbound_0.0.0.0_80": { downstream_rq_total: 1 } } }));
  const text = await all.text("/stats/prometheus");
  assert.match(text, /# TYPE envoy_server_state gauge\nenvoy_server_state\{\} 0\n/);
  assert.match(
    text,
    /# TYPE envoy_cluster_manager_cds_update_success counter\nenvoy_cluster_manager_cds_update_success\{\} 1\n/,
  );
  assert.match(text, /envoy_workload_discovery_total\{\} \d+\n/);
  assert.match(text, /# TYPE istio_requests_total counter\nistio_requests_total\{reporter="waypoint"\} 3\n/);
  assert.ok(!text.includes("EOF") && !text.includes("envoy_http_"), text);
  assert.equal(await all.text("/stats?format=prometheus"), text);
});

test("prometheus: proxyStatsMatcher includes more, with the labels that Istio cuts out of names", async () => {
  const all = testAdmin("plain", {
    proxyStatsMatcher: {
      inclusionPrefixes: ["http."],
      inclusionSuffixes: ["upstream_rq_5xx"],
      inclusionRegexps: ["(", "^listener\\."],
    },
  });
  const name = "inbound-vip|80|http|b.demo.svc.cluster.local";
  all.reports.push(report({
    http: { "inbound_0.0.0.0_80": { downstream_rq_2xx: 2, downstream_rq_total: 2 } },
    clusters: [{ name, hosts: [], counters: { upstream_rq_5xx: 1 } }],
  }, 4));
  const text = await all.text("/stats/prometheus");
  assert.match(
    text,
    /envoy_http_downstream_rq\{http_conn_manager_prefix="inbound_0\.0\.0\.0_80",response_code_class="2xx"\} 2\n/,
  );
  assert.match(text, /envoy_http_downstream_rq_total\{http_conn_manager_prefix="inbound_0\.0\.0\.0_80"\} 2\n/);
  assert.match(text, /envoy_cluster_upstream_rq\{cluster_name="[^"]+",response_code_class="5xx"\} 1\n/);
  assert.match(text, /envoy_listener_downstream_cx_active\{listener_address="0\.0\.0\.0_15008"\} 4\n/);
});

test("prometheus: what pilot-agent tells of itself, and nothing before there is something to tell", async () => {
  const all = testAdmin();
  const metrics = createAgentMetrics(all.registry, 1_000);
  const facts = { residentBytes: 5, cpuSeconds: 0.5, openDescriptors: 6, maxDescriptors: 7 };
  metrics.scraped({ ...facts, startupMs: undefined, certificateSeconds: undefined });
  const before = await all.text("/stats/prometheus");
  assert.ok(!before.includes("istio_agent_startup") && !before.includes("istio_agent_cert"), before);
  for (let i = 0; i < 2; i++) metrics.scraped({ ...facts, startupMs: 250, certificateSeconds: 60 });
  const text = await all.text("/stats/prometheus");
  assert.match(text, /^istio_agent_startup_duration_seconds 0.25$/m);
  assert.match(text, /^istio_agent_cert_expiry_seconds\{resource_name="default"\} 60$/m);
  assert.match(text, /^istio_agent_scrapes_total 3$/m);
  assert.match(text, /^istio_agent_process_open_fds 6$/m);
  assert.match(text, /^istio_agent_process_start_time_seconds 1$/m);
});
