import assert from "node:assert/strict";
import { test } from "node:test";
import { readPluginConf } from "../../../src/cni/net_conf.ts";
import { CniError } from "../../../src/cni/plugin/cni_error.ts";
import { decide, type Decision, type PodFacts } from "../../../src/cni/plugin/decide.ts";

const AMBIENT = { "istio.io/dataplane-mode": "ambient" };
const CONF = {
  cniVersion: "1.0.0",
  name: "istio-cni",
  ambient_enabled: true,
  pod_namespace: "istio-system",
  exclude_namespaces: ["kube-system"],
  enablement_selectors: [
    { podSelector: { matchLabels: AMBIENT } },
    {
      podSelector: { matchExpressions: [{ key: "istio.io/dataplane-mode", operator: "NotIn", values: ["none"] }] },
      namespaceSelector: { matchLabels: AMBIENT },
    },
  ],
};
const SIDECAR: PodFacts = {
  metadata: { annotations: { "sidecar.istio.io/status": "{}" } },
  spec: { containers: [{ name: "app" }, { name: "istio-proxy", args: ["proxy", "sidecar"] }] },
};

interface World {
  readonly conf?: Record<string, unknown>;
  readonly pod?: PodFacts;
  readonly labels?: Record<string, string>;
  readonly name?: string;
  readonly namespace?: string;
  /** What fails, by number of the attempt from 1 on. */
  readonly failure?: (attempt: number) => string | undefined;
  readonly noKubeconfig?: (opened: number) => boolean;
  /** What one read takes. */
  readonly readMs?: number;
}

interface Seen {
  reads: string[];
  opened: number;
  closed: number;
  nowMs: number;
  logged: string[];
}

function decideIn(world: World): { readonly decision: Promise<Decision>; readonly seen: Seen } {
  const seen: Seen = { reads: [], opened: 0, closed: 0, nowMs: 0, logged: [] };
  let attempts = 0;
  const log = (text: string) => void seen.logged.push(text);
  const decision = decide(
    readPluginConf({ ...CONF, ...world.conf }),
    { podName: world.name ?? "web-1", podNamespace: world.namespace ?? "shop", podUid: "" },
    {
      openReader: async () => {
        seen.opened++;
        if (world.noKubeconfig?.(seen.opened)) throw new Error("no kubeconfig");
        return {
          pod: async (namespace, name) => {
            seen.reads.push(`${namespace}/${name}`);
            seen.nowMs += world.readMs ?? 0;
            const failure = world.failure?.(++attempts);
            if (failure !== undefined) throw new Error(failure);
            return world.pod ?? {};
          },
          namespaceLabels: async (name) => {
            seen.reads.push(name);
            return world.labels ?? {};
          },
          close: () => void seen.closed++,
        };
      },
      sleep: async (ms) => void (seen.nowMs += ms),
      nowMs: () => seen.nowMs,
      log: { debug: log, info: log, warn: log, error: log },
    },
  );
  return { decision, seen };
}

async function kindOf(world: World): Promise<string> {
  return (await decideIn(world).decision).kind;
}

test("decide: labels of namespace and pod", async () => {
  const table: [string, World, string][] = [
    ["namespace ambient", { labels: AMBIENT }, "enrol"],
    ["pod ambient, namespace not", { pod: { metadata: { labels: AMBIENT } } }, "enrol"],
    ["pod opts out", { labels: AMBIENT, pod: { metadata: { labels: { "istio.io/dataplane-mode": "none" } } } }, "pass"],
    ["neither", {}, "pass"],
    [
      "a sidecar of somebody else in an ambient namespace",
      { labels: AMBIENT, pod: { spec: { containers: [{ name: "app" }, { name: "sidecar" }] } } },
      "enrol",
    ],
    ["ambient is switched off", { conf: { ambient_enabled: false }, labels: AMBIENT }, "pass"],
    ["no selectors", { conf: { enablement_selectors: [] }, labels: AMBIENT }, "pass"],
    ["host network", { labels: AMBIENT, pod: { spec: { hostNetwork: true } } }, "pass"],
  ];
  for (const [name, world, kind] of table) assert.equal(await kindOf(world), kind, name);
});

test("decide: reads pod and namespace once each, and no namespace without ambient", async () => {
  const ambient = decideIn({ labels: AMBIENT });
  assert.deepEqual(await ambient.decision, { kind: "enrol", reason: "selector 2 matches" });
  assert.deepEqual(ambient.seen.reads, ["shop/web-1", "shop"]);
  const without = decideIn({ conf: { ambient_enabled: false } });
  await without.decision;
  assert.deepEqual(without.seen.reads, ["shop/web-1"]);
});

