/** Pods come into the mesh and leave it (reference cni, 3.1 to 3.5). */
import assert from "node:assert/strict";
import { pause } from "../../e2e/support/wait.ts";
import { ambitOf } from "../../istiod/support/builds.ts";
import { podRules, probeSet, watchForLeaks } from "../support/kernel.ts";
import { APP_PORT, CniFailure, CniPod } from "../support/pod.ts";
import { scenario } from "../support/scenario.ts";
import { flowsByHbone, flowsDirectly, flowsThroughZtunnel } from "../support/traffic.ts";
import { holdsNothingOf, type Remains, remainsOf } from "../support/remains.ts";

const MODE = "istio.io/dataplane-mode";

scenario(
  "ADD: a pod of the mesh is redirected before anything runs in it, and gone without trace after DEL",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const client = await CniPod.bind(node, { name: "client", namespace });
    await client.makeNamespace();
    await client.add();
    // All of it when the plugin has answered.
    assert.equal(await client.redirection(), "enabled");
    assert.notDeepEqual(await podRules(client), []);
    assert.ok((await node.ztunnel.served()).includes(client.uid));
    const probes = await probeSet(node);
    for (const address of client.addresses) assert.equal(probes.get(address), client.uid);
    assert.ok(node.agent.program!.holds(client.inode));
    const leaked = await watchForLeaks(client, APP_PORT);
    await client.startApp();
    await client.report();
    const server = await node.addPod({ name: "server", namespace });
    await flowsByHbone(client, server);
    await flowsByHbone(server, client);
    assert.equal(await leaked(), 0, "connections went past ztunnel");
    const check = await node.cni("check", client.netns, client.cniArgs);
    assert.equal(check.code, 0, check.stderr);

    const remains: Remains[] = [client, server].map(remainsOf);
    await client.remove();
    await server.remove();
    await holdsNothingOf(node, remains);
  },
);

scenario("ADD: a pod that no selector matches gets its sandbox and nothing else", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(`${namespace}-none`, "none");
  const [client, server] = await node.addPods(
    { name: "client", namespace },
    { name: "server", namespace: `${namespace}-none` },
  ) as [CniPod, CniPod];
  for (const pod of [client, server]) {
    assert.deepEqual(await podRules(pod), []);
    assert.equal(await pod.redirection(), undefined);
  }
  await flowsDirectly(client, server);
});

scenario(
  "label of a namespace: running pods are enrolled and released, live, and nothing is left behind",
  async (scene) => {
    const { lab, node, namespace } = scene;
    const pods = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [CniPod, CniPod];
    const [client, server] = pods;
    await flowsDirectly(client, server);
    await lab.label(namespace, "ambient");
    await Promise.all(pods.map((pod) => pod.becomes("enabled")));
    const leaked = await watchForLeaks(client, APP_PORT);
    await flowsByHbone(client, server);
    assert.equal(await leaked(), 0);
    await lab.label(namespace, null);
    await Promise.all(pods.map((pod) => pod.becomes(undefined)));
    for (const pod of pods) assert.deepEqual(await podRules(pod), []);
    await flowsDirectly(client, server);
    await holdsNothingOf(node, pods.map(remainsOf));
  },
);

scenario("label of a pod: it decides over that of the namespace, both ways, live", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const [server, opted, other] = await node.addPods(
    { name: "server", namespace },
    { name: "opted-out", namespace, labels: { [MODE]: "none" } },
    { name: "other", namespace: `${namespace}-outside` },
  ) as [CniPod, CniPod, CniPod];
  assert.deepEqual(await podRules(opted), []);
  assert.equal(await opted.redirection(), undefined);
  await flowsDirectly(opted, other);
  await flowsThroughZtunnel(server, other);
  await other.label({ [MODE]: "ambient" });
  await other.becomes("enabled");
  await flowsByHbone(server, other);
  await flowsByHbone(other, server);
  await server.label({ [MODE]: "none" });
  await server.becomes(undefined);
  assert.deepEqual(await podRules(server), []);
  await flowsThroughZtunnel(other, server);
  await opted.label({ [MODE]: null });
  await opted.becomes("enabled");
  await flowsByHbone(opted, other);
});

scenario("ADD: a pod's own label enrols it in a namespace without one", async (scene) => {
  const { node, namespace } = scene;
  const pod = await node.addPod({ name: "labelled", namespace, labels: { [MODE]: "ambient" } });
  assert.equal(await pod.redirection(), "enabled");
  assert.notDeepEqual(await podRules(pod), []);
});

