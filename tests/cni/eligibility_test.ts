import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type JudgedPod,
  judgePod,
  namespaceMatchesAny,
  parseGoBool,
  parseSelectors,
  podOverrides,
} from "../../src/cni/eligibility.ts";

/** What Istio's chart sets. */
const DEFAULT_SELECTORS = parseSelectors([
  { podSelector: { matchLabels: { "istio.io/dataplane-mode": "ambient" } } },
  {
    podSelector: { matchExpressions: [{ key: "istio.io/dataplane-mode", operator: "NotIn", values: ["none"] }] },
    namespaceSelector: { matchLabels: { "istio.io/dataplane-mode": "ambient" } },
  },
]);
const AMBIENT = { "istio.io/dataplane-mode": "ambient" };
const NONE = { "istio.io/dataplane-mode": "none" };

function pod(labels: Record<string, string> = {}, rest: Partial<JudgedPod> = {}, annotations = {}): JudgedPod {
  return { metadata: { namespace: "shop", labels, annotations }, ...rest };
}

test("eligibility: the chart's selectors, pods' labels and namespaces' labels", () => {
  const table: [string, JudgedPod, Record<string, string>, boolean, string][] = [
    ["nothing labelled", pod(), {}, false, "no selector matches"],
    ["namespace labelled", pod(), AMBIENT, true, "selector 2 matches"],
    ["pod labelled, namespace not", pod(AMBIENT), {}, true, "selector 1 matches"],
    ["both labelled", pod(AMBIENT), AMBIENT, true, "selector 1 matches"],
    ["pod opts out", pod(NONE), AMBIENT, false, "no selector matches"],
    ["namespace opts out, pod in", pod(AMBIENT), NONE, true, "selector 1 matches"],
    ["another value", pod({ "istio.io/dataplane-mode": "ambience" }), {}, false, "no selector matches"],
    ["host network", pod(AMBIENT, { spec: { hostNetwork: true } }), AMBIENT, false, "hostNetwork"],
    ["host network said false", pod(AMBIENT, { spec: { hostNetwork: false } }), {}, true, "selector 1 matches"],
    [
      "sidecar",
      pod(AMBIENT, {}, { "sidecar.istio.io/status": "" }),
      AMBIENT,
      false,
      "annotation sidecar.istio.io/status",
    ],
    ["no metadata at all", {}, AMBIENT, true, "selector 2 matches"],
  ];
  for (const [name, judged, namespaceLabels, eligible, reason] of table) {
    assert.deepEqual(judgePod(judged, namespaceLabels, DEFAULT_SELECTORS), { eligible, reason }, name);
  }
});

test("eligibility: an excluded namespace comes before every selector", () => {
  const excluded = new Set(["shop"]);
  assert.deepEqual(judgePod(pod(AMBIENT), AMBIENT, DEFAULT_SELECTORS, excluded), {
    eligible: false,
    reason: "namespace is excluded",
  });
  assert.equal(judgePod(pod(AMBIENT), AMBIENT, DEFAULT_SELECTORS, new Set(["other"])).eligible, true);
});

test("eligibility: every operator, with and without the label", () => {
  const table: [unknown, Record<string, string>, boolean][] = [
    [{ key: "a", operator: "In", values: ["x", "y"] }, { a: "y" }, true],
    [{ key: "a", operator: "In", values: ["x"] }, { a: "y" }, false],
    [{ key: "a", operator: "In", values: ["x"] }, {}, false],
    [{ key: "a", operator: "In", values: [""] }, { a: "" }, true],
    [{ key: "a", operator: "NotIn", values: ["x"] }, { a: "x" }, false],
    [{ key: "a", operator: "NotIn", values: ["x"] }, { a: "y" }, true],
    [{ key: "a", operator: "NotIn", values: ["x"] }, {}, true],
    [{ key: "a", operator: "Exists" }, { a: "" }, true],
    [{ key: "a", operator: "Exists" }, { b: "" }, false],
    [{ key: "a", operator: "Exists", values: [] }, { a: "x" }, true],
    [{ key: "a", operator: "DoesNotExist" }, { a: "x" }, false],
    [{ key: "a", operator: "DoesNotExist" }, {}, true],
    // A name that every object of the language has is no label.
    [{ key: "constructor", operator: "Exists" }, {}, false],
  ];
  for (const [requirement, labels, matches] of table) {
    const selectors = parseSelectors([{ podSelector: { matchExpressions: [requirement] } }]);
    assert.equal(judgePod(pod(labels), {}, selectors).eligible, matches, JSON.stringify([requirement, labels]));
  }
});

