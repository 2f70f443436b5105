import assert from "node:assert/strict";
import { test } from "node:test";
import type { ZtunnelConfig } from "../../src/cli/config.ts";
import { UsageError } from "../../src/cli/errors.ts";
import { parseArguments } from "../../src/cli/options.ts";
import { buildZtunnelConfig, terminationDeadlineMs } from "../../src/cli/ztunnel_config.ts";
import { ztunnelOptions } from "../../src/cli/ztunnel_options.ts";

interface Machine {
  readonly cpus?: number;
  readonly files?: Readonly<Record<string, string>>;
}

function build(env: Record<string, string> = {}, argv: string[] = [], machine: Machine = {}): Promise<ZtunnelConfig> {
  const files = machine.files ?? {};
  const host = {
    cpus: machine.cpus ?? 8,
    exists: (path: string) => Object.hasOwn(files, path),
    readText: (path: string) => files[path],
    loadYaml: async () => (await import("yaml")).parse,
  };
  return buildZtunnelConfig(parseArguments(argv, ztunnelOptions), env, host, ["ztunnel", ...argv].join(" "));
}

async function refused(env: Record<string, string>, machine: Machine = {}): Promise<string> {
  try {
    await build(env, [], machine);
  } catch (error) {
    assert.ok(error instanceof UsageError, String(error));
    return error.message;
  }
  return assert.fail("no error");
}

test("ztunnel config: the defaults are ztunnel's", async () => {
  assert.deepEqual(await build(), {
    role: "ztunnel",
    proxyMode: "shared",
    proxyWorkload: undefined,
    proxyEnabled: true,
    nodeName: undefined,
    network: "",
    clusterId: "Kubernetes",
    clusterDomain: "cluster.local",
    trustDomain: "cluster.local",
    podName: "",
    podNamespace: "",
    serviceAccount: "",
    instanceIp: "",
    packetMark: 1337,
    podSource: "agent",
    inpodSocketPath: "/var/run/ztunnel/ztunnel.sock",
    inpodPortReuse: true,
    requireOriginalSource: undefined,
    ipv6Enabled: true,
    xds: {
      address: "https://localhost:15012",
      root: { kind: "file", path: "./var/run/secrets/istio/root-cert.pem" },
      altHostname: undefined,
      headers: [],
      onDemand: false,
    },
    ca: {
      address: "https://localhost:15012",
      root: { kind: "file", path: "./var/run/secrets/istio/root-cert.pem" },
      altHostname: undefined,
      headers: [],
      secretTtlMs: 86_400_000,
      fake: false,
    },
    authToken: { kind: "none" },
    crlPath: undefined,
    localXds: { kind: "none" },
    localControl: undefined,
    preferredServiceNamespace: undefined,
    poolMaxStreamsPerConnection: 100,
    poolUnusedReleaseTimeoutMs: 300_000,
    http2StreamWindowBytes: 4_194_304,
    http2ConnectionWindowBytes: 16_777_216,
    http2FrameBytes: 1_048_576,
    socket: {
      keepaliveEnabled: true,
      keepaliveTimeMs: 180_000,
      keepaliveIntervalMs: 180_000,
      keepaliveRetries: 9,
      userTimeoutEnabled: false,
    },
    terminationDeadlineMs: 5000,
    localhostAppTunnel: true,
    responseBaggage: true,
    authzPolicyInfoLogging: false,
    socks5Enabled: false,
    tls12Enabled: false,
    compliancePolicy: "none",
    workers: 2,
    adminPort: 15000,
    statsPort: 15020,
    readinessPort: 15021,
    dnsProxyEnabled: true,
    dnsProxyAddress: "localhost:15053",
    dnsTtlSeconds: 30,
    proxyMetadata: {},
    proxyMetadataJson: {},
    istioVersion: undefined,
    proxyArgs: "ztunnel",
    log: { filter: "info", format: "plain" },
  });
});

