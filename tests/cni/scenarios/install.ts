/** The agent installs the plugin, keeps it installed, and takes it away (reference cni, 1.6 and 5.4). */
import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually } from "../../e2e/support/wait.ts";
import { hostRules, podRules } from "../support/kernel.ts";
import type { CniNode } from "../support/node.ts";
import { CniPod } from "../support/pod.ts";
import { scenario } from "../support/scenario.ts";
import { flowsByHbone } from "../support/traffic.ts";

const PRIMARY = "10-lab.conflist";
const OWNED = "02-istio-cni.conflist";

const file = (node: CniNode, path: string) => join(node.directory, path);
const kubeconfig = (node: CniNode) => file(node, "run/istio-cni-kubeconfig");
const binary = (node: CniNode) => file(node, "bin/istio-cni");
const types = (node: CniNode, name = PRIMARY) => node.conflist(name).plugins.map(({ type }) => type);
const leftOvers = (node: CniNode) =>
  node.shell("ls /opt/cni/bin /etc/cni/net.d /run/istio-cni").then((text) =>
    text.split("\n").filter((name) => name.includes(".tmp"))
  );

scenario(
  "install: plugin last in the chain, its program and its kubeconfig are there, for their readers only",
  async ({ node }) => {
    assert.deepEqual(types(node), ["bridge", "istio-cni"]);
    const entry = node.conflist().plugins[1] as unknown as Readonly<Record<string, unknown>>;
    assert.equal(entry.ambient_enabled, true);
    assert.equal(entry.cni_agent_run_dir, "/var/run/istio-cni");
    assert.equal(entry.pod_namespace, node.agentNamespace);
    assert.deepEqual(entry.exclude_namespaces, ["kube-system"]);
    assert.equal(entry.cniVersion, undefined);
    assert.deepEqual(readFileSync(binary(node)), readFileSync(file(node, "image/istio-cni")));
    assert.equal(statSync(binary(node)).mode & 0o777, 0o755);
    assert.equal(statSync(kubeconfig(node)).mode & 0o777, 0o600);
    for (const socket of ["pluginevent.sock", "log.sock"]) {
      assert.equal(statSync(file(node, `run/${socket}`)).mode & 0o777, 0o666, socket);
    }
    assert.deepEqual(await leftOvers(node), []);
  },
);

scenario("drift: what somebody else changes is put back, and the agent is not ready meanwhile", async ({ node }) => {
  const original = node.conf(PRIMARY);
  // Another network agent writes its own configuration again.
  writeFileSync(file(node, `net.d/${PRIMARY}`), JSON.stringify(node.primaryConfig));
  await eventually(() => assert.deepEqual(types(node), ["bridge", "istio-cni"]));
  await node.agent.ready();
  rmSync(binary(node));
  await eventually(() => assert.ok(existsSync(binary(node))));
  await node.agent.ready();
  // Gone for a time: nothing can be installed, and that is said.
  rmSync(file(node, `net.d/${PRIMARY}`));
  await eventually(async () => assert.equal(await node.agent.isReady(), false));
  writeFileSync(file(node, `net.d/${PRIMARY}`), original);
  await node.agent.ready();
  assert.deepEqual(types(node), ["bridge", "istio-cni"]);
});

scenario("token: a rotated one is in the kubeconfig at once", async ({ node }) => {
  await node.agent.writeToken();
  const token = readFileSync(file(node, "serviceaccount/token"), "utf8");
  await eventually(() => assert.ok(readFileSync(kubeconfig(node), "utf8").includes(token)));
  await node.agent.ready();
});

scenario(
  "uninstalled: at its end the agent takes back what it did to the node, and leaves the pods as they are",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const pod = await node.addPod({ name: "captured", namespace });
    const before = await podRules(pod);
    assert.notDeepEqual(await hostRules(node), []);
    assert.deepEqual(await node.agent.uninstall(), { code: 0, signal: null });
    assert.deepEqual(types(node), ["bridge"]);
    assert.deepEqual(await leftOvers(node), []);
    assert.ok(!existsSync(binary(node)), "the plugin is still there");
    assert.ok(!existsSync(kubeconfig(node)), "the kubeconfig is still there");
    assert.deepEqual(await hostRules(node), []);
    assert.deepEqual(await podRules(pod), before);
    assert.equal(await pod.redirection(), "enabled");
    // Pods start and end without the plugin.
    await (await node.addPod({ name: "later", namespace: `${namespace}-plain` })).remove();
  },
);

scenario(
  "upgrade: when the agent ends and its DaemonSet stays, everything stays and pods of the mesh wait",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
      CniPod,
      CniPod,
    ];
    await flowsByHbone(client, server);
    const host = await hostRules(node);
    assert.deepEqual(await node.agent.stop(), { code: 0, signal: null });
    assert.deepEqual(types(node), ["bridge", "istio-cni"]);
    assert.ok(existsSync(binary(node)) && existsSync(kubeconfig(node)));
    assert.deepEqual(await hostRules(node), host);
    await flowsByHbone(client, server);
    const late = await CniPod.bind(node, { name: "late", namespace });
    await late.makeNamespace();
    await assert.rejects(late.add(), /agent/i);
    assert.deepEqual(await podRules(late), []);
    await late.removeNamespace();
    // What is not of the mesh does not wait.
    await node.addPod({ name: "plain", namespace: `${namespace}-plain` });
    await node.agent.restart();
    await late.run();
    await flowsByHbone(late, server);
  },
);