test("eligibility: all parts of a selector must hold, one selector of the list is enough", () => {
  const both = parseSelectors([{
    podSelector: { matchLabels: { a: "1", b: "2" }, matchExpressions: [{ key: "c", operator: "Exists" }] },
  }]);
  assert.equal(judgePod(pod({ a: "1", b: "2", c: "" }), {}, both).eligible, true);
  const partial: Record<string, string>[] = [{ a: "1", b: "2" }, { a: "1", c: "" }, { b: "2", c: "" }];
  for (const labels of partial) assert.equal(judgePod(pod(labels), {}, both).eligible, false);
});

test("eligibility: empty selectors select everything, no selectors nothing", () => {
  for (const everything of [{}, { podSelector: {} }, { podSelector: null, namespaceSelector: { matchLabels: {} } }]) {
    assert.equal(judgePod(pod(), {}, parseSelectors([everything])).eligible, true);
  }
  for (const nothing of [undefined, null, []]) {
    assert.equal(judgePod(pod(AMBIENT), AMBIENT, parseSelectors(nothing)).eligible, false);
  }
});

test("eligibility: selectors that cannot be read are errors with their place", () => {
  const table: [unknown, RegExp][] = [
    [{}, /^enablement selectors: must be a list, is \{\}$/],
    [[{ podSelectors: {} }], /^enablement selector 1: unknown field "podSelectors"; the fields are podSelector, /],
    [[{}, "x"], /^enablement selector 2: must be an object, is "x"$/],
    [[{ podSelector: { matchlabels: {} } }], /^enablement selector 1: podSelector: unknown field "matchlabels"/],
    [
      [{ podSelector: { matchLabels: { a: true } } }],
      /podSelector\.matchLabels\["a"\]: must be a string, is true; quote/,
    ],
    [[{ podSelector: { matchLabels: { a: "x y" } } }], /matchLabels\["a"\]: "x y" is no label value$/],
    [[{ podSelector: { matchLabels: { "-a": "x" } } }], /matchLabels: "-a" is no label key$/],
    [[{ podSelector: { matchLabels: { "A/b": "x" } } }], /"A\/b" is no label key$/],
    [[{ podSelector: { matchLabels: { ["a".repeat(64)]: "x" } } }], /is no label key$/],
    [
      [{ namespaceSelector: { matchExpressions: [{ key: "a", operator: "in", values: ["x"] }] } }],
      /^enablement selector 1: namespaceSelector\.matchExpressions\[0\]\.operator: must be one of In, .*, is "in"$/,
    ],
    [[{ podSelector: { matchExpressions: [{ key: "a" }] } }], /operator: must be one of .*, is missing$/],
    [[{ podSelector: { matchExpressions: [{ operator: "Exists" }] } }], /\[0\]\.key: must be a string, is missing$/],
    [[{ podSelector: { matchExpressions: [{ key: "a", operator: "In" }] } }], /values: In needs at least one value$/],
    [
      [{ podSelector: { matchExpressions: [{ key: "a", operator: "Exists", values: ["x"] }] } }],
      /values: Exists takes no values$/,
    ],
    [
      [{ podSelector: { matchExpressions: [{ key: "a", operator: "In", values: ["x", 1] }] } }],
      /matchExpressions\[0\]\.values\[1\]: must be a string, is 1/,
    ],
    [
      [{ podSelector: { matchExpressions: [{ key: "a", operator: "In", value: ["x"] }] } }],
      /matchExpressions\[0\]: unknown field "value"/,
    ],
    [[{ podSelector: { matchExpressions: {} } }], /matchExpressions: must be a list/],
  ];
  for (const [value, message] of table) assert.throws(() => parseSelectors(value), { message });
});

