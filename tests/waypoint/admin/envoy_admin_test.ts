import { fromJson } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { test } from "node:test";
import { ClustersSchema } from "../../../src/gen/envoy/admin/v3/clusters_pb.ts";
import { ServerInfo_State as State, ServerInfoSchema } from "../../../src/gen/envoy/admin/v3/server_info_pb.ts";
import { TestAuthority } from "../../platform/authority.ts";
import { NOW_MS, report, testAdmin } from "./support.ts";

/** The cluster of the plain scenario that has an endpoint. */
function aCluster(all: ReturnType<typeof testAdmin>): { readonly name: string; readonly id: string } {
  for (const cluster of all.view.clusters.values()) {
    const id = all.view.endpointsOf(cluster)?.localities[0]?.endpoints[0]?.id;
    if (id !== undefined && cluster.name.startsWith("inbound-vip")) return { name: cluster.name, id };
  }
  throw new Error("there is no cluster with an endpoint");
}

const counters = (cxTotal: number, ejected = false) => ({ isEjected: ejected, counters: { cx_total: cxTotal } });

test("admin: clusters?format=json is Envoy's, with the counts of all workers", async () => {
  const all = testAdmin();
  const { name, id } = aCluster(all);
  all.reports.push(
    report({ clusters: [{ name, counters: {}, hosts: [{ id, ...counters(2) }] }] }),
    report({ clusters: [{ name, counters: {}, hosts: [{ id, ...counters(3, true) }] }] }),
  );
  const { clusterStatuses } = fromJson(ClustersSchema, await all.json("/clusters?format=json"));
  assert.equal(clusterStatuses.length, all.view.clusters.size);
  const status = clusterStatuses.find((each) => each.name === name)!;
  const [host] = status.hostStatuses;
  assert.ok(host.address?.address.case === "envoyInternalAddress");
  assert.equal(host.address.address.value.endpointId, id);
  assert.equal(host.address.address.value.addressNameSpecifier.value, "connect_originate");
  assert.equal(host.stats.find((stat) => stat.name === "cx_total")?.value, 5n);
  assert.equal(host.healthStatus?.failedOutlierCheck, true);
  assert.equal(host.healthStatus?.edsHealthStatus, 1);
});

test("admin: clusters as text", async () => {
  const all = testAdmin();
  const { name, id } = aCluster(all);
  all.reports.push(report({ clusters: [{ name, counters: {}, hosts: [{ id, ...counters(2) }] }] }));
  const text = await all.text("/clusters");
  assert.ok(text.includes(`${name}::envoy://connect_originate/${id}::cx_total::2\n`), text);
  assert.ok(text.includes(`${name}::envoy://connect_originate/${id}::health_flags::healthy\n`));
  assert.ok(text.includes(`${name}::default_priority::max_connections::4294967295\n`));
});

test("admin: server_info is Envoy's", async () => {
  const all = testAdmin();
  const info = fromJson(ServerInfoSchema, await all.json("/server_info"));
  assert.equal(info.version, "ambit 0.1.0");
  assert.equal(info.state, State.LIVE);
  assert.equal(info.uptimeCurrentEpoch?.seconds, 90n);
  assert.equal(info.node?.cluster, "waypoint.demo");
  assert.deepEqual([info.node?.locality?.zone, info.node?.locality?.subZone], ["z", "s"]);
  assert.equal(info.commandLineOptions?.concurrency, 2);
  all.phase = "draining";
  assert.equal(fromJson(ServerInfoSchema, await all.json("/server_info")).state, State.DRAINING);
});

test("admin: ready says how the process stands", async () => {
  const all = testAdmin();
  for (
    const [phase, text, status] of [["live", "LIVE\n", 200], ["initializing", "INITIALIZING\n", 503], [
      "draining",
      "DRAINING\n",
      503,
    ]] as const
  ) {
    all.phase = phase;
    const response = await all.app.request("/ready");
    assert.deepEqual([response.status, await response.text()], [status, text]);
  }
});

test("admin: what pilot-agent asks of stats is there while it is zero", async () => {
  const all = testAdmin();
  all.recorder.applied("type.googleapis.com/envoy.config.cluster.v3.Cluster", "x: refused");
  const updates = "filter=^(cluster_manager\\.cds|listener_manager\\.lds)\\.(update_success|update_rejected)$";
  assert.equal(
    await all.text(`/stats?usedonly&${updates}`),
    "cluster_manager.cds.update_rejected: 1\ncluster_manager.cds.update_success: 1\n" +
      "listener_manager.lds.update_rejected: 0\nlistener_manager.lds.update_success: 1\n",
  );
  all.reports.push(report({}, 3), report({}, 4));
  assert.equal(
    await all.text("/stats?usedonly&filter=^(server\\.state|listener_manager\\.workers_started)"),
    "listener_manager.workers_started: 1\nserver.state: 0\n",
  );
  assert.equal(
    await all.text("/stats?usedonly&filter=downstream_cx_active$"),
    "listener.0.0.0.0_15008.downstream_cx_active: 7\n",
  );
});

