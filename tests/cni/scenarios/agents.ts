/** The agent's own life: what it may do, and what pods see when it ends and comes back (reference cni, 1.5, 3.6, 5.3, 5.4). */
import assert from "node:assert/strict";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { eventually } from "../../e2e/support/wait.ts";
import { nodeObject } from "../../istiod/support/objects.ts";
import { flush, hostRules, podRules, probeSet } from "../support/kernel.ts";
import { CniPod } from "../support/pod.ts";
import { boundPodObject, runningStatus } from "../support/objects.ts";
import { remainsOf } from "../support/remains.ts";
import { scenario } from "../support/scenario.ts";
import { flowsByHbone, flowsDirectly, Load } from "../support/traffic.ts";

/** DAC_OVERRIDE, NET_ADMIN, NET_RAW, SYS_PTRACE, SYS_ADMIN. */
const FIVE = [1, 12, 13, 19, 21].reduce((mask, bit) => mask | 1n << BigInt(bit), 0n);

scenario(
  "capabilities: the agent has exactly the five that the chart gives it, and so do the programs it starts",
  ({ node }) => {
    const status = readFileSync(`/proc/${node.agent.program!.pid}/status`, "utf8");
    const mask = (name: string) => BigInt(`0x${new RegExp(`^${name}:\\s+(\\w+)`, "m").exec(status)![1]}`);
    assert.equal(mask("CapBnd"), FIVE);
    assert.equal(mask("CapEff"), FIVE);
    assert.equal(mask("CapAmb"), 0n);
    return Promise.resolve();
  },
);

scenario("start: pods that were there before the plugin are enrolled", async (scene) => {
  const { lab, node, namespace } = scene;
  await node.agent.uninstall();
  await lab.addNamespace(namespace, "ambient");
  const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
    CniPod,
    CniPod,
  ];
  await flowsDirectly(client, server);
  await node.agent.restart();
  await Promise.all([client, server].map((pod) => pod.becomes("enabled")));
  await flowsByHbone(client, server);
  assert.equal((await probeSet(node)).get(server.ip()), server.uid);
});

scenario("restart: enrolled pods are served all the time, and nothing of them is made anew", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
    CniPod,
    CniPod,
  ];
  await flowsByHbone(client, server);
  const [rules, host] = [await podRules(client), await hostRules(node)];
  const started = await node.ztunnel.metric("workload_manager_proxies_started_total");
  const load = await Load.start(client, server);
  await load.more();
  await node.agent.restart();
  await load.more();
  await eventually(async () => assert.equal(await node.agent.metric("ztunnel_connected"), 1));
  assert.deepEqual(await podRules(client), rules);
  assert.deepEqual(await hostRules(node), host);
  assert.equal((await probeSet(node)).get(server.ip()), server.uid);
  await load.stop();
  assert.deepEqual(load.failures, []);
  assert.equal(await node.ztunnel.metric("workload_manager_proxies_started_total"), started);
  assert.ok(node.agent.program!.holds(client.inode));
});

scenario(
  "start: rules that were lost while there was no agent are restored, without a packet past ztunnel",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
      CniPod,
      CniPod,
    ];
    await flowsByHbone(client, server);
    const rules = await podRules(client);
    await node.agent.kill();
    await flush(node, client.netns);
    assert.deepEqual(await podRules(client), []);
    await node.agent.launch();
    await node.agent.ready();
    await eventually(async () => assert.deepEqual(await podRules(client), rules));
    const load = await Load.start(client, server);
    await load.more();
    await load.stop();
    await flowsByHbone(client, server);
  },
);

scenario(
  "killed: traffic goes on, pods of the mesh get no sandbox, and the next agent goes on from there",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
      CniPod,
      CniPod,
    ];
    await flowsByHbone(client, server);
    const load = await Load.start(client, server);
    await node.agent.kill();
    await load.more();
    const late = await CniPod.bind(node, { name: "late", namespace });
    await late.makeNamespace();
    await assert.rejects(late.add(), /agent/i);
    await late.removeNamespace();
    // While there was nobody to see it: one goes, the label of another changes.
    const ended = server.uid;
    await node.addPod({ name: "plain", namespace: `${namespace}-plain` });
    await node.agent.launch();
    await node.agent.ready();
    await load.more();
    await late.run();
    await flowsByHbone(late, server);
    await load.stop();
    assert.deepEqual(load.failures, []);
    assert.ok((await node.ztunnel.served()).includes(ended));
  },
);

scenario("pods that went while there was no agent are forgotten: set, ztunnel, annotation", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const [gone, released, stays] = await node.addPods(
    { name: "gone", namespace },
    { name: "released", namespace },
    { name: "stays", namespace },
  ) as [CniPod, CniPod, CniPod];
  await node.agent.kill();
  const { uid, addresses } = gone;
  await gone.remove();
  await released.label({ "istio.io/dataplane-mode": "none" });
  await node.agent.start();
  await released.becomes(undefined);
  assert.deepEqual(await podRules(released), []);
  await eventually(async () => {
    const served = await node.ztunnel.served();
    assert.ok(!served.includes(uid) && !served.includes(released.uid) && served.includes(stays.uid));
    const probes = await probeSet(node);
    for (const address of [...addresses, ...released.addresses]) assert.equal(probes.get(address), undefined);
    assert.equal(probes.get(stays.ip()), stays.uid);
  });
});

