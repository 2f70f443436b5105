/** The waypoint's Config, from what istiod's template sets. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { WaypointConfig } from "../../src/cli/config.ts";
import { parseArguments } from "../../src/cli/options.ts";
import { buildWaypointConfig } from "../../src/cli/waypoint_config.ts";
import { waypointOptions } from "../../src/cli/waypoint_options.ts";
import { describeWaypointNode } from "../../src/waypoint/agent/node.ts";

/** As istiod renders it. */
const ENV = {
  POD_NAME: "waypoint-7d9f-abcde",
  POD_NAMESPACE: "demo",
  INSTANCE_IP: "10.0.2.7",
  SERVICE_ACCOUNT: "waypoint",
  HOST_IP: "192.168.0.4",
  ISTIO_CPU_LIMIT: "2",
  CA_ADDR: "istiod.istio-system.svc:15012",
  TRUST_DOMAIN: "cluster.local",
  PILOT_CERT_PROVIDER: "istiod",
  PROXY_CONFIG: '{"proxyMetadata":{"ISTIO_META_DNS_CAPTURE":"true","OTHER":"x"},"terminationDrainDuration":"7s"}\n',
  ISTIO_META_SERVICE_ACCOUNT: "waypoint",
  ISTIO_META_NODE_NAME: "node-1",
  ISTIO_META_CLUSTER_ID: "Kubernetes",
  ISTIO_META_INTERCEPTION_MODE: "REDIRECT",
  ISTIO_META_WORKLOAD_NAME: "waypoint",
  ISTIO_META_OWNER: "kubernetes://apis/apps/v1/namespaces/demo/deployments/waypoint",
  ISTIO_META_MESH_ID: "cluster.local",
  ISTIO_METAJSON_EXTRA: '{"a":[1]}',
};
const ARGV = "--domain demo.svc.cluster.local --serviceCluster waypoint.demo --proxyLogLevel warning " +
  "--proxyComponentLogLevel misc:error --log_output_level default:info --new thing";

const FILES: Record<string, string> = {
  "./etc/istio/pod/labels":
    'gateway.networking.k8s.io/gateway-name="waypoint"\npod-template-hash="7d9f"\nistio.io/dataplane-mode="none"',
  "./etc/istio/pod/annotations": 'istio.io/rev="default"',
};

function build(
  env: Record<string, string | undefined> = ENV,
  files: Record<string, string> = FILES,
  argv = ARGV,
  cpus = 8,
): Promise<WaypointConfig> {
  const parsed = parseArguments(argv.split(" ").filter((text) => text !== ""), waypointOptions, {
    tolerateUnknown: true,
  });
  return buildWaypointConfig(parsed, env, {
    cpus,
    exists: (path) => path in files,
    readText: (path) => files[path],
    loadYaml: async () => (await import("yaml")).parse,
  }, argv);
}

test("waypoint config: what istiod renders is taken as it is", async () => {
  const config = await build();
  assert.ok(Object.isFrozen(config) && Object.isFrozen(config.xds));
  assert.equal(config.xds.address, "https://istiod.istio-system.svc:15012");
  assert.equal(config.ca.address, "https://istiod.istio-system.svc:15012");
  assert.deepEqual(config.xds.root, { kind: "file", path: "./var/run/secrets/istio/root-cert.pem" });
  assert.deepEqual(config.authToken, { kind: "file", path: "./var/run/secrets/tokens/istio-token" });
  assert.equal(config.workers, 2);
  assert.equal(config.terminationDrainMs, 7_000);
  assert.equal(config.drainMs, 45_000);
  assert.equal(config.minimumDrainMs, 5_000);
  assert.equal(config.exitOnZeroConnections, false);
  assert.equal(config.ca.secretTtlMs, 86_400_000);
  assert.deepEqual(
    [config.hbonePort, config.adminPort, config.statsPort, config.readinessPort, config.prometheusPort],
    [15008, 15000, 15020, 15021, 15090],
  );
});

test("waypoint node: id and metadata as pilot-agent sends them", async () => {
  const node = describeWaypointNode(await build());
  assert.equal(node.id, "waypoint~10.0.2.7~waypoint-7d9f-abcde.demo~demo.svc.cluster.local");
  assert.equal(node.cluster, "waypoint.demo");
  assert.deepEqual(node.metadata, {
    NAME: "waypoint-7d9f-abcde",
    NAMESPACE: "demo",
    SERVICE_ACCOUNT: "waypoint",
    INSTANCE_IPS: "10.0.2.7",
    CLUSTER_ID: "Kubernetes",
    NODE_NAME: "node-1",
    ISTIO_VERSION: "1.31.0",
    ENVOY_STATUS_PORT: 15021,
    ENVOY_PROMETHEUS_PORT: 15090,
    PROXY_CONFIG: {
      proxyMetadata: { ISTIO_META_DNS_CAPTURE: "true", OTHER: "x" },
      terminationDrainDuration: "7s",
    },
    ANNOTATIONS: { "istio.io/rev": "default" },
    DNS_CAPTURE: "true",
    INTERCEPTION_MODE: "REDIRECT",
    WORKLOAD_NAME: "waypoint",
    OWNER: "kubernetes://apis/apps/v1/namespaces/demo/deployments/waypoint",
    MESH_ID: "cluster.local",
    EXTRA: { a: [1] },
    // Another pod of the same Deployment has another pod-template-hash.
    LABELS: { "gateway.networking.k8s.io/gateway-name": "waypoint", "istio.io/dataplane-mode": "none" },
  });
});

