import assert from "node:assert/strict";
import { test } from "node:test";
import { composeConfigDump } from "../../src/admin/config_dump.ts";
import type { ConfigDumpInput } from "../../src/admin/config_dump.ts";
import { parseArguments } from "../../src/cli/options.ts";
import { buildZtunnelConfig } from "../../src/cli/ztunnel_config.ts";
import { ztunnelOptions } from "../../src/cli/ztunnel_options.ts";

async function dump(changes: Partial<ConfigDumpInput> = {}, env: Record<string, string> = {}) {
  const host = {
    cpus: 2,
    exists: () => false,
    readText: () => undefined,
    loadYaml: async () => (await import("yaml")).parse,
  };
  const config = await buildZtunnelConfig(parseArguments([], ztunnelOptions), env, host, "proxy ztunnel");
  const composed = composeConfigDump({
    mesh: { workloads: [], services: [], policies: [], stagedServices: {} },
    staticConfig: { workloads: [], services: [], policies: [] },
    config,
    certificates: [],
    pods: new Map(),
    build: { version: "1.2.3", gitRevision: "abc", buildProfile: "release", runtime: "bun 1", platform: "linux/x64" },
    ...changes,
  });
  return JSON.parse(JSON.stringify(composed));
}

test("config dump: has the keys that istioctl reads", async () => {
  assert.deepEqual(Object.keys(await dump()), [
    "workloads",
    "services",
    "policies",
    "stagedServices",
    "staticConfig",
    "version",
    "config",
    "certificates",
    "workloadState",
  ]);
  const env = { PROXY_MODE: "dedicated", PROXY_WORKLOAD_INFO: "a/b/c" };
  assert.equal("workloadState" in await dump({}, env), false);
});

test("config dump: the mesh is shown as it is given", async () => {
  const mesh = {
    workloads: [{ uid: "b", name: "x" }],
    services: [{ hostname: "z" }],
    policies: [{ name: "p", namespace: "a" }],
    stagedServices: {},
  };
  const composed = await dump({ mesh });
  for (const key of ["workloads", "services", "policies", "stagedServices"] as const) {
    assert.deepEqual(composed[key], mesh[key]);
  }
});

test("config dump: a certificate is base64 of PEM with a decimal serial number", async () => {
  const pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
  const certificate = {
    pem,
    serialNumber: 0xffff_ffff_ffff_ffff_ffffn,
    notBeforeMs: Date.UTC(2026, 0, 2, 3, 4, 5) + 678,
    notAfterMs: Date.UTC(2026, 0, 3, 3, 4, 5),
  };
  const { certificates } = await dump({
    certificates: [
      { identity: "spiffe://td/ns/b/sa/x", state: { kind: "unavailable", error: "denied" } },
      { identity: "spiffe://td/ns/c/sa/x", state: { kind: "initializing" } },
      { identity: "spiffe://td/ns/a/sa/x", state: { kind: "available", chain: [certificate], roots: [certificate] } },
    ],
  });
  const expected = {
    pem: btoa(pem),
    serialNumber: "1208925819614629174706175",
    validFrom: "2026-01-02T03:04:05Z",
    expirationTime: "2026-01-03T03:04:05Z",
  };
  assert.deepEqual(certificates, [
    { identity: "spiffe://td/ns/a/sa/x", state: "Available", certChain: [expected], rootCerts: [expected] },
    { identity: "spiffe://td/ns/b/sa/x", state: "Unavailable: denied", certChain: [], rootCerts: [] },
    { identity: "spiffe://td/ns/c/sa/x", state: "Initializing", certChain: [], rootCerts: [] },
  ]);
});

test("config dump: pods by uid with their connections", async () => {
  const pod = {
    state: "Up",
    connections: {
      inbound: [{ src: "1.1.1.1:1", originalDst: null, actualDst: "2.2.2.2:2", protocol: "HBONE" }],
      outbound: [{ src: "2.2.2.2:3", originalDst: "3.3.3.3:80", actualDst: "3.3.3.4:15008", protocol: "HBONE" }],
    },
    info: { name: "p", namespace: "n", serviceAccount: "s" },
  } as const;
  const { workloadState } = await dump({ pods: new Map([["uid-b", pod], ["uid-a", pod]]) });
  assert.deepEqual(Object.keys(workloadState), ["uid-a", "uid-b"]);
  assert.deepEqual(workloadState["uid-a"], pod);
});

