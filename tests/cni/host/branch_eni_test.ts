/** Pods behind a branch interface: real rules and routes as AWS' network plugin makes them, in a network namespace. */
import assert from "node:assert/strict";
import { symlinkSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { createBranchEni } from "../../../src/cni/host/branch_eni.ts";
import { createNetnsRunner } from "../../../src/cni/redirection/netns_runner.ts";
import type { RunInNetns } from "../../../src/cni/redirection/run_in_netns.ts";
import { createScene, type Scene } from "./support.ts";

const UID = "863b91d4-4b68-4efa-917f-4b560e3e86aa";
const BRANCH = { "10.98.0.5": "-4", "fd00:98::5": "-6" } as const;
const ORDINARY = "10.98.0.6";

let scene: Scene;
let untouched: string;
before(async () => {
  scene = await createScene();
  const { node, proc } = scene;
  symlinkSync("/proc/sys/net", join(proc.root, "sys", "net"));
  node.run("sysctl", "-qw", "net.ipv4.tcp_early_demux=0");
  for (const device of ["vlan.eth.1", "veth7"]) {
    node.run("ip", "link", "add", device, "type", "veth", "peer", "name", `${device}p`);
    for (const end of [device, `${device}p`]) node.run("ip", "link", "set", end, "up");
  }
  for (const [ip, family] of Object.entries(BRANCH)) {
    node.run("ip", family, "route", "add", ip, "dev", "vlan.eth.1", "table", "101");
    node.run("ip", family, "rule", "add", "iif", "vlan.eth.1", "lookup", "101", "pref", "10");
  }
  node.run("ip", "route", "add", ORDINARY, "dev", "veth7");
  node.run("ip", "rule", "add", "to", ORDINARY, "lookup", "main", "pref", "512");
  // A table that is looked up for another interface than its route's.
  node.run("ip", "route", "add", "10.98.0.7", "dev", "veth7", "table", "102");
  node.run("ip", "rule", "add", "iif", "vlan.eth.1", "lookup", "102", "pref", "11");
});
after(() => scene?.close());
beforeEach(() => {
  untouched = listing();
});

/** All rules of both families, one line each. */
function listing(): string {
  const lines = ["-4", "-6"].map((family) => scene.node.run("ip", "-N", family, "rule", "list"));
  return lines.join("").replace(/[ \t]+/g, " ").replace(/ +$/gm, "");
}

function added(): string[] {
  const before = untouched.split("\n");
  return listing().split("\n").filter((line) => !before.includes(line)).sort();
}

const EXPECTED = [
  "512: from all to 10.98.0.5 lookup 101",
  "512: from all to fd00:98::5 lookup 101",
  "9: from all iif vlan.eth.1 lookup 255",
  "9: from all iif vlan.eth.1 lookup 255",
];

test("branch interface: both directions of its pods are led through it, of other pods nothing is", async () => {
  const rules = scene.rules("nftables", { branchEni: true });
  await rules.setUp();
  await rules.addPod(UID, Object.keys(BRANCH));
  await rules.addPod("ordinary", [ORDINARY, "10.98.0.7", "10.98.0.8"]);
  assert.deepEqual(added(), EXPECTED);
  assert.deepEqual(await rules.verify(), []);
  scene.node.run("ip", "rule", "del", "pref", "512", "lookup", "101");
  scene.node.run("ip", "-6", "rule", "del", "pref", "9");
  assert.deepEqual(await rules.verify(), [
    "ip rule: to 10.98.0.5/32 lookup 101 pref 512 is missing",
    "ip rule: iif vlan.eth.1 lookup 255 pref 9 is missing",
  ]);
  await rules.repair();
  assert.deepEqual(added(), EXPECTED);
  // Again, as when the agent was started anew.
  await rules.addPod(UID, Object.keys(BRANCH));
  assert.deepEqual(added(), EXPECTED);
  await rules.removePod(UID, []);
  assert.equal(listing(), untouched);
  await rules.addPod(UID, ["10.98.0.5"]);
  await rules.tearDown();
  assert.equal(listing(), untouched);
});

test("branch interface: without the node's setting, or when it is turned off, nothing is even looked at", async () => {
  const before = scene.commands.length;
  for (const [setting, isOn] of [["1", true], ["0", false]] as const) {
    scene.node.run("sysctl", "-qw", `net.ipv4.tcp_early_demux=${setting}`);
    const rules = scene.rules("nftables", { branchEni: isOn });
    await rules.setUp();
    await rules.addPod(UID, Object.keys(BRANCH));
    assert.equal(listing(), untouched);
    await rules.tearDown();
  }
  assert.deepEqual(scene.commands.slice(before).filter((command) => command.startsWith("ip ")), []);
});

test("branch interface: if the second rule cannot be added, the first one is taken back", async () => {
  const real = createNetnsRunner();
  const run: RunInNetns = (netns, command, input, env) =>
    command.includes("add") && command.includes("iif")
      ? Promise.resolve({ code: 2, stdout: "", stderr: "RTNETLINK answers: no\n" })
      : real(netns, command, input, env);
  const branch = createBranchEni({ run, netns: scene.node.path, earlyDemux: () => "0\n" });
  await assert.rejects(branch.add(["10.98.0.5"]), /ip -N -4 rule add iif vlan.eth.1 .*RTNETLINK answers: no/);
  assert.equal(listing(), untouched);
  await branch.remove(["10.98.0.5"]);
  assert.equal(listing(), untouched);
});