/** Every variable with a value that is not its default, and where it must arrive. */
const VARIABLES: readonly [name: string, value: string, read: (config: ZtunnelConfig) => unknown, expected: unknown][] =
  [
    ["ENABLE_PROXY", "false", (c) => c.proxyEnabled, false],
    ["NODE_NAME", "n1", (c) => c.nodeName, "n1"],
    ["NETWORK", "net", (c) => c.network, "net"],
    ["CLUSTER_ID", "c1", (c) => c.clusterId, "c1"],
    ["CLUSTER_DOMAIN", "d", (c) => c.clusterDomain, "d"],
    ["TRUST_DOMAIN", "td", (c) => c.trustDomain, "td"],
    ["POD_NAME", "p", (c) => c.podName, "p"],
    ["POD_NAMESPACE", "ns", (c) => c.podNamespace, "ns"],
    ["SERVICE_ACCOUNT", "sa", (c) => c.serviceAccount, "sa"],
    ["INSTANCE_IP", "10.0.0.1", (c) => c.instanceIp, "10.0.0.1"],
    ["PACKET_MARK", "7", (c) => c.packetMark, 7],
    ["INPOD_UDS", "/s", (c) => c.inpodSocketPath, "/s"],
    ["INPOD_PORT_REUSE", "false", (c) => c.inpodPortReuse, false],
    ["ENABLE_ORIG_SRC", "false", (c) => c.requireOriginalSource, false],
    ["IPV6_ENABLED", "false", (c) => c.ipv6Enabled, false],
    ["XDS_ADDRESS", "x:1", (c) => c.xds.address, "https://x:1"],
    ["XDS_ADDRESS", "", (c) => c.xds.address, undefined],
    ["XDS_ROOT_CA", "SYSTEM", (c) => c.xds.root, { kind: "system" }],
    ["ALT_XDS_HOSTNAME", "alt", (c) => c.xds.altHostname, "alt"],
    ["XDS_HEADER_Tenant", "t", (c) => c.xds.headers, [["tenant", "t"]]],
    ["CA_ADDRESS", "https://ca:2", (c) => c.ca.address, "https://ca:2"],
    [
      "CA_ROOT_CA",
      "-----BEGIN CERTIFICATE-----x",
      (c) => c.ca.root,
      { kind: "pem", pem: "-----BEGIN CERTIFICATE-----x" },
    ],
    ["ALT_CA_HOSTNAME", "alt", (c) => c.ca.altHostname, "alt"],
    ["CA_HEADER_x-a", "t", (c) => c.ca.headers, [["x-a", "t"]]],
    ["SECRET_TTL", "1h", (c) => c.ca.secretTtlMs, 3_600_000],
    ["FAKE_CA", "true", (c) => [c.ca.fake, c.ca.address], [true, undefined]],
    ["AUTH_TOKEN", "abc", (c) => c.authToken, { kind: "literal", value: "abc" }],
    ["CRL_PATH", "/crl", (c) => c.crlPath, "/crl"],
    ["LOCAL_XDS_PATH", "/m.yaml", (c) => c.localXds, { kind: "file", path: "/m.yaml" }],
    ["LOCAL_XDS", "workloads: []", (c) => c.localXds, { kind: "yaml", text: "workloads: []" }],
    ["LOCAL_CONTROL", "/c.sock", (c) => c.localControl, "/c.sock"],
    ["PREFERED_SERVICE_NAMESPACE", "p", (c) => c.preferredServiceNamespace, "p"],
    ["POOL_MAX_STREAMS_PER_CONNECTION", "9", (c) => c.poolMaxStreamsPerConnection, 9],
    ["POOL_UNUSED_RELEASE_TIMEOUT", "1s", (c) => c.poolUnusedReleaseTimeoutMs, 1000],
    ["HTTP2_STREAM_WINDOW_SIZE", "70000", (c) => c.http2StreamWindowBytes, 70_000],
    ["HTTP2_CONNECTION_WINDOW_SIZE", "80000", (c) => c.http2ConnectionWindowBytes, 80_000],
    ["HTTP2_FRAME_SIZE", "16384", (c) => c.http2FrameBytes, 16_384],
    ["KEEPALIVE_TIME", "1s", (c) => c.socket.keepaliveTimeMs, 1000],
    ["KEEPALIVE_INTERVAL", "2s", (c) => c.socket.keepaliveIntervalMs, 2000],
    ["KEEPALIVE_RETRIES", "3", (c) => c.socket.keepaliveRetries, 3],
    ["KEEPALIVE_ENABLED", "false", (c) => c.socket.keepaliveEnabled, false],
    ["USER_TIMEOUT_ENABLED", "true", (c) => c.socket.userTimeoutEnabled, true],
    ["CONNECTION_TERMINATION_DEADLINE", "7s", (c) => c.terminationDeadlineMs, 7000],
    ["TERMINATION_GRACE_PERIOD_SECONDS", "30", (c) => c.terminationDeadlineMs, 25_000],
    ["LOCALHOST_APP_TUNNEL", "false", (c) => c.localhostAppTunnel, false],
    ["ENABLE_RESPONSE_BAGGAGE", "false", (c) => c.responseBaggage, false],
    ["AUTHZ_POLICY_INFO_LOGGING", "true", (c) => c.authzPolicyInfoLogging, true],
    ["UNSTABLE_ENABLE_SOCKS5", "true", (c) => c.socks5Enabled, true],
    ["TLS12_ENABLED", "true", (c) => c.tls12Enabled, true],
    ["COMPLIANCE_POLICY", "pqc", (c) => c.compliancePolicy, "pqc"],
    ["ZTUNNEL_WORKER_THREADS", "5", (c) => c.workers, 5],
    ["ZTUNNEL_RESOURCE_CPU_LIMIT", "3", (c) => c.workers, 3],
    ["ZTUNNEL_RESOURCE_CPU_REQUEST", "6", (c) => c.workers, 6],
    ["ZTUNNEL_CPU_LIMIT", "40", (c) => c.workers, 10],
    ["PROXY_CONFIG", "{concurrency: 3}", (c) => c.workers, 3],
    ["ISTIO_META_FOO", "bar", (c) => c.proxyMetadata, { FOO: "bar" }],
    ["ISTIO_METAJSON_L", '{"a":1}', (c) => c.proxyMetadataJson, { L: { a: 1 } }],
    ["ISTIO_META_ISTIO_VERSION", "1.31", (c) => c.istioVersion, "1.31"],
    ["ISTIO_META_CLUSTER_ID", "c2", (c) => c.clusterId, "c2"],
    ["ISTIO_META_DNS_CAPTURE", "no", (c) => c.dnsProxyEnabled, false],
    ["ISTIO_META_DNS_PROXY_ADDR", "127.0.0.2:53", (c) => c.dnsProxyAddress, "127.0.0.2:53"],
    ["AMBIT_DNS_TTL", "5", (c) => c.dnsTtlSeconds, 5],
    ["KUBERNETES_SERVICE_HOST", "10.0.0.1", (c) => c.xds.address, "https://istiod.istio-system.svc:15012"],
    ["RUST_LOG", "access=debug,warn", (c) => c.log.filter, "access=debug,warn"],
    ["LOG_FORMAT", "json", (c) => c.log.format, "json"],
  ];