scenario(
  "kubeconfig missing: pods wait, the agent's own pod passes, and a restarted agent writes it again",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    await node.agent.stop();
    rmSync(join(node.directory, "run/istio-cni-kubeconfig"));
    const pod = await CniPod.bind(node, { name: "waits", namespace });
    await pod.makeNamespace();
    await assert.rejects(pod.add(), /kubeconfig/);
    await pod.removeNamespace();
    const own = await node.addPod({
      name: "istio-cni-node-next1",
      namespace: node.agentNamespace,
      labels: { "istio.io/dataplane-mode": "none" },
    });
    assert.equal(own.addresses.length, 2);
    // Only there is the name a password.
    const impostor = await CniPod.bind(node, { name: "istio-cni-node-x", namespace });
    await impostor.makeNamespace();
    await assert.rejects(impostor.add(), /kubeconfig/);
    await impostor.removeNamespace();
    await node.agent.launch();
    await node.agent.ready();
    await pod.run();
    assert.equal(await pod.redirection(), "enabled");
  },
);

scenario("host network: the agent works in the node's own network too", async (scene) => {
  const { lab, node, namespace } = scene;
  await node.agent.restart({ hostNetwork: true });
  await lab.addNamespace(namespace, "ambient");
  const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
    CniPod,
    CniPod,
  ];
  await flowsByHbone(client, server);
  assert.equal((await probeSet(node)).get(server.ip()), server.uid);
});

scenario(
  "reboot: a pod whose sandbox was made anew without the plugin is captured again, though it is annotated already",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const [pod, server] = await node.addPods({ name: "rebooted", namespace }, { name: "server", namespace }) as [
      CniPod,
      CniPod,
    ];
    await flowsByHbone(pod, server);
    await node.agent.kill();
    const before = remainsOf(pod);
    await pod.app!.end();
    await pod.removeNamespace();
    // The runtime is up before the agent, and the network's own installer has put its file back.
    node.resetFiles();
    await pod.run();
    assert.equal(await pod.redirection(), "enabled");
    assert.deepEqual(await podRules(pod), []);
    await node.agent.start();
    await eventually(async () => assert.notDeepEqual(await podRules(pod), []));
    const load = await Load.start(pod, server);
    await flowsByHbone(pod, server);
    await flowsByHbone(server, pod);
    await load.stop();
    assert.equal((await probeSet(node)).get(pod.ip()), pod.uid);
    // The number of a namespace that is gone is given out again.
    const held = before.inode !== pod.inode && node.agent.program!.holds(before.inode);
    assert.ok(!held, "the agent holds the former namespace");
  },
);

scenario(
  "misconfigured: the agent ends with an error that names the setting, pods are not harmed, and a right one heals it",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
      CniPod,
      CniPod,
    ];
    await flowsByHbone(client, server);
    await node.agent.stop();
    for (
      const [env, words] of [
        [{ AMBIENT_ENABLEMENT_SELECTOR: "- podSelector: [" }, /selector/i],
        [{ HOST_PROBE_SNAT_IP: "nonsense" }, /HOST_PROBE_SNAT_IP/],
      ] as const
    ) {
      await node.agent.launch({ env });
      assert.notEqual((await node.agent.program!.exit()).code, 0);
      assert.match(node.agent.log, words);
      await flowsByHbone(client, server);
    }
    await node.agent.start();
    await node.addPod({ name: "later", namespace });
  },
);

scenario("taint: istiod takes it from a node whose agent is ready", async ({ lab, node }) => {
  const { api } = lab.plane;
  const key = "cni.istio.io/not-ready";
  const object = nodeObject(node);
  const taints = async () =>
    ((await api.get(object)).spec as { readonly taints?: readonly { readonly key: string }[] }).taints?.map(({ key }) =>
      key
    ) ?? [];
  await api.patch(object, {
    spec: { taints: [{ key, effect: "NoSchedule" }, { key: "other", effect: "NoSchedule" }] },
  });
  // The agent's pod, in the namespace where istiod looks, with the condition that a kubelet makes of /readyz.
  const pod = boundPodObject({
    name: `istio-cni-node-${node.name}`,
    namespace: "istio-system",
    node: node.name,
    labels: { "k8s-app": "istio-cni-node" },
    serviceAccount: "istio-cni",
  });
  await api.apply(pod);
  await node.agent.ready();
  assert.ok((await taints()).includes(key));
  await api.patchStatus(pod, runningStatus(node.addresses));
  await eventually(async () => assert.deepEqual(await taints(), ["other"]));
  await api.delete(pod);
});