test("admin: stats are sums of all workers; memberships are not added up", async () => {
  const all = testAdmin();
  const { name } = aCluster(all);
  const counted = (rq: number) =>
    report({
      http: { "inbound_0.0.0.0_80": { downstream_rq_total: rq, downstream_rq_5xx: 0 } },
      rbac: { allowed: rq, denied: 0, shadow_allowed: 0, shadow_denied: 0 },
      clusters: [{ name, hosts: [], counters: { upstream_rq_total: rq, membership_total: 2 } }],
    });
  all.reports.push(counted(1), counted(2));
  const text = await all.text("/stats");
  const statName = all.view.clusters.get(name)!.statName || name;
  assert.ok(text.includes("http.inbound_0.0.0.0_80;.downstream_rq_total: 3\n"), text);
  assert.ok(text.includes("rbac.allowed: 3\n"));
  assert.ok(text.includes(`cluster.${statName};.upstream_rq_total: 3\n`), text);
  assert.ok(text.includes(`cluster.${statName};.membership_total: 2\n`));
  const used = await all.text("/stats?usedonly&filter=inbound_");
  assert.ok(used.includes("downstream_rq_total") && !used.includes("downstream_rq_5xx"), used);
  const { stats } = await all.json("/stats?format=json&filter=^rbac.allowed$");
  assert.deepEqual(stats, [{ name: "rbac.allowed", value: 3 }]);
  assert.equal((await all.app.request("/stats?filter=(")).status, 400);
});

test("admin: listeners, as text and JSON", async () => {
  const all = testAdmin();
  assert.match(await all.text("/listeners"), /^connect_terminate::0\.0\.0\.0:15008\n.*15090\n.*main_internal::envoy:/s);
  const { listener_statuses: statuses } = await all.json("/listeners?format=json");
  const names = (statuses as { readonly name: string }[]).map(({ name }) => name);
  assert.ok(names.includes("connect_terminate") && names.includes("connect_originate"), names.join());
});

test("admin: certs with names and times", async () => {
  const authority = await TestAuthority.create();
  const { chain, roots } = await authority.material({ uris: ["spiffe://td/ns/demo/sa/waypoint"] });
  const all = testAdmin();
  assert.deepEqual(await all.json("/certs"), { certificates: [] });
  all.recorder.secret("default", "certificate", chain.join(""));
  all.recorder.secret("ROOTCA", "trust", roots.join(""));
  const { certificates: [{ ca_cert: [root], cert_chain: [leaf] }] } = await all.json("/certs") as unknown as {
    certificates: Record<string, { subject_alt_names: unknown[]; serial_number: string; expiration_time: string }[]>[];
  };
  assert.deepEqual(leaf.subject_alt_names, [{ uri: "spiffe://td/ns/demo/sa/waypoint" }]);
  assert.match(leaf.serial_number, /^[0-9a-f]+$/);
  assert.ok(Date.parse(leaf.expiration_time) > NOW_MS - 1e12);
  assert.notEqual(root.serial_number, leaf.serial_number);
});

test("admin: logging shows and sets levels in Envoy's words", async () => {
  const all = testAdmin();
  assert.equal(await all.text("/logging", "POST"), "active loggers:\n  default: info\n");
  assert.equal(await all.text("/logging?level=warning", "POST"), "active loggers:\n  default: warning\n");
  assert.equal(all.directives, "warn");
  await all.text("/logging?paths=config:debug,hbone:trace", "POST");
  assert.equal(all.directives, "warn,config=debug,hbone=trace");
  await all.text("/logging?config=off", "POST");
  assert.equal(all.directives, "warn,hbone=trace,config=off");
  for (const query of ["level=loud", "paths=x", "a%20b=info"]) {
    assert.equal((await all.app.request(`/logging?${query}`, { method: "POST" })).status, 400, query);
  }
  assert.equal(all.directives, "warn,hbone=trace,config=off");
});

test("admin: logging does not show what only ztunnel's tools look for", async () => {
  const all = testAdmin();
  all.directives = "info,hickory_server::server=off,config=debug";
  assert.equal(await all.text("/logging", "POST"), "active loggers:\n  default: info\n  config: debug\n");
});

test("admin: what changes something takes POST alone", async () => {
  const all = testAdmin();
  for (
    const path of ["/quitquitquit", "/drain_listeners?graceful", "/healthcheck/fail", "/healthcheck/ok", "/logging"]
  ) {
    assert.equal((await all.app.request(path)).status, 405, path);
  }
  assert.deepEqual(all.asked, []);
  for (const path of ["/drain_listeners?graceful", "/healthcheck/fail", "/healthcheck/ok", "/quitquitquit"]) {
    assert.equal(await all.text(path, "POST"), "OK\n", path);
  }
  assert.deepEqual(all.asked, ["drain", "fail", "ok", "stop"]);
});

test("admin: memory, runtime, help, and 404 with help for what there is not", async () => {
  const all = testAdmin();
  assert.equal((await all.json("/memory"))["total_physical_bytes"], "3");
  assert.deepEqual(await all.json("/runtime"), { layers: [], entries: {} });
  assert.match(await all.text("/help"), /\/config_dump/);
  const missing = await all.app.request("/nothing");
  assert.equal(missing.status, 404);
  assert.match(await missing.text(), /admin commands are/);
});
