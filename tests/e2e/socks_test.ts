/** The SOCKS5 listener in pods (UNSTABLE_ENABLE_SOCKS5): what is asked for there goes the way of every connection. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ANSWER, APP_PORT, REQUEST } from "./support/exchange.ts";
import { acceptOne, TestMesh, type TestPod } from "./support/mesh.ts";
import type { Peer } from "./support/peer.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b, labels: { app: server } }
services:
  - { name: shop, namespace: city, selector: { app: server }, ports: { 80: ${APP_PORT} } }
`;
const SOCKS_PORT = 15080;

let mesh: TestMesh;
let client: TestPod;
let server: TestPod;
before(async () => {
  mesh = await TestMesh.start(FILE, { env: { UNSTABLE_ENABLE_SOCKS5: "true" } });
  client = mesh.pod("client");
  server = mesh.pod("server");
});
after(() => mesh?.stop());

const byName = (name: string) => [3, name.length, ...new TextEncoder().encode(name)];
const byAddress = (ip: string) => [1, ...ip.split(".").map(Number)];

/** Asks for a connection and gives it with the reply's code. */
async function ask(address: readonly number[], port: number): Promise<readonly [Peer, number]> {
  const peer = await client.connect("127.0.0.1", SOCKS_PORT);
  peer.write(new Uint8Array([5, 1, 0]));
  assert.deepEqual([...await peer.readBytes(2)], [5, 0]);
  peer.write(new Uint8Array([5, 1, 0, ...address, port >> 8, port & 255]));
  const reply = await peer.readBytes(10);
  return [peer, reply[1]];
}

const TARGETS: readonly (readonly [string, () => readonly number[], number])[] = [
  ["a pod's address", () => byAddress(server.ip()), APP_PORT],
  ["a service's address", () => byAddress(mesh.vip("shop")), 80],
  ["a service's name", () => byName("shop.city.svc.cluster.local"), 80],
  ["a short name", () => byName("Shop.City."), 80],
  ["an address as text", () => byName(server.ip()), APP_PORT],
];

for (const [name, address, port] of TARGETS) {
  test(`SOCKS, ${name}: through the tunnel, with the pod's identity`, async () => {
    const marks = [mesh.node("a").ztunnel.mark, mesh.node("b").ztunnel.mark];
    let code = -1;
    const [peer, application] = await acceptOne(server, APP_PORT, async () => {
      const [peer, reply] = await ask(address(), port);
      code = reply;
      return peer;
    });
    assert.equal(code, 0);
    peer.write(REQUEST);
    assert.equal(await application.read(REQUEST.length), REQUEST);
    application.write(ANSWER);
    assert.equal(await peer.read(ANSWER.length), ANSWER);
    peer.finish();
    assert.equal(await application.ended(), "eof");
    application.finish();
    assert.equal(await peer.ended(), "eof");
    peer.close();
    application.close();
    const { fields } = await mesh.node("b").ztunnel.access(({ fields }) => fields.direction === "inbound", marks[1]);
    assert.equal(fields["src.identity"], client.identity);
    const outbound = (await mesh.node("a").ztunnel.access(({ fields }) =>
      fields.direction === "outbound", marks[0])).fields;
    // From the local workload's view, and without what SOCKS itself said.
    assert.deepEqual([outbound.bytes_sent, outbound.bytes_recv], [String(REQUEST.length), String(ANSWER.length)]);
  });
}

test("SOCKS: a destination that cannot be reached is told, and the connection ends in order", async () => {
  const [refused, code] = await ask(byAddress(server.ip()), 9);
  assert.equal(code, 5);
  assert.equal(await refused.ended(), "eof");
  const [unknown, reply] = await ask(byName("nobody.invalid"), 80);
  assert.equal(reply, 4);
  assert.equal(await unknown.ended(), "eof");
});

test("SOCKS: the proxy's own ports are not reached through it", async () => {
  for (const port of [15001, 15006, 15008, SOCKS_PORT]) {
    const mark = mesh.node("a").ztunnel.mark;
    const [peer, code] = await ask(byAddress("127.0.0.1"), port);
    assert.notEqual(code, 0);
    assert.equal(await peer.ended(), "eof");
    const to = `127.0.0.1:${port}`;
    const { fields } = await mesh.node("a").ztunnel.access(({ fields }) => fields["dst.addr"] === to, mark);
    assert.equal(fields.error, "attempted recursive call to ourselves");
  }
});

test("SOCKS: only the pod itself can reach the listener", async () => {
  await assert.rejects(
    server.connect(client.ip(), SOCKS_PORT).then(async (peer) => {
      peer.write(new Uint8Array([5, 1, 0]));
      await peer.readBytes(2);
    }),
  );
});

test("SOCKS: garbage is closed and logged", async () => {
  const mark = mesh.node("a").ztunnel.mark;
  const peer = await client.connect("127.0.0.1", SOCKS_PORT);
  peer.write("GET / HTTP/1.1\r\n\r\n");
  assert.notEqual(await peer.ended(), "closed");
  const { fields } = await mesh.node("a").ztunnel.access(
    ({ fields }) => fields["dst.addr"] === "127.0.0.1:15080",
    mark,
  );
  assert.match(fields.error!, /the client speaks version 71, not SOCKS5/);
  peer.close();
});