test("waypoint config: without files, configuration and limit the defaults hold", async () => {
  const { PROXY_CONFIG: _, ISTIO_CPU_LIMIT: __, CA_ADDR: ___, ...env } = ENV;
  const config = await build(env, {}, "");
  assert.equal(config.domain, "demo.svc.cluster.local");
  assert.equal(config.serviceCluster, "waypoint.demo");
  assert.equal(config.ca.address, "https://istiod.istio-system.svc:15012");
  assert.equal(config.workers, 2);
  assert.deepEqual(config.labels, {});
});

test("waypoint config: workers by flag, by ProxyConfig, by limit, never more than a limit's CPUs", async () => {
  const withConfig = (json: string) => ({ ...ENV, PROXY_CONFIG: json });
  assert.equal((await build(withConfig('{"concurrency":3}'))).workers, 3);
  assert.equal((await build(withConfig('{"concurrency":3}'), FILES, "--concurrency 1")).workers, 1);
  assert.equal((await build(withConfig('{"concurrency":0}'))).workers, 2);
  assert.equal((await build({ ...ENV, ISTIO_CPU_LIMIT: "500m" })).workers, 1);
  assert.equal((await build({ ...ENV, ISTIO_CPU_LIMIT: "64" }, FILES, "", 4)).workers, 4);
});

test("waypoint config: PROXY_CONFIG comes over the mesh file", async () => {
  const mesh = { "./etc/istio/config/mesh": "defaultConfig:\n  discoveryAddress: a:1\n  drainDuration: 3s\n" };
  const config = await build({ ...ENV, PROXY_CONFIG: '{"discoveryAddress":"b:2"}' }, mesh);
  assert.equal(config.xds.address, "https://b:2");
  assert.equal(config.drainMs, 3_000);
});

const WRONG: [Record<string, string | undefined>, RegExp][] = [
  [{ POD_NAME: undefined }, /POD_NAME is not set/],
  [{ INSTANCE_IP: "" }, /INSTANCE_IP is not set/],
  [{ PROXY_CONFIG: "{" }, /PROXY_CONFIG: neither JSON nor YAML/],
  [{ PROXY_CONFIG: "[1]" }, /PROXY_CONFIG: must be a mapping/],
  [{ PROXY_CONFIG: '{"discoveryAddress":"http://x"}' }, /discoveryAddress: "http:\/\/x" must be host:port/],
  [{ PROXY_CONFIG: '{"drainDuration":45}' }, /drainDuration: 45 must be a duration/],
  [{ PROXY_CONFIG: '{"statusPort":"high"}' }, /statusPort: "high" must be a whole number/],
  [{ PROXY_CONFIG: '{"proxyMetadata":{"A":{}}}' }, /proxyMetadata: A: must be text/],
  [{ ISTIO_METAJSON_X: "{" }, /ISTIO_METAJSON_X: must be JSON/],
  [{ ISTIO_CPU_LIMIT: "many" }, /ISTIO_CPU_LIMIT: "many" must be a CPU quantity/],
  [{ COMPLIANCE_POLICY: "fips-140-3" }, /COMPLIANCE_POLICY: "fips-140-3" must be pqc or empty/],
];

for (const [change, message] of WRONG) {
  test(`waypoint config: refuses ${JSON.stringify(change)} by name`, async () => {
    await assert.rejects(build({ ...ENV, ...change }), message);
  });
}

test("waypoint config: who signed istiod's certificate decides by which roots it is trusted", async () => {
  const root = async (env: Record<string, string>) => (await build({ ...ENV, ...env })).xds.root;
  assert.deepEqual(await root({ PILOT_CERT_PROVIDER: "none" }), { kind: "system" });
  assert.deepEqual(await root({ PILOT_CERT_PROVIDER: "kubernetes" }), {
    kind: "file",
    path: "./var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
  });
  assert.deepEqual(await root({ XDS_ROOT_CA: "SYSTEM" }), { kind: "system" });
  assert.deepEqual(await root({ XDS_ROOT_CA: "/x.pem" }), { kind: "file", path: "/x.pem" });
});