scenario("AMBIENT_DISABLE_SAFE_UPGRADE: everything is taken back though the DaemonSet stays", async ({ node }) => {
  await node.agent.restart({ env: { AMBIENT_DISABLE_SAFE_UPGRADE: "true" } });
  assert.equal((await node.agent.stop()).code, 0);
  assert.deepEqual(types(node), ["bridge"]);
  assert.deepEqual(await hostRules(node), []);
});

scenario("owned configuration: a file of our own that sorts first; the primary file is left alone", async (scene) => {
  const { lab, node, namespace } = scene;
  await node.agent.uninstall();
  node.resetFiles();
  const primary = node.conf(PRIMARY);
  // The name of the variable that the chart uses.
  await node.agent.restart({
    env: { ISTIO_OWNED_CNI_CONFIG: "true", ISTIO_OWNED_CNI_CONF_FILENAME: OWNED },
  });
  assert.equal(node.conf(PRIMARY), primary);
  assert.deepEqual(types(node, OWNED), ["bridge", "istio-cni"]);
  await lab.addNamespace(namespace, "ambient");
  const pod = await node.addPod({ name: "captured", namespace });
  assert.equal(await pod.redirection(), "enabled");
  // A change of the primary one is followed, in its contents too.
  const changed = { ...node.primaryConfig, plugins: [{ ...node.primaryConfig.plugins[0], hairpinMode: true }] };
  writeFileSync(file(node, `net.d/${PRIMARY}`), JSON.stringify(changed));
  await eventually(() => assert.match(node.conf(OWNED), /hairpinMode/));
  rmSync(file(node, `net.d/${OWNED}`));
  await eventually(() => assert.deepEqual(types(node, OWNED), ["bridge", "istio-cni"]));
  await node.agent.ready();
  await node.agent.uninstall();
  assert.ok(!existsSync(file(node, `net.d/${OWNED}`)));
  assert.deepEqual(types(node), ["bridge"]);
});

scenario(
  "configuration that cannot be parsed, or is missing: the agent waits, says so, and goes on when it is there",
  async ({ node }) => {
    await node.agent.uninstall();
    for (const text of [undefined, "{ not JSON", '{"cniVersion":"1.0.0","plugins":[]}']) {
      node.resetFiles();
      if (text === undefined) rmSync(file(node, `net.d/${PRIMARY}`));
      else writeFileSync(file(node, `net.d/${PRIMARY}`), text);
      await node.agent.launch({ env: { AMBIENT_DISABLE_SAFE_UPGRADE: "true" } });
      const { program } = node.agent;
      await program!.says(/no valid|waiting|not found|no network|cannot (?:read|parse)|invalid/i);
      assert.equal(await node.agent.isReady(), false);
      // Nobody else's file is touched.
      if (text !== undefined) assert.equal(node.conf(PRIMARY), text);
      writeFileSync(file(node, `net.d/${PRIMARY}`), JSON.stringify(node.primaryConfig));
      await node.agent.ready();
      assert.deepEqual(types(node), ["bridge", "istio-cni"]);
      await node.agent.stop();
    }
  },
);

scenario("read-only directories: a clear error, and nothing half done", async ({ node }) => {
  await node.agent.uninstall();
  node.resetFiles();
  const conf = node.conf(PRIMARY);
  for (const path of ["/host/opt/cni/bin", "/host/etc/cni/net.d"]) {
    await node.agent.launch({ readOnly: [path] });
    const { program } = node.agent;
    await program!.says(/read-only file system/i);
    assert.match(program!.log, /global\.platform/);
    assert.equal(await node.agent.isReady(), false);
    assert.deepEqual(await leftOvers(node), []);
    assert.equal(node.conf(PRIMARY), conf);
    if (program!.running) await node.agent.uninstall();
  }
});

scenario("disk full: a clear error, nothing half done, and the agent goes on when there is room", async ({ node }) => {
  await node.agent.uninstall();
  node.resetFiles();
  const conf = node.conf(PRIMARY);
  // A file system of its own, filled to the last block.
  await node.shell("mount -t tmpfs -o size=16k full /etc/cni/net.d");
  const fill = "cat > /etc/cni/net.d/10-lab.conflist; dd if=/dev/zero of=/etc/cni/net.d/fill bs=1k 2>/dev/null; true";
  await node.exec(["sh", "-c", fill], undefined, conf);
  const inside = (name: string) => readFileSync(node.path(`/etc/cni/net.d/${name}`), "utf8");
  try {
    await node.agent.launch();
    await node.agent.program!.says(/no space left/i);
    assert.equal(inside(PRIMARY), conf);
    assert.deepEqual(await leftOvers(node), []);
    assert.equal(await node.agent.isReady(), false);
    await node.shell("rm /etc/cni/net.d/fill");
    if (!node.agent.running) await node.agent.launch();
    await node.agent.ready();
    assert.match(inside(PRIMARY), /istio-cni/);
  } finally {
    if (node.agent.running) await node.agent.uninstall();
    await node.shell("umount /etc/cni/net.d");
  }
});
