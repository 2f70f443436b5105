/** What goes wrong around an agent: each time a clear error, nothing left behind, and no packet of a captured pod past ztunnel. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, pause } from "../../e2e/support/wait.ts";
import { FakeZtunnel } from "../support/fake_ztunnel.ts";
import { flush, hostRules, podRules, probeSet } from "../support/kernel.ts";
import { breakApi, mendApi, restoreServiceRules } from "../support/network.ts";
import { CniFailure, CniPod } from "../support/pod.ts";
import { scenario } from "../support/scenario.ts";
import { flowsByHbone, flowsDirectly, Load } from "../support/traffic.ts";

const QUICK_REPAIR = { AMBIT_CNI_VERIFY_INTERVAL: "1s", AMBIT_CNI_HOST_VERIFY_INTERVAL: "1s" };

scenario(
  "API server gone and back: traffic goes on, and what changed meanwhile is done when it is back",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const [client, server, other] = await node.addPods(
      { name: "client", namespace },
      { name: "server", namespace },
      { name: "other", namespace: `${namespace}-other` },
    ) as [CniPod, CniPod, CniPod];
    await flowsByHbone(client, server);
    const load = await Load.start(client, server);
    const late = await CniPod.bind(node, { name: "late", namespace });
    await late.makeNamespace();
    await breakApi(node);
    await lab.label(`${namespace}-other`, "ambient");
    await load.more();
    // Without the API the plugin does not know whether the pod is of the mesh: it waits, and it is not let through.
    const adding = late.add().then(() => "added", () => "refused");
    assert.equal(await Promise.race([adding, pause(2_000).then(() => "waiting")]), "waiting");
    await mendApi(node);
    if (await adding === "refused") await late.add();
    assert.equal(await late.redirection(), "enabled");
    await late.startApp();
    await late.report();
    await other.becomes("enabled", 30_000);
    await flowsByHbone(late, other);
    await load.more();
    await load.stop();
    assert.deepEqual(load.failures, []);
  },
);

scenario(
  "API server gone between rules and annotation: the plugin is told, and the pod is finished when it is back",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const fake = await FakeZtunnel.connect(node);
    await fake.asked(({ kind }) => kind === "snapshot_sent");
    fake.answering = false;
    const pod = await CniPod.bind(node, { name: "caught", namespace });
    await pod.makeNamespace();
    const adding = pod.add().then(() => undefined, (error) => error as Error);
    await fake.asked((request) => request.kind === "add" && request.uid === pod.uid);
    await breakApi(node);
    fake.answer();
    const failure = await adding;
    await mendApi(node);
    assert.ok(failure instanceof CniFailure, "the sandbox was made without its annotation");
    fake.close();
    await pod.removeNamespace();
    await node.agent.connected(1);
    await pod.run();
    assert.equal(await pod.redirection(), "enabled");
  },
);

scenario("expired token: a clear error, no sandbox that is let through, and a fresh token heals it", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const before = readFileSync(join(node.directory, "serviceaccount/token"), "utf8");
  await node.agent.stop();
  await node.agent.writeToken(await node.agent.expiredToken());
  await node.agent.launch();
  await node.agent.program!.says(/unauthorized|401|expired/i);
  assert.equal(await node.agent.isReady(), false);
  const pod = await CniPod.bind(node, { name: "waits", namespace });
  await pod.makeNamespace();
  const adding = pod.add().then(() => "added", (error) => String(error));
  assert.notEqual(await Promise.race([adding, pause(1_500).then(() => "waiting")]), "added");
  await node.agent.writeToken(before);
  await node.agent.ready();
  await node.agent.connected(1);
  if (await adding !== "added") {
    await pod.removeNamespace();
    await pod.makeNamespace();
    await pod.add();
  }
  assert.equal(await pod.redirection(), "enabled");
});

scenario("foreign rules in the pod: they stay as they are, before, during and after", async (scene) => {
  const { lab, node, namespace } = scene;
  const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
    CniPod,
    CniPod,
  ];
  for (const backend of ["legacy", "nft"]) {
    await client.exec([
      "sh",
      "-c",
      `
      iptables-${backend} -t nat -A OUTPUT -d 192.0.2.1 -j ACCEPT && iptables-${backend} -t filter -A INPUT -s 192.0.2.2 -j DROP &&
      iptables-${backend} -t mangle -N OTHERS && ip6tables-${backend} -t nat -A PREROUTING -p udp --dport 9 -j ACCEPT`,
    ]);
  }
  await client.exec([
    "nft",
    "add table inet others; add chain inet others input { type filter hook input priority 5; }; " +
    "add rule inet others input ip saddr 192.0.2.3 drop",
  ]);
  await client.exec(["ip", "rule", "add", "fwmark", "0x77", "lookup", "100", "pref", "777"]);
  const foreign = async () =>
    (await client.node.shell("nft -s list ruleset; iptables-legacy-save; ip6tables-legacy-save; ip rule", client.netns))
      .split("\n").filter((line) => /192\.0\.2\.|OTHERS|others|dport 9\b|0x77/.test(line)).map((line) =>
        line.replace(/\[.*\]/, "").trim()
      );
  const before = await foreign();
  assert.ok(before.length >= 9, before.join("\n"));
  await lab.label(namespace, "ambient");
  await Promise.all([client, server].map((pod) => pod.becomes("enabled")));
  await flowsByHbone(client, server);
  assert.deepEqual(await foreign(), before);
  await lab.label(namespace, null);
  await Promise.all([client, server].map((pod) => pod.becomes(undefined)));
  await flowsDirectly(client, server);
  assert.deepEqual(await foreign(), before);
});

scenario(
  "firewall flush: rules in pods and on the node come back, are reported, and traffic is captured again",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await node.agent.restart({ env: QUICK_REPAIR });
    await lab.addNamespace(namespace, "ambient");
    const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
      CniPod,
      CniPod,
    ];
    await flowsByHbone(client, server);
    const [rules, host] = [await podRules(client), await hostRules(node)];
    const mark = node.agent.program!.mark;
    await flush(node, client.netns);
    await eventually(async () => assert.deepEqual(await podRules(client), rules));
    await flowsByHbone(client, server);
    await node.agent.program!.says(/repair|drift/i, mark);
    await flush(node);
    await restoreServiceRules(node);
    await node.shell("ipset flush 2>/dev/null; true");
    await eventually(async () => {
      assert.deepEqual(await hostRules(node), host);
      assert.equal((await probeSet(node)).get(server.ip()), server.uid);
    });
  },
);

scenario(
  "a namespace that is no pod's: neither a visitor's nor the node's own nor a plain file is ever redirected",
  async (scene) => {
    const { lab, node, namespace } = scene;
    const pod = await node.addPod({ name: "visited", namespace });
    // A process of the pod's control group in somebody else's network, older than the agent's look.
    const foreign = await node.addPod({ name: "foreign", namespace: `${namespace}-foreign` });
    const visitor = await pod.start(["init"], foreign.netns);
    const host = await hostRules(node);
    await lab.label(namespace, "ambient");
    await pod.becomes("enabled");
    assert.notDeepEqual(await podRules(pod), []);
    assert.deepEqual(await podRules(foreign), []);
    await visitor.end();

    const next = await CniPod.bind(node, { name: "next", namespace });
    await node.shell("touch /run/netns/plain-file");
    for (
      const path of [
        "/var/run/netns/plain-file",
        "/var/run/netns/nothing",
        "/proc/1/ns/net",
        "/var/run/netns/../../../proc/1/ns/net",
      ]
    ) {
      const event = {
        Netns: path,
        PodName: next.name,
        PodNamespace: namespace,
        IPs: [{ Address: { IP: "10.9.9.9", Mask: "/////w==" } }],
      };
      const answer = await node.exec([
        "curl",
        "-sS",
        "--unix-socket",
        "/run/istio-cni/pluginevent.sock",
        "-w",
        "\n%{http_code}",
        "-H",
        "content-type: application/json",
        "-d",
        JSON.stringify(event),
        "http://unix/cmdadd",
      ]);
      assert.match(answer, /\n500$/, path);
    }
    const after = await hostRules(node);
    assert.deepEqual(after.filter((line) => !line.includes(pod.uid)), host);
    assert.ok(!(await node.ztunnel.served()).includes(next.uid));
  },
);
