/** The node agent and ztunnel are restarted, replaced, away and gone, under traffic. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pause } from "../../e2e/support/wait.ts";
import { tool } from "../../../src/local/run_tool.ts";
import { type Cluster, eventually } from "../support/cluster.ts";
import { SYSTEM } from "../support/istio.ts";
import { Load, undisturbed } from "../support/load.ts";
import { serverPod } from "../support/objects.ts";
import { scenario } from "../support/scenario.ts";
import { ready } from "./enrolment.ts";
import { redirection } from "./mesh.ts";

/** Traffic goes on for so long after a change: what breaks late is seen too. */
export const AFTERWARDS_MS = 2_000;
/** Several times what a pod takes to start. */
const WAITS_MS = 5_000;
/** Of the chart's default. */
const EXCLUDED = "kube-system";

export function lifecycleScenarios(setup: string): void {
  scenario(`${setup}: the node agent is restarted, and no request fails`, async (cluster) => {
    await undisturbed(cluster, async () => {
      await cluster.istio.restart("istio-cni-node");
      await pause(AFTERWARDS_MS);
    });
    await cluster.apply(serverPod("mesh", "pod-new"));
    const pod = await ready(cluster, "mesh", "pod-new");
    assert.equal(redirection(pod), "enabled");
    await cluster.delete("-n", "mesh", "pod/pod-new");
  });

  scenario(`${setup}: ztunnel is rolled out, and no request on a fresh connection fails`, async (cluster) => {
    const load = await Load.start(cluster, "mesh/client", "http://server/");
    await cluster.istio.restart("ztunnel");
    await pause(AFTERWARDS_MS);
    const report = await load.end();
    assert.equal(report.failed, 0, JSON.stringify(report));
  });

  scenario(`${setup}: without a node agent no pod of the mesh starts, and every one of them later`, async (cluster) => {
    await undisturbed(cluster, () => away(cluster));
  });
}

/** The DaemonSet's next version has an image that is nowhere: the old pod ends, and no new one starts. */
async function away(cluster: Cluster): Promise<void> {
  const image = await cluster.istio.cniImage();
  const [pod] = await cluster.pods(SYSTEM, "k8s-app=istio-cni-node");
  await setImage(cluster, "localhost/nowhere:lab");
  try {
    await cluster.kubectl("-n", SYSTEM, "wait", "--for=delete", `pod/${pod?.metadata.name}`, "--timeout=40s");
    await cluster.apply(serverPod("mesh", "pod-waits"), serverPod(EXCLUDED, "pod-free"));
    // The kubelet can start pods: those of a namespace that is no matter of the mesh.
    await ready(cluster, EXCLUDED, "pod-free");
    await pause(WAITS_MS);
    const { status } = await cluster.pod("mesh", "app=pod-waits");
    assert.equal(status.phase, "Pending", JSON.stringify(await cluster.events("mesh", "pod-waits")));
  } finally {
    await setImage(cluster, image);
    await cluster.kubectl("-n", SYSTEM, "rollout", "status", "daemonset/istio-cni-node", "--timeout=50s");
    await cluster.delete("-n", EXCLUDED, "pod/pod-free");
  }
  const waited = await ready(cluster, "mesh", "pod-waits", "55s");
  assert.equal(redirection(waited), "enabled");
  assert.match(await cluster.get("mesh/client", `http://${waited.status.podIP}:8080/`), /^hello/);
  await cluster.delete("-n", "mesh", "pod/pod-waits");
}

async function setImage(cluster: Cluster, image: string): Promise<void> {
  await cluster.kubectl("-n", SYSTEM, "set", "image", "daemonset/istio-cni-node", `install-cni=${image}`);
}

/** Last of all: afterwards there is no node agent. */
export function removalScenario(setup: string): void {
  scenario(
    `${setup}: with its DaemonSet the node agent takes away all it has installed, and traffic goes on`,
    async (cluster) => {
      const before = (await traces(cluster)).join("\n");
      for (const trace of [/^plugin/m, /^kubeconfig/m, /^configuration/m, /^rule/m]) assert.match(before, trace);
      await undisturbed(cluster, async () => {
        await cluster.kubectl(
          "-n",
          SYSTEM,
          "delete",
          "daemonset/istio-cni-node",
          "--cascade=foreground",
          "--timeout=50s",
        );
        await pause(AFTERWARDS_MS);
      });
      await eventually(async () => assert.deepEqual(await traces(cluster), []));
      await cluster.apply(serverPod("plain", "pod-after"));
      await ready(cluster, "plain", "pod-after");
      await cluster.delete("-n", "plain", "pod/pod-after");
    },
  );
}

/** What of a node agent is on the node. */
async function traces(cluster: Cluster): Promise<string[]> {
  const { binDirectory, confDirectory } = cluster.kubernetes.cni;
  const configured = readdirSync(confDirectory)
    .filter((name) => readFileSync(join(confDirectory, name), "utf8").includes("istio-cni"));
  const kubeconfig = "/var/run/istio-cni/istio-cni-kubeconfig";
  const rules = [await tool(["nft", "list", "ruleset"]), await tool(["ipset", "list", "-name"])];
  rules.push(await tool(["iptables-legacy-save"]).catch(() => ""));
  return [
    ...existsSync(join(binDirectory, "istio-cni")) ? ["plugin"] : [],
    ...existsSync(kubeconfig) ? ["kubeconfig"] : [],
    ...configured.map((name) => `configuration ${name}`),
    ...rules.join("\n").split("\n").filter((line) => /istio/i.test(line)).map((line) => `rule ${line.trim()}`),
  ];
}
