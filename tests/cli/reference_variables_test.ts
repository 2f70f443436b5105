/** Every variable that Istio's ztunnel reads, listed by hand from its own sources: none may be forgotten here. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatRoleHelp } from "../../src/cli/help.ts";
import { isPrefixOption } from "../../src/cli/options.ts";
import { ztunnelOptions } from "../../src/cli/ztunnel_options.ts";

/** Name and default as Istio has them; undefined: none. */
const VARIABLES: readonly (readonly [name: string, fallback: unknown])[] = [
  ["PROXY_MODE", "shared"],
  ["PROXY_WORKLOAD_INFO", undefined],
  ["ENABLE_PROXY", true],
  ["NODE_NAME", undefined],
  ["NETWORK", ""],
  ["CLUSTER_ID", "Kubernetes"],
  ["ISTIO_META_CLUSTER_ID", "Kubernetes"],
  ["CLUSTER_DOMAIN", "cluster.local"],
  ["TRUST_DOMAIN", "cluster.local"],
  ["POD_NAME", ""],
  ["POD_NAMESPACE", ""],
  ["SERVICE_ACCOUNT", ""],
  ["INSTANCE_IP", ""],
  ["PACKET_MARK", undefined],
  ["INPOD_UDS", undefined],
  ["INPOD_PORT_REUSE", true],
  ["ENABLE_ORIG_SRC", undefined],
  ["IPV6_ENABLED", true],
  ["XDS_ADDRESS", undefined],
  ["XDS_ROOT_CA", "./var/run/secrets/istio/root-cert.pem"],
  ["ALT_XDS_HOSTNAME", undefined],
  ["XDS_ON_DEMAND", false],
  ["CA_ADDRESS", undefined],
  ["CA_ROOT_CA", "./var/run/secrets/istio/root-cert.pem"],
  ["ALT_CA_HOSTNAME", undefined],
  ["SECRET_TTL", 86_400_000],
  ["FAKE_CA", false],
  ["AUTH_TOKEN", undefined],
  ["CRL_PATH", undefined],
  ["LOCAL_XDS_PATH", undefined],
  ["LOCAL_XDS", undefined],
  ["PREFERED_SERVICE_NAMESPACE", undefined],
  ["POOL_MAX_STREAMS_PER_CONNECTION", 100],
  ["POOL_UNUSED_RELEASE_TIMEOUT", 300_000],
  ["HTTP2_STREAM_WINDOW_SIZE", 4_194_304],
  ["HTTP2_CONNECTION_WINDOW_SIZE", 16_777_216],
  ["HTTP2_FRAME_SIZE", 1_048_576],
  ["KEEPALIVE_TIME", 180_000],
  ["KEEPALIVE_INTERVAL", 180_000],
  ["KEEPALIVE_RETRIES", 9],
  ["KEEPALIVE_ENABLED", true],
  ["USER_TIMEOUT_ENABLED", false],
  ["CONNECTION_TERMINATION_DEADLINE", undefined],
  ["TERMINATION_GRACE_PERIOD_SECONDS", undefined],
  ["LOCALHOST_APP_TUNNEL", true],
  ["ENABLE_RESPONSE_BAGGAGE", true],
  ["AUTHZ_POLICY_INFO_LOGGING", false],
  ["UNSTABLE_ENABLE_SOCKS5", false],
  ["TLS12_ENABLED", false],
  ["COMPLIANCE_POLICY", "none"],
  ["ZTUNNEL_WORKER_THREADS", undefined],
  ["ZTUNNEL_RESOURCE_CPU_LIMIT", undefined],
  ["ZTUNNEL_RESOURCE_CPU_REQUEST", undefined],
  ["ZTUNNEL_CPU_LIMIT", undefined],
  ["PROXY_CONFIG", undefined],
  ["ISTIO_META_DNS_CAPTURE", undefined],
  ["ISTIO_META_DNS_PROXY_ADDR", undefined],
  ["ISTIO_META_ISTIO_VERSION", undefined],
  ["RUST_LOG", "info"],
  ["LOG_FORMAT", "plain"],
  ["KUBERNETES_SERVICE_HOST", undefined],
];
const PREFIXES = ["XDS_HEADER_", "CA_HEADER_", "ISTIO_META_", "ISTIO_METAJSON_"];

const options = Object.values(ztunnelOptions);

for (const [name, fallback] of VARIABLES) {
  test(`reference variables: ${name} is read and has Istio's default`, () => {
    const option = options.find((option) => !isPrefixOption(option) && option.env.includes(name));
    assert.ok(option !== undefined && !isPrefixOption(option), "no option reads it");
    assert.equal(option.fallback, fallback);
  });
}

test("reference variables: those with a name of their own behind a prefix are read", () => {
  const prefixes = options.flatMap((option) => isPrefixOption(option) ? [option.envPrefix] : []);
  assert.deepEqual(prefixes.toSorted(), PREFIXES.toSorted());
});

test("reference variables: --help names every one", () => {
  const help = formatRoleHelp({ usage: "", summary: "", table: ztunnelOptions });
  for (const name of [...VARIABLES.map(([name]) => name), ...PREFIXES]) assert.ok(help.includes(name), name);
});

test("reference variables: what is no variable of Istio's begins with AMBIT or LOCAL_CONTROL", () => {
  const known = new Set(VARIABLES.map(([name]) => name));
  const own = options.flatMap((option) => isPrefixOption(option) ? [] : option.env).filter((name) => !known.has(name));
  for (const name of own) assert.match(name, /^(AMBIT_|LOCAL_CONTROL$)/);
});