test("eligibility: what is parsed can be written and parsed again", () => {
  const text = JSON.stringify(DEFAULT_SELECTORS);
  assert.deepEqual(parseSelectors(JSON.parse(text)), DEFAULT_SELECTORS);
  assert.equal(
    text,
    '[{"podSelector":{"matchLabels":{"istio.io/dataplane-mode":"ambient"}},"namespaceSelector":{}},' +
      '{"podSelector":{"matchExpressions":[{"key":"istio.io/dataplane-mode","operator":"NotIn","values":["none"]}]},' +
      '"namespaceSelector":{"matchLabels":{"istio.io/dataplane-mode":"ambient"}}}]',
  );
});

test("eligibility: a namespace matches by a selector that asks something of namespaces", () => {
  assert.equal(namespaceMatchesAny(AMBIENT, DEFAULT_SELECTORS), true);
  assert.equal(namespaceMatchesAny(NONE, DEFAULT_SELECTORS), false);
  assert.equal(namespaceMatchesAny({}, DEFAULT_SELECTORS), false);
  // The first selector is empty for namespaces: it matches all of them and says nothing about any.
  assert.equal(namespaceMatchesAny(AMBIENT, DEFAULT_SELECTORS.slice(0, 1)), false);
});

test("eligibility: a pod's own wishes", () => {
  const overrides = (annotations: Record<string, string>) => podOverrides(pod({}, {}, annotations));
  assert.deepEqual(overrides({}), { virtualInterfaces: [], warnings: [] });
  assert.deepEqual(
    overrides({
      "ambient.istio.io/bypass-inbound-capture": "true",
      "ambient.istio.io/dns-capture": "F",
      "istio.io/reroute-virtual-interfaces": " en0ps1, en1ps1,,en0ps1, veth+ ",
    }),
    { ingress: true, dnsCapture: false, virtualInterfaces: ["en0ps1", "en1ps1", "veth+"], warnings: [] },
  );
  const mangled = overrides({
    "ambient.istio.io/bypass-inbound-capture": "tweedledee",
    "ambient.istio.io/dns-capture": "",
    "istio.io/reroute-virtual-interfaces": 'asd^&&*$&*(),   ,-j,eth0\nCOMMIT,sixteen-letters1,a"b,good0',
  });
  assert.deepEqual(mangled.virtualInterfaces, ["good0"]);
  assert.equal("ingress" in mangled || "dnsCapture" in mangled, false);
  assert.deepEqual(mangled.warnings, [
    'annotation ambient.istio.io/bypass-inbound-capture: "tweedledee" is no boolean, ignored',
    'annotation ambient.istio.io/dns-capture: "" is no boolean, ignored',
    'annotation istio.io/reroute-virtual-interfaces: "asd^&&*$&*()" is no interface name, ignored',
    'annotation istio.io/reroute-virtual-interfaces: "-j" is no interface name, ignored',
    'annotation istio.io/reroute-virtual-interfaces: "eth0\\nCOMMIT" is no interface name, ignored',
    'annotation istio.io/reroute-virtual-interfaces: "sixteen-letters1" is no interface name, ignored',
    'annotation istio.io/reroute-virtual-interfaces: "a\\"b" is no interface name, ignored',
  ]);
});

test("eligibility: booleans are Go's", () => {
  for (const text of ["1", "t", "T", "TRUE", "true", "True"]) assert.equal(parseGoBool(text), true, text);
  for (const text of ["0", "f", "F", "FALSE", "false", "False"]) assert.equal(parseGoBool(text), false, text);
  for (const text of ["", "yes", "tRUE", " true", "on", "2"]) assert.equal(parseGoBool(text), undefined, text);
});