test("decide: the agent's own pod passes without a kubeconfig, with selectors nobody can read", async () => {
  const { decision, seen } = decideIn({
    name: "istio-cni-node-x1",
    namespace: "istio-system",
    noKubeconfig: () => true,
    conf: { enablement_selectors: 7 },
  });
  assert.deepEqual(await decision, { kind: "pass", reason: "istio-cni-node-x1 looks like our own agent pod" });
  assert.equal(seen.opened, 0);
});

test("decide: who only looks like the agent's pod does not pass", async () => {
  for (const world of [{ name: "istio-cni-node-x1" }, { name: "cni-node-x1", namespace: "istio-system" }]) {
    await assert.rejects(decideIn({ ...world, noKubeconfig: () => true }).decision, { message: "no kubeconfig" });
  }
});

test("decide: no kubeconfig blocks pods of every namespace", async () => {
  for (const namespace of ["shop", "kube-system", ""]) {
    await assert.rejects(decideIn({ namespace, noKubeconfig: () => true }).decision, { message: "no kubeconfig" });
  }
});

test("decide: nobody's pods and excluded namespaces pass without a read", async () => {
  const table: [World, string][] = [
    [{ name: "" }, "not a Kubernetes pod"],
    [{ namespace: "" }, "not a Kubernetes pod"],
    [{ namespace: "kube-system", pod: SIDECAR }, "pod namespace kube-system excluded"],
  ];
  for (const [world, reason] of table) {
    const { decision, seen } = decideIn(world);
    assert.deepEqual(await decision, { kind: "pass", reason });
    assert.deepEqual([seen.reads, seen.opened], [[], 1]);
  }
});

test("decide: names that would lead elsewhere on the API server are refused", async () => {
  for (
    const world of [{ name: "../../secrets/x" }, { namespace: "a/b" }, { name: ".." }, { name: "a%2fb" }, { name: "A" }]
  ) {
    const { decision, seen } = decideIn(world);
    await assert.rejects(decision, { message: /^ARGS: .* is no name of a pod or namespace$/ });
    assert.deepEqual(seen.reads, []);
  }
});

test("decide: selectors that cannot be read let nobody pass", async () => {
  await assert.rejects(decideIn({ conf: { enablement_selectors: [{ podSelecter: {} }] } }).decision, {
    message: /^enablement selector 1: unknown field "podSelecter"/,
  });
});

test("decide: a pod with a sidecar is refused, in ambient namespaces and elsewhere, with ambient and without", async () => {
  for (const world of [{}, { labels: AMBIENT }, { conf: { ambient_enabled: false } }]) {
    await assert.rejects(decideIn({ ...world, pod: SIDECAR }).decision, (error: CniError) => {
      assert.ok(error instanceof CniError);
      assert.equal(error.code, 100);
      assert.match(error.message, /^pod shop\/web-1 has an Istio sidecar, and this istio-cni is ambit/);
      return true;
    });
  }
  const skipped = { ...SIDECAR, spec: { ...SIDECAR.spec, initContainers: [{ name: "istio-init" }] } };
  assert.equal(await kindOf({ pod: skipped }), "pass");
});

test("decide: asks again each second, and judges what it gets in the end", async () => {
  const { decision, seen } = decideIn({ labels: AMBIENT, failure: (n) => n <= 5 ? "503" : undefined });
  assert.equal((await decision).kind, "enrol");
  assert.equal(seen.nowMs, 5_000);
  assert.equal(seen.logged.filter((line) => /503/.test(line)).length, 5);
});

test("decide: gives up after Istio's number of attempts and never passes", async () => {
  const table: [Record<string, unknown>, number][] = [
    [{ enable_ambient_detection_retry: true }, 31],
    [{ enable_ambient_detection_retry: false }, 32],
    [{ ambient_enabled: false }, 30],
  ];
  for (const [conf, attempts] of table) {
    const { decision, seen } = decideIn({ conf, failure: () => "Unauthorized" });
    await assert.rejects(decision, { message: /^failed to get pod or namespace info: Unauthorized \(attempt \d+, / });
    assert.equal(seen.reads.length, attempts);
    assert.equal(seen.nowMs, (attempts - 1) * 1_000);
  }
});

test("decide: slow answers end it before the runtime does", async () => {
  const { decision, seen } = decideIn({ failure: () => "timeout", readMs: 10_000 });
  await assert.rejects(decision, { message: /timeout/ });
  assert.ok(seen.nowMs > 90_000 && seen.nowMs < 115_000, String(seen.nowMs));
});

test("decide: reads the kubeconfig again after a failure, and waits for it while it is away", async () => {
  const { decision, seen } = decideIn({
    labels: AMBIENT,
    failure: (n) => n === 1 ? "Unauthorized" : undefined,
    noKubeconfig: (opened) => opened === 2,
  });
  assert.equal((await decision).kind, "enrol");
  assert.deepEqual([seen.opened, seen.closed], [3, 1]);
});
