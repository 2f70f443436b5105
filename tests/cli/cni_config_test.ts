/** The node agent's options: Istio's names and defaults (reference cni.md 1.4), Go's ways of reading them, one frozen Config. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { buildCniConfig, buildCniStatusConfig } from "../../src/cli/cni_config.ts";
import { cniOptions, cniStatusOptions } from "../../src/cli/cni_options.ts";
import { parseGoBoolean, parseGoInteger } from "../../src/cli/cni_values.ts";
import type { CniConfig } from "../../src/cli/config.ts";
import { UsageError } from "../../src/cli/errors.ts";
import { formatRoleHelp } from "../../src/cli/help.ts";
import { parseArguments } from "../../src/cli/options.ts";

function build(env: Record<string, string> = {}, argv: readonly string[] = []): CniConfig {
  return buildCniConfig(parseArguments(argv, cniOptions), env, { hostName: "machine" });
}

function refused(env: Record<string, string>, argv: readonly string[] = []): string {
  try {
    build(env, argv);
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new assert.AssertionError({ message: "it was taken" });
}

/** Every variable of install-cni that has a use or is registered, with its default as the option has it. */
const VARIABLES: readonly (readonly [name: string, fallback: unknown])[] = [
  ["MOUNTED_CNI_NET_DIR", "/host/etc/cni/net.d"],
  ["CNI_CONF_NAME", undefined],
  ["CHAINED_CNI_PLUGIN", true],
  ["CNI_AGENT_RUN_DIR", "/var/run/istio-cni"],
  ["ISTIO_OWNED_CNI_CONFIG", false],
  ["ISTIO_OWNED_CNI_CONFIG_FILENAME", undefined],
  ["ISTIO_OWNED_CNI_CONF_FILENAME", undefined],
  ["KUBECONFIG_MODE", 0o600],
  ["CNI_CONF_GROUP_READ", false],
  ["KUBE_CA_FILE", undefined],
  ["SKIP_TLS_VERIFY", false],
  ["MONITORING_PORT", 15_014],
  ["ZTUNNEL_UDS_ADDRESS", "/var/run/ztunnel/ztunnel.sock"],
  ["LOG_LEVEL", undefined],
  ["CNI_NETWORK_CONFIG", undefined],
  ["CNI_NETWORK_CONFIG_FILE", undefined],
  ["AMBIENT_ENABLED", false],
  ["AMBIENT_ENABLEMENT_SELECTOR", undefined],
  ["AMBIENT_DNS_CAPTURE", false],
  ["AMBIENT_IPV6", false],
  ["AMBIENT_RECONCILE_POD_RULES_ON_STARTUP", false],
  ["AMBIENT_DISABLE_SAFE_UPGRADE", false],
  ["ENABLE_AMBIENT_DETECTION_RETRY", false],
  ["NATIVE_NFTABLES", false],
  ["FORCE_IPTABLES_BINARY", undefined],
  ["EXCLUDE_NAMESPACES", []],
  ["POD_NAMESPACE", ""],
  ["POD_NAME", ""],
  ["NODE_NAME", undefined],
  ["SYSTEM_NAMESPACE", "istio-system"],
  ["REVISION", ""],
  ["HOST_PROBE_SNAT_IP", "169.254.7.127"],
  ["HOST_PROBE_SNAT_IPV6", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"],
  ["AMBIENT_USE_SCOPED_XTABLES_LOCKING", true],
  ["AMBIENT_ENABLE_AWS_BRANCH_ENI_PROBE", true],
  ["ALLOW_SWITCH_TO_HOST_NS", false],
  ["KUBERNETES_SERVICE_HOST", undefined],
  ["KUBERNETES_SERVICE_PORT", undefined],
  ["KUBERNETES_SERVICE_PROTOCOL", "https"],
  ["KUBERNETES_NODE_NAME", undefined],
  ["REPAIR_ENABLED", true],
  ["REPAIR_REPAIR_PODS", false],
  ["REPAIR_DELETE_PODS", false],
  ["REPAIR_LABEL_PODS", false],
  ["REPAIR_NODE_NAME", undefined],
  ["REPAIR_SIDECAR_ANNOTATION", undefined],
  ["REPAIR_INIT_CONTAINER_NAME", undefined],
  ["REPAIR_INIT_CONTAINER_TERMINATION_MESSAGE", undefined],
  ["REPAIR_INIT_CONTAINER_EXIT_CODE", undefined],
  ["REPAIR_BROKEN_POD_LABEL_KEY", undefined],
  ["REPAIR_BROKEN_POD_LABEL_VALUE", undefined],
  ["REPAIR_LABEL_SELECTORS", undefined],
  ["REPAIR_FIELD_SELECTORS", undefined],
];

test("cni variables: every one of install-cni is read and has Istio's default", () => {
  const options = Object.values(cniOptions);
  for (const [name, fallback] of VARIABLES) {
    const option = options.find(({ env }) => env.includes(name));
    assert.ok(option !== undefined, `no option reads ${name}`);
    assert.deepEqual(option.fallback, fallback, name);
  }
});

test("cni variables: what is none of Istio's begins with AMBIT", () => {
  const known = new Set(VARIABLES.map(([name]) => name));
  for (const name of Object.values(cniOptions).flatMap(({ env }) => env)) {
    assert.ok(known.has(name) || name.startsWith("AMBIT_"), name);
  }
});

test("cni variables: each has the flag that Istio derives from it", () => {
  const flags = new Set(Object.values(cniOptions).map(({ flag }) => flag));
  for (const [name] of VARIABLES) {
    if (name === "ISTIO_OWNED_CNI_CONF_FILENAME") continue;
    assert.ok(flags.has(name.toLowerCase().replaceAll("_", "-")), name);
  }
  for (const flag of ["log_output_level", "log_as_json", "log_target", "log_rotate", "ctrlz_address", "ctrlz_port"]) {
    assert.ok(flags.has(flag), flag);
  }
});

test("cni --help: names every flag, variable and default", () => {
  const help = formatRoleHelp({ usage: "", summary: "", table: cniOptions });
  for (const { flag, env } of Object.values(cniOptions)) {
    assert.ok(help.includes(`--${flag}=`), flag);
    for (const name of env) assert.ok(help.includes(name), name);
  }
  assert.match(help, /default\s+02-istio-cni\.conflist/);
});

test("cni: as the chart sets it", () => {
  const config = build({
    AMBIENT_ENABLED: "true",
    AMBIENT_ENABLEMENT_SELECTOR: "- podSelector: {}",
    AMBIENT_DNS_CAPTURE: "true",
    AMBIENT_IPV6: "true",
    AMBIENT_RECONCILE_POD_RULES_ON_STARTUP: "true",
    ALLOW_SWITCH_TO_HOST_NS: "true",
    EXCLUDE_NAMESPACES: " kube-system ,, istio-system,kube-system",
    NODE_NAME: "node-a",
    POD_NAMESPACE: "istio-system",
    REPAIR_REPAIR_PODS: "true",
    REPAIR_DELETE_PODS: "true",
    CNI_CONF_NAME: "",
    CURRENT_AGENT_VERSION: "1.31.0",
  }, ["--log_output_level=default:info,cni-plugin:debug"]);
  assert.equal(config.nodeName, "node-a");
  assert.deepEqual(config.excludedNamespaces, ["kube-system", "istio-system"]);
  assert.deepEqual([config.hostRoot, config.procRoot], ["/host", "/host/proc"]);
  assert.equal(config.repair, "repair");
  assert.equal(config.ambient.hostNetns, "/host/proc/1/ns/net");
  assert.ok(config.ambient.dnsCapture && config.ambient.ipv6 && config.ambient.reconcileOnStartup);
  assert.equal(config.install.confName, undefined);
  assert.equal(config.install.binaryDir, "/host/opt/cni/bin");
  assert.equal(config.install.pluginLogLevel, "debug");
  assert.ok(Object.isFrozen(config) && Object.isFrozen(config.ambient) && Object.isFrozen(config.install));
});

test("cni: a flag wins over its variable, a variable over the default, an empty variable is none", () => {
  assert.equal(build({ SYSTEM_NAMESPACE: "a" }, ["--system-namespace=b"]).systemNamespace, "b");
  assert.equal(build({ SYSTEM_NAMESPACE: "a" }).systemNamespace, "a");
  assert.equal(build({ SYSTEM_NAMESPACE: "" }).systemNamespace, "istio-system");
  assert.equal(build({ CHAINED_CNI_PLUGIN: "" }).install.chained, true);
  assert.equal(build({ KUBECONFIG_MODE: "" }).install.kubeconfigMode, 0o600);
});

test("cni: both names of the owned configuration's file are taken, Istio's own first", () => {
  const chart = { ISTIO_OWNED_CNI_CONF_FILENAME: "01-a.conflist" };
  assert.equal(build(chart).install.ownedConfigFile, "01-a.conflist");
  const both = { ...chart, ISTIO_OWNED_CNI_CONFIG_FILENAME: "00-b.conflist" };
  assert.equal(build(both).install.ownedConfigFile, "00-b.conflist");
  assert.equal(build({ ...both, ISTIO_OWNED_CNI_CONFIG_FILENAME: "" }).install.ownedConfigFile, "01-a.conflist");
  assert.equal(build().install.ownedConfigFile, "02-istio-cni.conflist");
});

test("cni: the node is NODE_NAME, else KUBERNETES_NODE_NAME, else the machine", () => {
  assert.equal(build({ NODE_NAME: "a", KUBERNETES_NODE_NAME: "b" }).nodeName, "a");
  assert.equal(build({ KUBERNETES_NODE_NAME: "b" }).nodeName, "b");
  assert.equal(build().nodeName, "machine");
});

test("cni: modes are octal as in Go, metrics are off at 0 and below", () => {
  assert.equal(build({ KUBECONFIG_MODE: "0640" }).install.kubeconfigMode, 0o640);
  assert.equal(build({ KUBECONFIG_MODE: "0o644" }).install.kubeconfigMode, 0o644);
  assert.equal(build({ KUBECONFIG_MODE: "384" }).install.kubeconfigMode, 0o600);
  assert.equal(build({ MONITORING_PORT: "-1" }).monitoringPort, 0);
});

test("cni: a host root of / is the node's own files", () => {
  const config = build({ AMBIT_HOST_ROOT: "/", ALLOW_SWITCH_TO_HOST_NS: "1" });
  assert.deepEqual([config.hostRoot, config.procRoot, config.ambient.hostNetns], ["", "/proc", "/proc/1/ns/net"]);
});

test("cni: the first mode of repair counts, and REPAIR_ENABLED rules all", () => {
  assert.equal(build({ REPAIR_LABEL_PODS: "true", REPAIR_DELETE_PODS: "t" }).repair, "delete");
  assert.equal(build({ REPAIR_LABEL_PODS: "true" }).repair, "label");
  assert.equal(build({ REPAIR_LABEL_PODS: "true", REPAIR_ENABLED: "false" }).repair, "none");
  assert.equal(build().repair, "none");
});

test("cni: the log goes to every target that is named, at the scopes' levels", () => {
  assert.deepEqual(build({}, ["--log_target=stderr", "--log_target", "/tmp/x.log", "--log_target=stderr"]).logTargets, [
    "stderr",
    "/tmp/x.log",
  ]);
  assert.deepEqual(build().logTargets, ["stdout"]);
  const levels = (text: string) => build({}, [`--log_output_level=${text}`]).install.pluginLogLevel;
  assert.deepEqual(
    ["default:warn", "cni-plugin:none", "all:debug,cni-plugin:error", "cni-agent:debug", "error"].map(levels),
    ["warn", "none", "error", "info", "error"],
  );
});

test("cni: what is only registered is taken", () => {
  build({ LOG_LEVEL: "warn", CNI_NETWORK_CONFIG: "{}" }, [
    "--log_rotate=/x",
    "--log_rotate_max_age=30",
    "--log_stacktrace_level=default:none",
    "--log_caller=x",
    "--vklog=3",
  ]);
});

test("cni: what cannot be used is refused, with name, value and what is allowed", () => {
  const ambient = { AMBIENT_ENABLED: "true", AMBIENT_ENABLEMENT_SELECTOR: "[]" };
  const table: [Record<string, string>, string[], RegExp][] = [
    [{ AMBIENT_ENABLED: "true" }, [], /AMBIENT_ENABLEMENT_SELECTOR/],
    [{ ...ambient, AMBIENT_IPV6: "yes" }, [], /^environment variable AMBIENT_IPV6: "yes" must be true or false$/],
    [{ FORCE_IPTABLES_BINARY: "iptables" }, [], /must be legacy, nft or empty/],
    [{ HOST_PROBE_SNAT_IP: "::1" }, [], /must be an IPv4 address/],
    [{ HOST_PROBE_SNAT_IPV6: "10.0.0.1" }, [], /must be an IPv6 address/],
    [{ KUBECONFIG_MODE: "rw" }, [], /KUBECONFIG_MODE: "rw" must be a whole number/],
    [{ KUBECONFIG_MODE: "01000" }, [], /whole number from 0 to 511/],
    [{ ISTIO_OWNED_CNI_CONFIG: "true", CHAINED_CNI_PLUGIN: "false" }, [], /needs CHAINED_CNI_PLUGIN/],
    [{ CNI_AGENT_RUN_DIR: `/${"x".repeat(100)}` }, [], /too long for a unix socket/],
    [{ AMBIT_CNI_VERIFY_INTERVAL: "often" }, [], /must be a duration/],
    [{}, ["--ambient-enable=true"], /did you mean --ambient-enabled\?/],
    [{}, ["--log_output_level=x:loud"], /must be LEVEL or SCOPE:LEVEL/],
  ];
  for (const [env, argv, pattern] of table) assert.match(refused(env, argv), pattern);
});

test("cni values: booleans and numbers as Go reads them", () => {
  for (const text of ["1", "t", "T", "TRUE", "true", "True"]) assert.equal(parseGoBoolean(text), true);
  for (const text of ["0", "f", "F", "FALSE", "false", "False"]) assert.equal(parseGoBoolean(text), false);
  for (const text of ["yes", "", "tRUE", " true"]) assert.throws(() => parseGoBoolean(text), /must be true or false/);
  const numbers: [string, number][] = [["0", 0], ["-0", 0], ["07", 7], ["0x1F", 31], ["0b101", 5], ["-12", -12]];
  for (const [text, value] of numbers) assert.ok(Object.is(parseGoInteger(text, -100, 100), value), text);
  for (const text of ["", "08", "1e2", "+1", "1 ", "0x", "--1", "101"]) {
    assert.throws(() => parseGoInteger(text, -100, 100), /must be a whole number/, text);
  }
});

test("cni status: its flags", () => {
  const status = (argv: string[], env: Record<string, string> = {}) =>
    buildCniStatusConfig(parseArguments(argv, cniStatusOptions), env);
  assert.deepEqual(status([]), { runDir: "/var/run/istio-cni", namespace: undefined, json: false });
  assert.deepEqual(status(["--json", "--namespace=shop"], { CNI_AGENT_RUN_DIR: "/x" }), {
    runDir: "/x",
    namespace: "shop",
    json: true,
  });
  assert.throws(() => status(["shop"]), /unexpected argument "shop"/);
});
