/** What kind of traffic of a captured pod goes where (reference cni, 3.9, 4, 5.1). */
import assert from "node:assert/strict";
import { API_SERVICE_IP } from "../support/network.ts";
import { type CniPod, exchange } from "../support/pod.ts";
import { scenario } from "../support/scenario.ts";
import { flowsByHbone, flowsDirectly, flowsThroughZtunnel } from "../support/traffic.ts";
import { serviceObject } from "../../istiod/support/objects.ts";
import { eventually, pause } from "../../e2e/support/wait.ts";

const PROBE_V4 = "169.254.7.127";
const PROBE_V6 = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff";

/** As the kubelet: from the node's own network, by a process of its user. */
function probe(pod: CniPod, family: "ipv4" | "ipv6") {
  const { lab, namespaceFd } = pod.node;
  return exchange(() => lab.sockets.connect(namespaceFd, pod.ip(family), 8080));
}

scenario("dual stack: both families are captured", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
    CniPod,
    CniPod,
  ];
  await flowsByHbone(client, server, "ipv4");
  await flowsByHbone(client, server, "ipv6");
});

scenario("AMBIENT_IPV6 off: IPv4 is captured, IPv6 goes its own way, and the probe set has no IPv6", async (scene) => {
  const { lab, node, namespace } = scene;
  await node.agent.restart({ env: { AMBIENT_IPV6: "false" } });
  await lab.addNamespace(namespace, "ambient");
  const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
    CniPod,
    CniPod,
  ];
  await flowsByHbone(client, server, "ipv4");
  await flowsDirectly(client, server, "ipv6");
});

scenario("kubelet's probe: it reaches the application past ztunnel, from the probe address", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const [pod, plain] = await node.addPods(
    { name: "captured", namespace },
    { name: "plain", namespace: `${namespace}-plain` },
  ) as [CniPod, CniPod];
  const mark = node.ztunnel.process.mark;
  assert.match((await probe(pod, "ipv4")).client, new RegExp(`^${PROBE_V4}:`));
  assert.match((await probe(pod, "ipv6")).client, new RegExp(`^\\[${PROBE_V6}\\]:`));
  assert.match((await probe(plain, "ipv4")).client, new RegExp(`^${node.bridgeIp}:`));
  await pause(150);
  assert.deepEqual(node.ztunnel.process.accessSince(mark), []);
  // What the node forwards is not the kubelet's.
  const answer = await plain.get(pod);
  assert.match(answer.client, new RegExp(`^${plain.ip()}:`));
});

scenario(
  "DNS capture: ztunnel answers for the mesh, by UDP and TCP; a pod's annotation switches it off",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const [service] = await lab.apply(
      serviceObject({ name: "svc", namespace, selector: { app: "none" }, ports: { 80: 8080 } }),
    );
    const { clusterIP } = service!.spec as { readonly clusterIP: string };
    const [pod, off] = await node.addPods(
      { name: "asks", namespace },
      { name: "off", namespace, annotations: { "ambient.istio.io/dns-capture": "false" } },
    ) as [CniPod, CniPod];
    const lookup = (from: CniPod, ...more: readonly string[]) =>
      // An address where nobody answers DNS.
      from.exec([
        lab.binaries.pod,
        "lookup",
        `-server=${node.ip}`,
        `-name=svc.${namespace}.svc.cluster.local.`,
        ...more,
      ]);
    await eventually(async () => assert.equal((await lookup(pod)).trim(), clusterIP), 20_000);
    assert.equal((await lookup(pod, "-tcp")).trim(), clusterIP);
    await assert.rejects(lookup(off));
  },
);

scenario("ingress annotation: what comes in plain is not captured, what goes out is", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const [gateway, server, outside] = await node.addPods(
    { name: "gateway", namespace, annotations: { "ambient.istio.io/bypass-inbound-capture": "true" } },
    { name: "server", namespace },
    { name: "outside", namespace: `${namespace}-outside` },
  ) as [CniPod, CniPod, CniPod];
  await flowsDirectly(outside, gateway);
  await flowsByHbone(gateway, server);
  // To others of the mesh it is a member like any.
  await flowsByHbone(server, gateway);
});

scenario("out of the mesh: a captured pod reaches what is not in it, through its ztunnel", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const [client, outside] = await node.addPods(
    { name: "client", namespace },
    { name: "outside", namespace: `${namespace}-outside` },
  ) as [CniPod, CniPod];
  await flowsThroughZtunnel(client, outside);
  // The API server, by the address that another node-level proxy translates.
  (await client.connect(API_SERVICE_IP, 443)).close();
});

for (
  const [name, env] of [
    ["iptables-legacy", { FORCE_IPTABLES_BINARY: "legacy" }],
    ["iptables-nft", { FORCE_IPTABLES_BINARY: "nft" }],
    ["native nftables", { NATIVE_NFTABLES: "true" }],
  ] as const
) {
  scenario(`back end ${name}: pods are captured, probes pass, and all is taken back`, async (scene) => {
    const { lab, node, namespace } = scene;
    await node.agent.uninstall();
    await node.agent.restart({ env });
    await lab.addNamespace(namespace, "ambient");
    const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
      CniPod,
      CniPod,
    ];
    await flowsByHbone(client, server);
    await flowsByHbone(client, server, "ipv6");
    assert.match((await probe(server, "ipv4")).client, new RegExp(`^${PROBE_V4}:`));
    assert.match((await probe(server, "ipv6")).client, new RegExp(`^\\[${PROBE_V6}\\]:`));
    const dumps = await client.node.shell(
      "nft list tables; cat /proc/net/ip_tables_names 2>/dev/null || true",
      client.netns,
    );
    const expected = {
      "iptables-legacy": /^nat$/m,
      "iptables-nft": /table ip nat/,
      "native nftables": /inet istio-ambient-nat/,
    };
    assert.match(dumps, expected[name]);
    await lab.label(namespace, null);
    await Promise.all([client, server].map((pod) => pod.becomes(undefined)));
    await flowsDirectly(client, server);
    await node.agent.uninstall();
  });
}