test("config dump: the configuration has ztunnel's names and forms, and no credentials", async () => {
  const { config, version } = await dump({}, {
    NODE_NAME: "n1",
    POD_NAME: "zt",
    POD_NAMESPACE: "istio-system",
    SERVICE_ACCOUNT: "ztunnel",
    CA_HEADER_TOKEN: "secret-value",
    AUTH_TOKEN: "secret-token",
    XDS_ROOT_CA: "-----BEGIN CERTIFICATE-----",
    POOL_UNUSED_RELEASE_TIMEOUT: "1500ms",
    ISTIO_META_ISTIO_VERSION: "1.31.0",
    LOCAL_XDS: "secret: yaml",
  });
  assert.equal(config.numWorkerThreads, 2);
  assert.equal(config.localNode, "n1");
  assert.equal(config.inboundAddr, "[::]:15008");
  assert.equal(config.outboundAddr, "[::]:15001");
  assert.deepEqual(config.adminAddr, { Localhost: [true, 15000] });
  assert.deepEqual(config.statsAddr, { SocketAddr: "[::]:15020" });
  assert.deepEqual(config.illegalPorts, [15001, 15006, 15008]);
  assert.deepEqual(config.poolUnusedReleaseTimeout, { secs: 1, nanos: 500_000_000 });
  assert.deepEqual(config.secretTtl, { secs: 86_400, nanos: 0 });
  assert.deepEqual(config.caRootCert, { File: "./var/run/secrets/istio/root-cert.pem" });
  assert.equal(config.ztunnelIdentity, "spiffe://cluster.local/ns/istio-system/sa/ztunnel");
  assert.equal(config.proxyArgs, "proxy ztunnel");
  assert.deepEqual(config.caHeaders, [["token", "<redacted>"]]);
  assert.doesNotMatch(JSON.stringify(config), /secret-value|secret-token|secret: yaml/);
  assert.equal(version.istioVersion, "1.31.0");
  assert.equal(version.version, "1.2.3");
});

/** As Istio's ztunnel has them, in its order. */
const CONFIG_KEYS =
  "proxy dnsProxy windowSize connectionWindowSize frameSize poolMaxStreamsPerConn poolUnusedReleaseTimeout socks5Addr adminAddr statsAddr readinessAddr inboundAddr inboundPlaintextAddr outboundAddr dnsProxyAddr illegalPorts network localNode proxyMode proxyWorkloadInformation clusterId clusterDomain caAddress caRootCert altCaHostname xdsAddress xdsRootCert altXdsHostname preferedServiceNamespace secretTtl xdsOnDemand fakeCa fakeSelfInbound selfTerminationDeadline proxyMetadata numWorkerThreads requireOriginalSource proxyArgs dnsResolverCfg dnsResolverOpts inpodUds inpodPortReuse packetMark socketConfig xdsHeaders caHeaders localhostAppTunnel ztunnelIdentity ztunnelWorkload ipv6Enabled crlPath enableEnhancedBaggage";

test("config dump: the configuration has every key of ztunnel's", async () => {
  const { config } = await dump({
    resolver: { search: ["svc.cluster.local"], nameServers: ["10.96.0.10:53"], ndots: 5, attempts: 2, timeoutMs: 5000 },
  });
  assert.deepEqual(Object.keys(config), CONFIG_KEYS.split(" "));
  assert.deepEqual(config.dnsResolverCfg, {
    domain: null,
    search: ["svc.cluster.local"],
    name_servers: [{ socket_addr: "10.96.0.10:53" }],
  });
  assert.deepEqual(config.dnsResolverOpts, { ndots: 5, attempts: 2, timeout: { secs: 5, nanos: 0 } });
});

test("config dump: version has every key of ztunnel's", async () => {
  const { version } = await dump();
  assert.deepEqual(Object.keys(version), [
    "version",
    "gitRevision",
    "rustVersion",
    "buildProfile",
    "buildStatus",
    "istioVersion",
    "cryptoProvider",
  ]);
});
