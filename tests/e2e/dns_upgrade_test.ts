/** A new ztunnel takes over the DNS of its pods from the old one: no question stays without its answer. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { TYPE } from "../../src/protocol/dns/mod.ts";
import { a, addresses, ask, NameServer } from "./support/dns_peer.ts";
import { TestMesh, type TestPod } from "./support/mesh.ts";
import { eventually, pause } from "./support/wait.ts";

const FILE = `
nodes: [{ name: n }, { name: spare }]
pods:
  - { name: client, namespace: town, node: n }
  - { name: resolver, namespace: wild, node: n, captured: false }
services:
  - { name: shop, namespace: town, ports: { 80: 8080 } }
`;
/** Questions on their way at any time. */
const AT_ONCE = 8;
/** Less than a client's own patience, after which it would ask again. */
const PATIENCE_MS = 4_000;

let mesh: TestMesh;
let client: TestPod;
let resolver: NameServer;
before(async () => {
  mesh = await TestMesh.create(FILE, { agents: {}, redirection: { dnsCapture: true } });
  await mesh.node("n").start();
  client = mesh.pod("client");
  resolver = new NameServer(mesh.pod("resolver"), ({ question: { name, type } }) => ({
    answers: type === TYPE.A ? [a(name, "192.0.2.1", 0)] : [],
  }));
});
after(async () => {
  resolver?.close();
  await mesh?.stop();
});

test("dns upgrade: questions of the mesh and others, by UDP and TCP, are all answered while the ztunnel is replaced", async () => {
  const old = mesh.node("n");
  await eventually(() => assert.ok(existsSync(join(dirname(old.agent!.path), "ztunnel.handover.sock"))));
  const failures: string[] = [];
  let answered = 0;
  let stop = false;
  const asker = async (number: number) => {
    for (let i = 0; !stop; i++) {
      const local = i % 2 === 0;
      const name = local ? "shop.town" : `n${number}-${i}.example`;
      const protocol = number % 4 === 3 ? "tcp" : "udp";
      try {
        const answer = await ask(client, resolver.pod.ip(), name, { protocol, timeoutMs: PATIENCE_MS });
        assert.deepEqual(addresses(answer), [local ? mesh.vip("shop") : "192.0.2.1"]);
        answered++;
      } catch (error) {
        failures.push(`${protocol} ${name}: ${(error as Error).message}`);
      }
    }
  };
  const askers = Array.from({ length: AT_ONCE }, (_, number) => asker(number));
  await eventually(() => assert.ok(answered > 200));

  const twin = await mesh.twin("n", "spare");
  await twin.start();
  await twin.ztunnel.line((line) => line.includes("another ztunnel serves this node"));
  old.ztunnel.kill("SIGTERM");
  assert.deepEqual(await old.ztunnel.exit(), { code: 0, signal: null });
  const before = answered;
  await eventually(() => assert.ok(answered > before + 200));
  await pause(500);
  stop = true;
  await Promise.all(askers);
  assert.deepEqual(failures, [], `of ${answered}`);
});