for (const [name, value, read, expected] of VARIABLES) {
  test(`ztunnel config: ${name}=${value} takes effect`, async () => {
    assert.deepEqual(read(await build({ [name]: value })), expected);
  });
}

test("ztunnel config: every option's variable is in the table above or tested by name", () => {
  const tested = new Set([...VARIABLES.map(([name]) => name), "PROXY_MODE", "PROXY_WORKLOAD_INFO", "XDS_ON_DEMAND"]);
  for (const option of Object.values(ztunnelOptions)) {
    const names: readonly string[] = "envPrefix" in option ? [option.envPrefix] : option.env;
    for (const name of names) assert.ok([...tested].some((known) => known.startsWith(name)), name);
  }
});

test("ztunnel config: bad values are fatal and name their variable", async () => {
  const table: [Record<string, string>, RegExp][] = [
    [{ ENABLE_PROXY: "yes" }, /^environment variable ENABLE_PROXY: "yes" must be true or false$/],
    [{ SECRET_TTL: "1 day" }, /^environment variable SECRET_TTL: "1 day" must be a duration/],
    [{ PROXY_MODE: "Shared" }, /^environment variable PROXY_MODE: "Shared" must be shared or dedicated$/],
    [{ RUST_LOG: "loud" + "!" }, /^environment variable RUST_LOG: "loud!" must be levels/],
    [
      { HTTP2_FRAME_SIZE: "16383" },
      /^environment variable HTTP2_FRAME_SIZE: "16383" must be a whole number from 16384/,
    ],
    [{ COMPLIANCE_POLICY: "fips" }, /^environment variable COMPLIANCE_POLICY/],
    [{ ISTIO_METAJSON_X: "{" }, /^environment variable ISTIO_METAJSON_X: must be JSON$/],
    [{ "XDS_HEADER_a b": "x" }, /^environment variable XDS_HEADER_a b: "a b" must be an HTTP header name$/],
    [{ PROXY_CONFIG: "{" }, /^PROXY_CONFIG: not YAML/],
    [{ PROXY_CONFIG: "[]" }, /^PROXY_CONFIG: must be a YAML mapping$/],
    [{ PROXY_CONFIG: "{concurrency: -1}" }, /^PROXY_CONFIG: concurrency: -1 must be a whole number/],
    [{ PROXY_CONFIG: "{statsPort: 0}" }, /^PROXY_CONFIG: statsPort: 0 must be a whole number from 1/],
  ];
  for (const [env, pattern] of table) assert.match(await refused(env), pattern);
});

