import assert from "node:assert/strict";
import { test } from "node:test";
import { reasonWithoutSidecar, type SidecarPod } from "../../../src/cni/plugin/sidecar.ts";

const PROXY = { name: "istio-proxy", args: ["proxy", "sidecar", "--domain", "x"] };
const STATUS = { "sidecar.istio.io/status": "{}" };

function pod(changes: {
  readonly containers?: NonNullable<SidecarPod["spec"]>["containers"];
  readonly initContainers?: NonNullable<SidecarPod["spec"]>["initContainers"];
  readonly labels?: Record<string, string>;
  readonly annotations?: Record<string, string>;
} = {}): SidecarPod {
  return {
    metadata: { labels: changes.labels, annotations: changes.annotations ?? STATUS },
    spec: { containers: changes.containers ?? [{ name: "app" }, PROXY], initContainers: changes.initContainers },
  };
}

const INJECT = "sidecar.istio.io/inject";

test("sidecar: pods that Istio's plugin leaves alone, and why", () => {
  const table: [SidecarPod, string][] = [
    [pod({ initContainers: [{ name: "istio-init" }] }), "it has the container istio-init"],
    [
      pod({ containers: [{ ...PROXY, env: [{ name: "DISABLE_ENVOY", value: "true" }] }] }),
      "DISABLE_ENVOY is set on istio-proxy",
    ],
    [pod({ containers: [{ name: "app" }] }), "it has no container istio-proxy"],
    [pod({ containers: [{ name: "app" }, { name: "envoy-sidecar" }] }), "it has no container istio-proxy"],
    [pod({ containers: [{ name: "istio-proxy", args: ["proxy", "router"] }] }), 'its proxy is a "router"'],
    [pod({ containers: [{ name: "istio-proxy", args: ["proxy", "waypoint"] }] }), 'its proxy is a "waypoint"'],
    [pod({ labels: { [INJECT]: "false" } }), `${INJECT} is "false"`],
    [pod({ annotations: { ...STATUS, [INJECT]: "F" } }), `${INJECT} is "F"`],
    // The label wins.
    [pod({ labels: { [INJECT]: "0" }, annotations: { ...STATUS, [INJECT]: "true" } }), `${INJECT} is "0"`],
    [pod({ annotations: {} }), "it has no annotation sidecar.istio.io/status"],
    [{}, "it has no container istio-proxy"],
  ];
  for (const [judged, reason] of table) assert.equal(reasonWithoutSidecar(judged), reason);
});

test("sidecar: pods that Istio's plugin would redirect", () => {
  const table: SidecarPod[] = [
    pod(),
    pod({ containers: [{ name: "app" }], initContainers: [PROXY] }),
    pod({ containers: [{ name: "istio-proxy" }] }),
    pod({ containers: [{ name: "istio-proxy", args: ["proxy"] }] }),
    pod({ containers: [{ name: "istio-proxy", args: ["run", "router"] }] }),
    pod({ labels: { [INJECT]: "true" }, annotations: { ...STATUS, [INJECT]: "false" } }),
    pod({ annotations: { ...STATUS, [INJECT]: "maybe" } }),
    pod({ containers: [{ ...PROXY, env: [{ name: "DISABLE_ENVOY", value: "no" }] }] }),
    pod({ containers: [{ ...PROXY, env: [{ name: "DISABLE_ENVOY" }] }] }),
    pod({ containers: [{ name: "app", env: [{ name: "DISABLE_ENVOY", value: "true" }] }, PROXY] }),
    pod({ annotations: { "sidecar.istio.io/status": "" } }),
  ];
  for (const judged of table) assert.equal(reasonWithoutSidecar(judged), undefined, JSON.stringify(judged));
});
