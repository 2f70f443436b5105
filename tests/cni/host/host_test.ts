/** The node's rules and sets for probes, with each back end, in network namespaces: what the kernel has, and what packets do. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import type { HostBackend, HostRules } from "../../../src/cni/host/host.ts";
import { insideNamespace, openNamespace } from "../../../src/platform/netns.ts";
import { AF_INET, AF_INET6, isIpv6 } from "../../../src/platform/sockaddr.ts";
import {
  acceptedPeer,
  bindSocket,
  closeDescriptor,
  connectSocket,
  createTcpSocket,
  listenSocket,
} from "../../../src/platform/socket.ts";
import { acceptOne } from "../../platform/support.ts";
import { Namespace } from "../support_netns.ts";
import { flushes } from "./flushes.ts";
import { BACKENDS, createScene, dump, type Scene, SNAT } from "./support.ts";

const UID = "863b91d4-4b68-4efa-917f-4b560e3e86aa";
const OTHER = "2c48913c-b29f-11e7-9350-020968147796";
const V4 = "10.99.0.2";
const V6 = "fd00:99::2";
const PORT = 8080;
let scene: Scene;
let pod: Namespace;
/** In the pod. */
let listener: number;
let nodeFd: number;
before(async () => {
  scene = await createScene();
  pod = await Namespace.create();
  scene.node.link("veth0", pod, "eth0");
  for (const [where, device, end] of [[scene.node, "veth0", 1], [pod, "eth0", 2]] as const) {
    where.run("ip", "address", "add", `10.99.0.${end}/24`, "dev", device);
    where.run("ip", "-6", "address", "add", `fd00:99::${end}/64`, "dev", device, "nodad");
  }
  // The way back to where probes seem to come from.
  pod.run("ip", "route", "add", `${SNAT.v4}/32`, "via", "10.99.0.1");
  pod.run("ip", "-6", "route", "add", `${SNAT.v6}/128`, "via", "fd00:99::1");
  const inPod = openNamespace(pod.path);
  nodeFd = openNamespace(scene.node.path);
  listener = insideNamespace(inPod, () => createTcpSocket(AF_INET6));
  closeDescriptor(inPod);
  assert.equal(bindSocket(listener, "::", PORT, AF_INET6), 0);
  assert.equal(listenSocket(listener, 8), 0);
});
after(() => {
  closeDescriptor(listener);
  closeDescriptor(nodeFd);
  pod?.close();
  scene?.close();
});
beforeEach(() => {
  scene.lines.length = 0;
});

/** From where the pod sees a connection come that the node makes. */
function caller(ip: string): string | undefined {
  const family = isIpv6(ip) ? AF_INET6 : AF_INET;
  const client = insideNamespace(nodeFd, () => createTcpSocket(family));
  connectSocket(client, ip, PORT, family);
  const accepted = acceptOne(listener);
  const peer = acceptedPeer()?.ip;
  closeDescriptor(accepted);
  closeDescriptor(client);
  return peer;
}

/** What the sets hold, in the kernel. */
function entries(backend: HostBackend): Record<string, string> {
  const found: Record<string, string> = {};
  if (backend === "nftables") {
    const text = scene.node.run("nft", "list", "table", "inet", "istio-ambient-nat").replace(/comment "ambit .*/g, "");
    for (const [, ip, uid] of text.matchAll(/([0-9a-f.:]+) comment "([^"]+)"/g)) found[ip] = uid;
    return found;
  }
  for (const [, ip, uid] of scene.node.run("ipset", "save").matchAll(/^add \S+ (\S+) comment "([^"]+)"/gm)) {
    found[ip] = uid;
  }
  return found;
}

function sorted(list: readonly string[]): string[] {
  return [...list].sort();
}

