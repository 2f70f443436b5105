/** Every variable that pilot-agent and istiod's template for waypoints have, listed by hand from waypoint.md 1.3: what becomes of each. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatRoleHelp } from "../../src/cli/help.ts";
import { isPrefixOption } from "../../src/cli/options.ts";
import { waypointOptions } from "../../src/cli/waypoint_options.ts";

/** Read, with pilot-agent's default; undefined: none. */
const READ: readonly (readonly [name: string, fallback: unknown])[] = [
  ["POD_NAME", ""],
  ["POD_NAMESPACE", ""],
  ["INSTANCE_IP", ""],
  ["SERVICE_ACCOUNT", ""],
  ["ISTIO_META_NODE_NAME", ""],
  ["ISTIO_META_CLUSTER_ID", "Kubernetes"],
  ["ISTIO_META_CERT_SIGNER", ""],
  ["TRUST_DOMAIN", "cluster.local"],
  ["ISTIO_CPU_LIMIT", undefined],
  ["PROXY_CONFIG", undefined],
  ["PILOT_CERT_PROVIDER", "istiod"],
  ["CA_ADDR", undefined],
  ["CA_ROOT_CA", undefined],
  ["XDS_ROOT_CA", undefined],
  ["ISTIOD_SAN", undefined],
  ["SECRET_TTL", 86_400_000],
  ["SECRET_GRACE_PERIOD_RATIO", 0.5],
  ["SECRET_GRACE_PERIOD_RATIO_JITTER", 0.01],
  // pilot-agent makes RSA keys of 2048 bits; a key is RSA here only where this is set.
  ["WORKLOAD_RSA_KEY_SIZE", undefined],
  ["ECC_SIGNATURE_ALGORITHM", ""],
  ["ECC_CURVE", "P256"],
  ["PKCS8_KEY", false],
  ["OUTPUT_CERTS", undefined],
  ["PILOT_ENABLE_CA_CRL", true],
  ["COMPLIANCE_POLICY", "none"],
  ["ENVOY_STATUS_PORT", 15021],
  ["ENVOY_PROMETHEUS_PORT", 15090],
  ["EXIT_ON_ZERO_ACTIVE_CONNECTIONS", false],
  ["MINIMUM_DRAIN_DURATION", 5_000],
  ["WORKLOAD_IDENTITY_SOCKET_FILE", "socket"],
];
/** Anything but what says nothing ends the start. */
const REFUSED: readonly (readonly [name: string, neutral: string, wrong: string])[] = [
  ["FILE_MOUNTED_CERTS", "false", "true"],
  ["PROV_CERT", "", "/etc/certs"],
  ["CA_PROVIDER", "Citadel", "GoogleCA"],
  ["CREDENTIAL_FETCHER_TYPE", "JWT", "GoogleComputeEngine"],
  ["XDS_AUTH_PROVIDER", "", "gcp"],
  ["PROXY_CONFIG_XDS_AGENT", "false", "true"],
  ["ENVOY_SECURE_METRICS_PORT", "0", "15091"],
  ["ENVOY_SECURE_MERGED_METRICS_PORT", "0", "15092"],
  ["ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL", "false", "true"],
  ["DISABLE_ENVOY", "false", "true"],
];
const PREFIXES = ["XDS_HEADER_", "CA_HEADER_", "ISTIO_META_", "ISTIO_METAJSON_"];

const options = Object.values(waypointOptions);
const optionOf = (name: string) => {
  const option = options.find((each) => !isPrefixOption(each) && each.env.includes(name));
  assert.ok(option !== undefined && !isPrefixOption(option), `no option reads ${name}`);
  return option;
};

for (const [name, fallback] of READ) {
  test(`waypoint variables: ${name} is read and has pilot-agent's default`, () => {
    assert.equal(optionOf(name).fallback, fallback);
  });
}

for (const [name, neutral, wrong] of REFUSED) {
  test(`waypoint variables: ${name} is refused, unless it says nothing`, () => {
    const { parse } = optionOf(name);
    assert.equal(parse(neutral), undefined);
    assert.throws(() => parse(wrong), /not supported/);
  });
}

test("waypoint variables: those with a name of their own behind a prefix are read", () => {
  const prefixes = options.flatMap((option) => isPrefixOption(option) ? [option.envPrefix] : []);
  assert.deepEqual(prefixes.toSorted(), PREFIXES.toSorted());
});

test("waypoint variables: --help names every one", () => {
  const help = formatRoleHelp({ usage: "", summary: "", table: waypointOptions });
  for (const name of [...READ, ...REFUSED].map(([name]) => name)) assert.ok(help.includes(name), name);
});
