/**
 * Runs inside namespaces of its own, started by topology_test.ts: makes two nodes with pods, connects every pod to every other, then
 * changes the topology. Prints one line for each connection that did not do what it should, and "done".
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { createServer } from "node:net";
import { isIPv6 } from "node:net";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { runToolIn } from "../../src/local/run_tool.ts";
import { type PodSite, Topology } from "../../src/local/topology.ts";

const RUNTIME = process.versions.deno === undefined
  ? [process.execPath]
  : [process.execPath, "run", "--no-check", "-A"];
const [mode, directory = ""] = process.argv.slice(2);

if (mode === "serve") {
  createServer((socket) => socket.end(`${socket.remoteAddress?.replace(/^::ffff:/, "")}\n`))
    .listen(7000, "::", () => console.log("ready"));
} else {
  await main();
  process.exit(0);
}

function pod(name: string, node: string, ...addresses: string[]): PodSite {
  return { uid: `uid-${name}`, name, namespace: "test", node, addresses };
}

async function main(): Promise<void> {
  const topology = await Topology.create(directory);
  const pods = [
    pod("a1", "a", "10.244.0.1", "fd00:1::1"),
    pod("a2", "a", "192.0.2.77"),
    pod("b1", "b", "10.244.0.3", "fd00:1::3"),
    pod("b2", "b", "2001:db8:7::4"),
  ];
  await topology.add([
    { name: "a", addresses: ["172.30.0.1", "fd00:172::1"] },
    { name: "b", addresses: ["198.51.100.9", "fd00:172::2"] },
  ], pods);
  await serve(topology, pods);
  await expectAllConnected(topology, pods);

  // Later ones reach the earlier ones and the other way round.
  const late = [pod("c1", "c", "10.244.7.7", "fd00:1::7"), pod("a3", "a", "10.244.0.9")];
  await topology.add([{ name: "c", addresses: ["172.30.0.3", "fd00:172::3"] }], late);
  await serve(topology, late);
  await expectAllConnected(topology, [...pods, ...late]);

  // All or nothing: what fails leaves no trace.
  const names = await readdir(directory);
  await assert.rejects(topology.add([], [pod("bad", "a", "10.244.50.1"), pod("worse", "a", "10.244.0.1")]), /is taken/);
  await assert.rejects(
    topology.add([], [pod("bad", "a", "10.244.50.1"), pod("worse", "a", "10.244.0.300")]),
    /network/,
  );
  assert.deepEqual(await readdir(directory), names);
  await topology.add([], [pod("bad", "b", "10.244.50.1")]);

  // What is gone is gone, its address free for another node's pod.
  await topology.removePod("uid-c1");
  await topology.removeNode("c");
  const moved = pod("moved", "b", "10.244.7.7");
  await topology.add([], [moved]);
  await serve(topology, [moved]);
  await expectAllConnected(topology, [...pods, late[1]!, moved]);

  // Nothing here leads out of here.
  const { stdout } = await runToolIn(topology.nodeNetns("a"), ["ip", "route", "get", "1.1.1.1"]);
  assert.equal(stdout, "");
  console.log("done");
}

async function serve(topology: Topology, pods: readonly PodSite[]): Promise<void> {
  await Promise.all(pods.map(async ({ uid }) => {
    const command = [...RUNTIME, fileURLToPath(import.meta.url), "serve"];
    const server = spawn("nsenter", [`--net=${topology.podNetns(uid)}`, "--", ...command], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(server.stdout, "data");
  }));
}

/** Every pod gets an answer from every other, and the server sees the client's own address. */
async function expectAllConnected(topology: Topology, pods: readonly PodSite[]): Promise<void> {
  await Promise.all(pods.map(async (from) => {
    for (const to of pods) {
      for (const address of to.addresses) {
        const source = from.addresses.find((own) => isIPv6(own) === isIPv6(address));
        if (source === undefined) continue;
        const url = `telnet://${isIPv6(address) ? `[${address}]` : address}:7000`;
        const { stdout, stderr } = await runToolIn(topology.podNetns(from.uid), ["curl", "-sS", "-m", "5", url]);
        const expected = from === to ? address : source;
        if (stdout.trim() !== expected) console.log(`${from.name} to ${address}: ${stdout.trim()} ${stderr.trim()}`);
      }
    }
  }));
}