for (const backend of BACKENDS) {
  /** The two iptables differ in their programs only: some scenarios are enough for the second. */
  const isBrief = backend === "iptables-legacy";
  const scenario = (name: string, body: (rules: HostRules) => Promise<void>, more = {}) =>
    test(`host rules, ${backend}: ${name}`, async () => {
      const rules = scene.rules(backend, more);
      await rules.setUp();
      await body(rules);
    });
  const full: typeof scenario = isBrief ? async () => {} : scenario;

  scenario("the node's connections to a pod come from the probes' address, others do not", async (rules) => {
    assert.equal(rules.describe(), backend);
    assert.equal(caller(V4), "10.99.0.1");
    await rules.addPod(UID, [V4, V6]);
    assert.deepEqual(await rules.verify(), []);
    assert.equal(caller(V4), SNAT.v4);
    assert.equal(caller(V6), SNAT.v6);
    await rules.removePod(UID, [V4]);
    assert.equal(caller(V4), "10.99.0.1");
    assert.equal(caller(V6), "fd00:99::1", "all of the pod's addresses go");
    assert.deepEqual(await rules.verify(), []);
  });

  full("an address that another pod has by now is not taken from it", async (rules) => {
    await rules.addPod(UID, [V4]);
    await rules.addPod(OTHER, [V4]);
    assert.deepEqual(entries(backend), { [V4]: OTHER });
    await rules.removePod(UID, [V4]);
    assert.deepEqual(entries(backend), { [V4]: OTHER });
    assert.ok(scene.lines.some((line) => line.startsWith("warn the address is another pod's by now")));
    await rules.removePod(OTHER, []);
    assert.deepEqual(entries(backend), {});
  });

  full("a burst of pods is few runs, and every one of them is in", async (rules) => {
    const pods = Array.from(
      { length: 200 },
      (_, i) => ({ uid: `pod-${i}`, ips: [`10.99.1.${i}`, `fd00:99:1::${i.toString(16)}`] }),
    );
    const before = scene.commands.length;
    await Promise.all(pods.map(({ uid, ips }) => rules.addPod(uid, ips)));
    assert.ok(scene.commands.length - before <= 2, scene.commands.slice(before).join("\n"));
    assert.equal(Object.keys(entries(backend)).length, 400);
    await Promise.all(pods.slice(1).map(({ uid, ips }) => rules.removePod(uid, ips)));
    assert.deepEqual(entries(backend), { "10.99.1.0": "pod-0", "fd00:99:1::": "pod-0" });
  });

  full("sync makes it exactly so, or takes nothing out when a pod has no address yet", async (rules) => {
    await rules.addPod("gone", ["10.99.0.9"]);
    await rules.sync([{ uid: UID, ips: [V4, V6] }, { uid: OTHER, ips: [] }]);
    assert.deepEqual(sorted(Object.keys(entries(backend))), sorted([V4, V6, "10.99.0.9"]));
    await rules.sync([{ uid: UID, ips: [V4, `::ffff:${V4}`] }, { uid: OTHER, ips: [V4, "10.99.0.8"] }]);
    assert.deepEqual(entries(backend), { [V4]: UID, "10.99.0.8": OTHER });
    assert.ok(scene.lines.some((line) => line.startsWith("warn two pods have the same address")));
    assert.deepEqual(await rules.verify(), []);
  });

  full("without IPv6 a pod's IPv6 address is passed over, and what was of IPv6 is gone", async (rules) => {
    assert.doesNotMatch(dump(scene.node), /istio-inpod-probes-v6/);
    await rules.addPod(UID, [V4, V6]);
    await rules.addPod(OTHER, [V6]);
    assert.deepEqual(entries(backend), { [V4]: UID });
    assert.equal(caller(V6), "fd00:99::1");
    assert.equal(caller(V4), SNAT.v4);
    await rules.removePod(UID, [V4, V6]);
    assert.deepEqual(await rules.verify(), []);
  }, { ipv6: false });

  scenario("what an earlier run left is emptied, and replaced", async (rules) => {
    await rules.addPod("old", ["10.99.0.9"]);
    const next = scene.rules(backend);
    await next.setUp();
    assert.deepEqual(entries(backend), {});
    await next.setUp();
    assert.deepEqual(await next.verify(), []);
    await next.addPod(UID, [V4]);
    assert.equal(caller(V4), SNAT.v4);
    // The one before does not know it; the set tells whose it is.
    await next.removePod("nobody", ["10.99.0.77"]);
    await scene.rules(backend).removePod(OTHER, [V4]);
    assert.deepEqual(entries(backend), { [V4]: UID });
    await scene.rules(backend).removePod(UID, [V4]);
    assert.deepEqual(entries(backend), {});
  });

  full("a uid that is none is refused", async (rules) => {
    await assert.rejects(rules.addPod('x" } ; flush ruleset', [V4]), /is not the uid of a pod/);
    assert.deepEqual(entries(backend), {});
  });

  const tried = Object.entries(flushes(backend, V4)).filter(([what]) => !isBrief || /reloaded|destroyed/.test(what));
  scenario("whatever others take away is noticed and brought back, with nobody else's rules touched", async (rules) => {
    await rules.addPod(UID, [V4, V6]);
    for (const [what, flush] of tried) {
      flush(scene.node);
      // Somebody else's, made after the flush, as firewalld does.
      scene.node.run("sh", "-c", `nft add table ip foreign && ipset create foreign hash:ip -exist && ${foreign("-A")}`);
      assert.notDeepEqual(await rules.verify(), [], what);
      await rules.repair();
      assert.deepEqual(await rules.verify(), [], what);
      assert.equal(caller(V4), SNAT.v4, what);
      assert.equal(caller(V6), SNAT.v6, what);
      assert.deepEqual(entries(backend), { [V4]: UID, [V6]: UID }, what);
      scene.node.run("sh", "-c", `nft delete table ip foreign && ipset destroy foreign && ${foreign("-D")}`);
    }
    const settled = dump(scene.node);
    await rules.repair();
    assert.equal(dump(scene.node), settled, "to repair what is right changes nothing");
  });
  const foreign = (action: string) =>
    backend === "nftables" ? "true" : `${backend} -t nat ${action} POSTROUTING -d 192.0.2.1 -j ACCEPT`;

  scenario("a pod that comes after the sets were taken away brings all of them back", async (rules) => {
    await rules.addPod(UID, [V4]);
    if (backend === "nftables") scene.node.run("nft", "flush", "ruleset");
    else {
      for (const tool of [backend, backend.replace("ip", "ip6")]) scene.node.run(tool, "-t", "nat", "-F");
      scene.node.run("ipset", "destroy");
    }
    await rules.addPod(OTHER, ["10.99.0.9"]);
    assert.deepEqual(entries(backend), { [V4]: UID, "10.99.0.9": OTHER });
    assert.equal(caller(V4), SNAT.v4);
    assert.deepEqual(await rules.verify(), []);
  });

  test(`host rules, ${backend}: torn down, nothing is left`, async () => {
    const rules = scene.rules(backend);
    await rules.setUp();
    await rules.addPod(UID, [V4, V6]);
    assert.match(dump(scene.node), /istio-inpod-probes-v4/);
    await rules.tearDown();
    assert.doesNotMatch(dump(scene.node), /istio/i);
    await rules.tearDown();
  });
}
