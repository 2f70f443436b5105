import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSelectors } from "../../src/cni/eligibility.ts";
import { parsePluginConf, pluginEntry, readPluginConf } from "../../src/cni/net_conf.ts";

const SELECTORS = parseSelectors([{ podSelector: { matchLabels: { a: "b" } } }]);
const ENTRY = {
  logLevel: "info",
  agentRunDir: "/var/run/istio-cni",
  ambientEnabled: true,
  selectors: SELECTORS,
  excludedNamespaces: ["kube-system"],
  podNamespace: "istio-system",
  nativeNftables: true,
  detectionRetry: true,
};

test("net_conf: the entry has Istio's keys in Istio's order", () => {
  assert.equal(
    JSON.stringify(pluginEntry({ ...ENTRY, selectors: [], excludedNamespaces: [], nativeNftables: false })),
    '{"cniVersion":"0.3.1","name":"istio-cni","type":"istio-cni","ipam":{},"dns":{},"plugin_log_level":"info",' +
      '"cni_agent_run_dir":"/var/run/istio-cni","ambient_enabled":true,"enablement_selectors":[],' +
      '"exclude_namespaces":null,"pod_namespace":"istio-system","native_nftables":false,' +
      '"enable_ambient_detection_retry":true}',
  );
});

test("net_conf: the plugin reads what the installer wrote", () => {
  const conf = parsePluginConf(JSON.stringify({ ...pluginEntry(ENTRY), prevResult: { cniVersion: "0.3.1" } }));
  assert.deepEqual({ ...conf, enablementSelectors: parseSelectors(conf.enablementSelectors) }, {
    cniVersion: "0.3.1",
    name: "istio-cni",
    logLevel: "info",
    agentRunDir: "/var/run/istio-cni",
    ambientEnabled: true,
    enablementSelectors: SELECTORS,
    excludedNamespaces: ["kube-system"],
    podNamespace: "istio-system",
    nativeNftables: true,
    detectionRetry: true,
    prevResult: { cniVersion: "0.3.1" },
  });
});

test("net_conf: what is not said has Go's zero values, and unknown fields are left alone", () => {
  assert.deepEqual(parsePluginConf('{"name":"k8s","kubernetes":{"k":1},"exclude_namespaces":null,"prevResult":null}'), {
    cniVersion: "0.1.0",
    name: "k8s",
    logLevel: "",
    agentRunDir: "/var/run/istio-cni",
    ambientEnabled: false,
    enablementSelectors: undefined,
    excludedNamespaces: [],
    podNamespace: "",
    nativeNftables: false,
    detectionRetry: false,
    prevResult: undefined,
  });
});

test("net_conf: selectors nobody can read do not keep the rest from being read", () => {
  assert.equal(readPluginConf({ enablement_selectors: 7 }).enablementSelectors, 7);
});

test("net_conf: errors name the field", () => {
  const table: [string, RegExp][] = [
    ["{", /^failed to parse network configuration: /],
    ["[]", /^network configuration: must be an object, is \[\]$/],
    ['{"ambient_enabled":"true"}', /^network configuration: ambient_enabled: must be true or false, is "true"$/],
    ['{"exclude_namespaces":"a,b"}', /^network configuration: exclude_namespaces: must be a list, is "a,b"$/],
    ['{"exclude_namespaces":["a",1]}', /exclude_namespaces\[1\]: must be a string, is 1$/],
    ['{"pod_namespace":1}', /pod_namespace: must be a string, is 1$/],
    ['{"prevResult":[]}', /prevResult: must be an object, is \[\]$/],
  ];
  for (const [text, message] of table) assert.throws(() => parsePluginConf(text), { message });
});
