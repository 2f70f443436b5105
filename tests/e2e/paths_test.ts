/** Every path that a connection can take through two ztunnels, over both families, and what is told of it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ECONNRESET } from "../../src/platform/errno.ts";
import { ANSWER, APP_PORT, checkExchange, REQUEST } from "./support/exchange.ts";
import { acceptOne, type Family, TestMesh } from "./support/mesh.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: near, namespace: town, serviceAccount: near, node: a, labels: { app: near } }
  - { name: far, namespace: city, serviceAccount: far, node: b, labels: { app: far } }
  - { name: far-2, namespace: city, serviceAccount: far, node: b, labels: { app: pair } }
  - { name: near-2, namespace: city, serviceAccount: far, node: a, labels: { app: pair } }
  - { name: outside, namespace: wild, serviceAccount: outside, node: b, captured: false, labels: { app: outside } }
  - { name: six, namespace: city, serviceAccount: six, node: b, address: ["fd00:10:244::66"], labels: { app: six } }
services:
  - { name: six, namespace: city, selector: { app: six }, ports: { 80: 8080 } }
  - { name: far, namespace: city, selector: { app: far }, ports: { 80: 8080 } }
  - { name: pair, namespace: city, selector: { app: pair }, ports: { 80: 8080 } }
  - { name: outside, namespace: wild, selector: { app: outside }, ports: { 80: 8080 } }
`;
const FAMILIES: readonly Family[] = ["ipv4", "ipv6"];

let mesh: TestMesh;
before(async () => {
  mesh = await TestMesh.start(FILE);
});
after(() => mesh?.stop());

for (const family of FAMILIES) {
  for (const [server, where] of [["near", "same node"], ["far", "cross node"]] as const) {
    test(`captured to captured, ${where}, ${family}: HBONE, counted once by each side, both identities logged`, async () => {
      const pod = mesh.pod(server);
      const ip = pod.ip(family);
      await checkExchange({ mesh, client: mesh.pod("client"), server: pod, ip, port: APP_PORT, path: "hbone" });
    });
  }

  test(`service address, ${family}: translated to the endpoint's port, the service named by both sides`, async () => {
    await checkExchange({
      mesh,
      client: mesh.pod("client"),
      server: mesh.pod("far"),
      ip: mesh.vip("far", family),
      port: 80,
      path: "hbone",
      service: "far.city.svc.cluster.local",
    });
  });

  test(`uncaptured to captured, ${family}: plaintext through 15006, no identity`, async () => {
    const server = mesh.pod("far");
    const ip = server.ip(family);
    await checkExchange({ mesh, client: mesh.pod("outside"), server, ip, port: APP_PORT, path: "tcp" });
  });

  test(`captured to uncaptured, ${family}: plain TCP, no identity`, async () => {
    const server = mesh.pod("outside");
    const ip = server.ip(family);
    await checkExchange({ mesh, client: mesh.pod("client"), server, ip, port: APP_PORT, path: "tcp" });
  });

  test(`captured to a service of uncaptured pods, ${family}: plain TCP to the endpoint`, async () => {
    await checkExchange({
      mesh,
      client: mesh.pod("client"),
      server: mesh.pod("outside"),
      ip: mesh.vip("outside", family),
      port: 80,
      path: "tcp",
      service: "outside.wild.svc.cluster.local",
    });
  });
}

test("dual stack: an IPv4 service address leads to an endpoint that has only IPv6", async () => {
  await checkExchange({
    mesh,
    client: mesh.pod("client"),
    server: mesh.pod("six"),
    ip: mesh.vip("six", "ipv4"),
    port: 80,
    path: "hbone",
    service: "six.city.svc.cluster.local",
  });
});

test("unknown destination: passes through unchanged", async () => {
  // An address of a pod that no record of the mesh tells of.
  const server = mesh.pod("outside");
  await mesh.run({ pod: "outside", namespace: "wild" }, ["ip", "addr", "add", "198.51.100.7/32", "dev", "lo"]);
  const gateway = mesh.file.nodes.find(({ name }) => name === "b")!.addresses[0]!;
  await mesh.run({ node: "a" }, ["ip", "route", "add", "198.51.100.7", "via", gateway, "dev", "eth0", "onlink"]);
  const link = (await mesh.run({ node: "b" }, ["ip", "-o", "route", "get", server.ip()])).match(/dev (\S+)/)![1]!;
  await mesh.run({ node: "b" }, ["ip", "route", "add", "198.51.100.7", "dev", link]);

  const node = mesh.node("a");
  const mark = node.ztunnel.mark;
  const client = mesh.pod("client");
  const [peer, application] = await acceptOne(server, APP_PORT, () => client.connect("198.51.100.7", APP_PORT));
  peer.write(REQUEST);
  assert.equal(await application.read(REQUEST.length), REQUEST);
  application.write(ANSWER);
  application.finish();
  assert.equal((await peer.readToEnd()).text, ANSWER);
  peer.close();
  application.close();
  const { fields } = await node.ztunnel.access((line) => line.fields["dst.addr"] === `198.51.100.7:${APP_PORT}`, mark);
  assert.equal(fields.direction, "outbound");
  assert.equal(fields["dst.workload"], undefined);
  assert.equal(fields["dst.hbone_addr"], undefined);
  assert.equal(fields.error, undefined);
});

test("load balancing: each connection reaches one backend, many reach both, whichever node they are on", async () => {
  const hits = new Map<string, number>();
  const servers = ["near-2", "far-2"].map((name) =>
    mesh.pod(name).listen(APP_PORT, (peer) => {
      hits.set(name, (hits.get(name) ?? 0) + 1);
      peer.write(name);
      peer.finish();
    })
  );
  try {
    for (let i = 0; i < 60 && hits.size < 2; i++) {
      const before = [...hits.values()].reduce((sum, count) => sum + count, 0);
      const peer = await mesh.pod("client").connect(mesh.vip("pair"), 80);
      const { text } = await peer.readToEnd();
      assert.ok(["near-2", "far-2"].includes(text));
      assert.equal([...hits.values()].reduce((sum, count) => sum + count, 0), before + 1);
      peer.close();
    }
    assert.equal(hits.size, 2, "60 connections all went to one of two equal backends");
  } finally {
    for (const server of servers) server.close();
  }
});

test("no healthy endpoint and no such port: refused, never passed by", async () => {
  const node = mesh.node("a");
  const mark = node.ztunnel.mark;
  assert.equal(await mesh.pod("client").refusal(mesh.vip("far"), 81), ECONNRESET);
  const line = await node.ztunnel.access(({ fields }) => fields["dst.addr"] === `${mesh.vip("far")}:81`, mark);
  assert.equal(line.level, "warn");
  assert.equal(line.message, "connection failed");
  assert.equal(line.fields.direction, "outbound");
  assert.match(line.fields.error!, /no healthy upstream/);
});