scenario("excluded namespace: never enrolled, whatever its labels say", async (scene) => {
  const { lab, node, build, namespace } = scene;
  await lab.label("kube-system", "ambient");
  const wish = { name: `pod-${build}`, namespace: "kube-system", labels: { [MODE]: "ambient" } };
  const pod = await node.addPod(wish);
  const witness = await node.addPod({ name: "witness", namespace, labels: { [MODE]: "ambient" } });
  await witness.label({ [MODE]: null });
  // The agent has seen what came before.
  await witness.becomes(undefined);
  assert.equal(await pod.redirection(), undefined);
  assert.deepEqual(await podRules(pod), []);
  await flowsDirectly(pod, witness);
});

scenario("hostNetwork: a pod in the node's own network is left alone", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const pod = await CniPod.bind(node, { name: "host", namespace, hostNetwork: true });
  pod.addresses = node.addresses;
  await pod.report();
  const witness = await node.addPod({ name: "witness", namespace });
  assert.equal(await witness.redirection(), "enabled");
  await pause(300);
  assert.equal(await pod.redirection(), undefined);
  const host = await node.shell("nft list ruleset; iptables-save 2>/dev/null");
  assert.ok(!/15001|15006/.test(host), "the node itself is redirected");
});

scenario(
  "sidecar: a pod with one is refused by a clear error while the agent cannot set it up, in the mesh or not",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(`${namespace}-ambient`, "ambient");
    for (const where of [namespace, `${namespace}-ambient`]) {
      const pod = await CniPod.bind(node, {
        name: "sidecar",
        namespace: where,
        annotations: { "sidecar.istio.io/status": "{}" },
        containers: ["app", "istio-proxy"],
      });
      await pod.makeNamespace();
      await assert.rejects(pod.add(), (error: CniFailure) => /sidecar/i.test(error.text));
      assert.deepEqual(await podRules(pod), []);
      await pod.removeNamespace();
    }
  },
);

scenario("a job's pod: released when it has ended, though its object stays", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const pod = await node.addPod({ name: "job", namespace });
  assert.equal(await pod.redirection(), "enabled");
  const remains = remainsOf(pod);
  await pod.app!.end();
  await pod.setPhase("Succeeded");
  await pod.becomes(undefined);
  await holdsNothingOf(node, [remains]);
});

scenario("many changes: descriptors of the agent do not grow", async (scene) => {
  const { lab, node, namespace } = scene;
  const pods = await node.addPods({ name: "one", namespace }, { name: "two", namespace });
  const counts: number[] = [];
  for (let round = 0; round < 6; round++) {
    await lab.label(namespace, "ambient");
    await Promise.all(pods.map((pod) => pod.becomes("enabled")));
    await lab.label(namespace, null);
    await Promise.all(pods.map((pod) => pod.becomes(undefined)));
    await holdsNothingOf(node, pods.map(remainsOf));
    counts.push(node.agent.program!.descriptors);
  }
  // Connections to the API server come and go.
  assert.ok(counts.at(-1)! <= counts[1]! + 3, `descriptors after each round: ${counts}`);
});

scenario(
  "status: /debug/pods and `ambit cni status` say of every pod whether it is captured, and why not",
  async (scene) => {
    const { lab, node, build, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const [captured, opted] = await node.addPods(
      { name: "captured", namespace },
      { name: "opted-out", namespace, labels: { [MODE]: "none" } },
    ) as [CniPod, CniPod];
    const yes = await node.agent.debugPod(captured);
    assert.deepEqual([yes.eligible, yes.captured, yes.state, yes.ztunnelAck], [true, true, "enrolled", true]);
    assert.deepEqual([...yes.ips].sort(), [...captured.addresses].sort());
    assert.match(yes.netns!, new RegExp(`:${captured.inode}$`));
    assert.ok(yes.since !== undefined && yes.rules?.dnsCapture === true && yes.rules.ipv6);
    const no = await node.agent.debugPod(opted);
    assert.deepEqual([no.eligible, no.captured, no.state], [false, false, "not eligible"]);
    assert.match(no.eligibleReason, /selector/);
    const { stdout } = await node.agent.inside([...ambitOf(build), "cni", "status", "--namespace", namespace]);
    assert.match(stdout, new RegExp(`${namespace}/captured: enrolled`));
    assert.match(stdout, new RegExp(`${namespace}/opted-out: not eligible`));
  },
);
