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
  ISTIO_METAJSON_EXTRA: '{"EXTRA":{"a":[1]}}',
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
  addresses: readonly { readonly interface: string; readonly ip: string }[] = [],
): Promise<WaypointConfig> {
  const parsed = parseArguments(argv.split(" ").filter((text) => text !== ""), waypointOptions, {
    tolerateUnknown: true,
  });
  return buildWaypointConfig(parsed, env, {
    cpus,
    addresses: () => addresses,
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
    METADATA_DISCOVERY: "true",
    PILOT_SAN: ["istiod.istio-system.svc"],
    ENVOY_STATUS_PORT: 15021,
    ENVOY_PROMETHEUS_PORT: 15090,
    PROXY_CONFIG: {
      binaryPath: "/usr/local/bin/envoy",
      configPath: "./etc/istio/proxy",
      controlPlaneAuthPolicy: "MUTUAL_TLS",
      discoveryAddress: "istiod.istio-system.svc:15012",
      drainDuration: "45s",
      proxyAdminPort: 15000,
      serviceCluster: "istio-proxy",
      statNameLength: 189,
      statusPort: 15020,
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

test("waypoint config: under ambit local nothing is asked of istiod, and none of its files is looked for", async () => {
  const env = {
    LOCAL_CONTROL: "/run/waypoint.sock",
    POD_NAME: "waypoint",
    POD_NAMESPACE: "demo",
    INSTANCE_IP: "10.0.2.7",
    PILOT_CERT_PROVIDER: "none",
  };
  // A machine that has what would be a foreign identity in a pod.
  const files = { "./etc/certs/cert-chain.pem": "x", "./etc/certs/key.pem": "y" };
  const config = await build(env, files);
  assert.equal(config.localControl, "/run/waypoint.sock");
  assert.equal(config.xds.address, undefined);
  assert.equal(config.ca.address, undefined);
  await assert.rejects(build({ ...env, LOCAL_CONTROL: "" }, files), /an identity from files is not supported/);
  assert.equal((await build()).localControl, undefined);
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
  [{ ISTIO_METAJSON_X: "[1]" }, /ISTIO_METAJSON_X: must be a mapping/],
  [{ FILE_MOUNTED_CERTS: "true" }, /FILE_MOUNTED_CERTS: "true" is not supported/],
  [{ PROV_CERT: "/etc/certs" }, /PROV_CERT: .* is not supported/],
  [{ CA_PROVIDER: "GoogleCAS" }, /CA_PROVIDER: "GoogleCAS" is not supported/],
  [{ CREDENTIAL_FETCHER_TYPE: "GoogleComputeEngine" }, /CREDENTIAL_FETCHER_TYPE: .* is not supported/],
  [{ ENVOY_SECURE_METRICS_PORT: "15091" }, /ENVOY_SECURE_METRICS_PORT: "15091" is not supported/],
  [{ SECRET_GRACE_PERIOD_RATIO: "1.5" }, /SECRET_GRACE_PERIOD_RATIO: "1.5" must be a number from 0 to 1/],
  [{ WORKLOAD_RSA_KEY_SIZE: "1024" }, /WORKLOAD_RSA_KEY_SIZE: "1024" must be a whole number from 2048/],
  [{ ECC_SIGNATURE_ALGORITHM: "RSA" }, /ECC_SIGNATURE_ALGORITHM: "RSA" must be ECDSA/],
  [{ PROXY_CONFIG: '{"customConfigFile":"/x"}' }, /customConfigFile is not supported/],
  [{ COMPLIANCE_POLICY: "fips-140-3" }, /COMPLIANCE_POLICY: "fips-140-3" must be pqc or empty/],
];

for (const [change, message] of WRONG) {
  test(`waypoint config: refuses ${JSON.stringify(change)} by name`, async () => {
    await assert.rejects(build({ ...ENV, ...change }), message);
  });
}

test("waypoint config: who signed istiod's certificate decides by which roots it is trusted", async () => {
  const root = async (env: Record<string, string>) => (await build({ ...ENV, ...env })).xds.root;
  await assert.rejects(root({ PILOT_CERT_PROVIDER: "none" }), /PILOT_CERT_PROVIDER=none: nobody says by which root/);
  assert.deepEqual(await root({ PILOT_CERT_PROVIDER: "none", XDS_ROOT_CA: "SYSTEM", CA_ROOT_CA: "SYSTEM" }), {
    kind: "system",
  });
  assert.deepEqual(await root({ PILOT_CERT_PROVIDER: "kubernetes" }), {
    kind: "file",
    path: "./var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
  });
  assert.deepEqual(await root({ XDS_ROOT_CA: "SYSTEM" }), { kind: "system" });
  assert.deepEqual(await root({ XDS_ROOT_CA: "/x.pem" }), { kind: "file", path: "/x.pem" });
});

test("waypoint config: what pilot-agent reads of certificates is read", async () => {
  const config = await build();
  assert.deepEqual([config.secretGraceRatio, config.secretGraceJitter], [0.5, 0.01]);
  assert.equal(config.crlPath, "./var/run/secrets/istio/crl/ca-crl.pem");
  assert.deepEqual(config.key, { kind: "ec", curve: "P-256" });
  assert.equal(config.outputCerts, undefined);
  const other = await build({
    ...ENV,
    SECRET_TTL: "1h",
    SECRET_GRACE_PERIOD_RATIO: ".25",
    SECRET_GRACE_PERIOD_RATIO_JITTER: "0",
    ECC_SIGNATURE_ALGORITHM: "ECDSA",
    ECC_CURVE: "P384",
    WORKLOAD_RSA_KEY_SIZE: "2048",
    OUTPUT_CERTS: "/out",
    PILOT_ENABLE_CA_CRL: "false",
    ISTIO_META_CERT_SIGNER: "signer",
    // What says nothing is no reason to end.
    FILE_MOUNTED_CERTS: "false",
    PROV_CERT: "",
  });
  assert.deepEqual([other.ca.secretTtlMs, other.secretGraceRatio, other.secretGraceJitter], [3_600_000, 0.25, 0]);
  assert.deepEqual(other.key, { kind: "ec", curve: "P-384" });
  assert.deepEqual([other.outputCerts, other.crlPath, other.ca.certSigner], ["/out", undefined, "signer"]);
  assert.deepEqual((await build({ ...ENV, WORKLOAD_RSA_KEY_SIZE: "3072" })).key, { kind: "rsa", bits: 3072 });
});

test("waypoint config: an identity that pilot-agent would take from the pod's files is refused, not passed over", async () => {
  const mounted = { "./etc/certs/cert-chain.pem": "c", "./etc/certs/key.pem": "k" };
  await assert.rejects(build(ENV, { ...FILES, ...mounted }), /\.\/etc\/certs: an identity from files is not supported/);
  await build(ENV, { ...FILES, "./etc/certs/cert-chain.pem": "c" });
  // Its own output is none.
  await build({ ...ENV, OUTPUT_CERTS: "/etc/certs" }, { ...FILES, ...mounted });
  const socket = (name: string) => ({ ...FILES, [`./var/run/secrets/workload-spiffe-uds/${name}`]: "" });
  await assert.rejects(build(ENV, socket("socket")), /an identity provider \(SPIRE\) serves there/);
  await build(ENV, socket("other"));
  await assert.rejects(build({ ...ENV, WORKLOAD_IDENTITY_SOCKET_FILE: "other" }, socket("other")), /SPIRE/);
});

test("waypoint config: the pod's annotations come over PROXY_CONFIG, and what has no effect is said", async () => {
  const config = await build(
    { ...ENV, PROXY_CONFIG: '{"drainDuration":"3s","concurrency":4,"statsdUdpAddress":"a:1"}' },
    {
      ...FILES,
      "./etc/istio/pod/annotations": 'proxy.istio.io/config="drainDuration: 4s\\n"\n' +
        'sidecar.istio.io/discoveryAddress="other.istiod:15012"\nstatus.sidecar.istio.io/port="15999"',
    },
  );
  assert.equal(config.drainMs, 4_000);
  assert.equal(config.workers, 4);
  assert.equal(config.statsPort, 15999);
  assert.equal(config.xds.address, "https://other.istiod:15012");
  assert.deepEqual(config.notes, [
    "PROXY_CONFIG: statsdUdpAddress has no effect: metrics are not sent to statsd: scrape them",
  ]);
});

test("waypoint node: every address of the pod, the first that of INSTANCE_IP, without excluded interfaces", async () => {
  const files = { ...FILES, "./etc/istio/pod/annotations": 'traffic.sidecar.istio.io/excludeInterfaces="net1"' };
  const config = await build(ENV, files, ARGV, 8, [
    { interface: "eth0", ip: "10.0.2.7" },
    { interface: "eth0", ip: "2001:db8::7" },
    { interface: "net1", ip: "192.168.1.2" },
  ]);
  assert.deepEqual(config.instanceIps, ["10.0.2.7", "2001:db8::7"]);
  assert.equal(describeWaypointNode(config).metadata["INSTANCE_IPS"], "10.0.2.7,2001:db8::7");
});

test("waypoint node: where it is, by label", async () => {
  const at = async (labels: string) =>
    describeWaypointNode(await build(ENV, { ...FILES, "./etc/istio/pod/labels": labels }));
  assert.equal((await at("")).locality, undefined);
  const node = await at('istio-locality="r.z.s"');
  assert.deepEqual(node.locality, { region: "r", zone: "z", subZone: "s" });
  assert.deepEqual(node.metadata["LABELS"], { "istio-locality": "r/z/s" });
  assert.deepEqual((await at('istio-locality="a"\ntopology.istio.io/locality="r/z.1"')).locality, {
    region: "r",
    zone: "z.1",
    subZone: "",
  });
});

test("waypoint node: its name in traces is that of the application, unless ProxyConfig says another", async () => {
  const name = async (proxyConfig: string, labels = "", argv = ARGV) =>
    describeWaypointNode(
      await build({ ...ENV, PROXY_CONFIG: proxyConfig }, { ...FILES, "./etc/istio/pod/labels": labels }, argv),
    ).cluster;
  const canonical = 'service.istio.io/canonical-name="gate"';
  assert.equal(await name("{}", canonical), "gate.demo");
  assert.equal(await name("{}", `${canonical}\napp="shop"`), "shop.demo");
  assert.equal(await name('{"serviceCluster":"mine"}', canonical), "mine");
  assert.equal(await name('{"serviceCluster":""}', canonical, "--serviceCluster sa.demo"), "sa.demo");
  assert.equal(await name('{"tracingServiceName":"CANONICAL_NAME_ONLY"}', canonical), "gate");
  assert.equal(await name('{"tracingServiceName":"CANONICAL_NAME_AND_NAMESPACE"}', canonical), "gate.demo");
  assert.equal(await name("{}"), "waypoint.demo");
});

test("waypoint node: ISTIO_METAJSON_LABELS are labels that the pod's own win over", async () => {
  const node = describeWaypointNode(
    await build({ ...ENV, ISTIO_METAJSON_LABELS: '{"a":"json","b":"json"}' }, {
      ...FILES,
      "./etc/istio/pod/labels": 'a="pod"',
    }),
  );
  assert.deepEqual(node.metadata["LABELS"], { a: "pod", b: "json" });
  assert.deepEqual(node.metadata["STATIC_LABELS"], { a: "json", b: "json" });
});

test("waypoint config: the pod's labels are read again when they are asked for", async () => {
  const files = { ...FILES };
  const config = await build(ENV, files);
  files["./etc/istio/pod/labels"] = 'istio-locality="next"';
  assert.deepEqual(config.readPod().labels, { "istio-locality": "next" });
  assert.equal(describeWaypointNode({ ...config, ...config.readPod() }).locality?.region, "next");
  assert.equal(describeWaypointNode(config).locality, undefined);
});

test("waypoint config: a limit of connections by either of its names", async () => {
  const limit = async (proxyConfig: object) =>
    (await build({ ...ENV, PROXY_CONFIG: JSON.stringify(proxyConfig) })).maxConnections;
  assert.equal(await limit({}), undefined);
  const old = { runtimeValues: { "overload.global_downstream_max_connections": "70" } };
  assert.equal(await limit(old), 70);
  const proxyMetadata = { ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS: "50" };
  assert.equal(await limit({ ...old, proxyMetadata }), 50);
  await assert.rejects(
    limit({ proxyMetadata: { ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS: "many" } }),
    /must be a whole number/,
  );
});