test("ztunnel config: combinations that cannot work are refused", async () => {
  assert.match(await refused({ PROXY_MODE: "dedicated" }), /needs PROXY_WORKLOAD_INFO/);
  assert.match(await refused({ LOCAL_XDS: "{}", LOCAL_XDS_PATH: "/x" }), /exclude each other/);
  assert.match(await refused({ XDS_ON_DEMAND: "true" }), /XDS_ON_DEMAND and the DNS proxy exclude each other/);
  assert.match(await refused({ ENABLE_PROXY: "false", ISTIO_META_DNS_CAPTURE: "false" }), /nothing to serve/);
});

test("ztunnel config: the dedicated mode has its workload and no mark", async () => {
  const config = await build({ PROXY_MODE: "dedicated", PROXY_WORKLOAD_INFO: "ns/pod/sa" });
  assert.deepEqual(config.proxyWorkload, { namespace: "ns", name: "pod", serviceAccount: "sa" });
  assert.equal(config.packetMark, undefined);
});

test("ztunnel config: PROXY_CONFIG is merged over the mesh file", async () => {
  const files = {
    "./etc/istio/config/mesh":
      "defaultConfig:\n  discoveryAddress: a:1\n  proxyAdminPort: 1\n  concurrency: 4\n  proxyMetadata: {A: x, B: y, ISTIO_META_C: z}\n",
  };
  const config = await build(
    { PROXY_CONFIG: "proxyAdminPort: 2\nstatsPort: 3\nproxyMetadata: {B: w, N: 5}\n", ISTIO_META_A: "env" },
    [],
    { files },
  );
  assert.equal(config.xds.address, "https://a:1");
  assert.equal(config.ca.address, "https://localhost:15012");
  assert.equal(config.adminPort, 2);
  assert.equal(config.statsPort, 3);
  assert.equal(config.workers, 4);
  assert.deepEqual(config.proxyMetadata, { A: "env", B: "w", C: "z", N: "5" });
});

test("ztunnel config: ISTIO_META_CLUSTER_ID wins over CLUSTER_ID", async () => {
  assert.equal((await build({ CLUSTER_ID: "a", ISTIO_META_CLUSTER_ID: "b" })).clusterId, "b");
});

test("ztunnel config: an existing path is a file, for tokens", async () => {
  const files = { "/t": "x", "./var/run/secrets/tokens/istio-token": "y" };
  assert.deepEqual((await build({ AUTH_TOKEN: "/t" }, [], { files })).authToken, { kind: "file", path: "/t" });
  assert.deepEqual((await build({}, [], { files })).authToken, {
    kind: "file",
    path: "./var/run/secrets/tokens/istio-token",
  });
});

test("ztunnel config: workers follow the rule of limits, requests and concurrency", async () => {
  const table: [Record<string, string>, number, number][] = [
    [{}, 4, 2],
    [{}, 64, 16],
    [{ ZTUNNEL_RESOURCE_CPU_REQUEST: "3" }, 4, 3],
    [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "1", ZTUNNEL_RESOURCE_CPU_REQUEST: "200m" }, 64, 1],
    [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "2", ZTUNNEL_RESOURCE_CPU_REQUEST: "4" }, 64, 4],
    [{ ZTUNNEL_CPU_LIMIT: "16" }, 64, 4],
    [{ ZTUNNEL_WORKER_THREADS: "50%" }, 5, 3],
    [{ ZTUNNEL_WORKER_THREADS: "1%" }, 5, 1],
    [{ ZTUNNEL_WORKER_THREADS: "0" }, 5, 5],
    [{ ZTUNNEL_WORKER_THREADS: "7", PROXY_CONFIG: "{concurrency: 3}" }, 5, 7],
    [{ PROXY_CONFIG: "{concurrency: 0}" }, 5, 5],
    [{ PROXY_CONFIG: "{concurrency: 1}", ZTUNNEL_RESOURCE_CPU_LIMIT: "8" }, 5, 1],
  ];
  for (const [env, cpus, expected] of table) {
    assert.equal((await build(env, [], { cpus })).workers, expected, JSON.stringify([env, cpus]));
  }
});

test("ztunnel config: the deadline leaves the end of the grace period free", () => {
  const table: [number | undefined, number | undefined, number][] = [
    [undefined, undefined, 5000],
    [undefined, 30, 25_000],
    [undefined, 11, 6000],
    [undefined, 10, 9000],
    [undefined, 1, 1000],
    [undefined, 0, 1000],
    [3000, 30, 3000],
  ];
  for (const [deadline, grace, expected] of table) assert.equal(terminationDeadlineMs(deadline, grace), expected);
});

test("ztunnel config: is frozen to its depth", async () => {
  const config = await build({ XDS_HEADER_A: "b" });
  assert.ok(Object.isFrozen(config) && Object.isFrozen(config.xds) && Object.isFrozen(config.xds.headers[0]));
});
