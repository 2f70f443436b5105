/** Bytes through two ztunnels on two nodes: all of them, in order, each half ended by itself, and memory given back. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Bulk } from "./support/bulk.ts";
import { acceptOne, type Family, TestMesh, type TestPod } from "./support/mesh.ts";
import type { Peer } from "./support/peer.ts";
import { eventually, within } from "./support/wait.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b }
  - { name: outside, namespace: wild, node: a, captured: false }
`;
const PORT = 7000;

let mesh: TestMesh;
let client: TestPod;
let server: TestPod;
before(async () => {
  mesh = await TestMesh.start(FILE);
  client = mesh.pod("client");
  server = mesh.pod("server");
});
after(() => mesh?.stop());

async function transfer(from: TestPod, family: Family, bytes: number, timeoutMs: number): Promise<void> {
  let accepted: (fd: number) => void = () => {};
  const incoming = within<number>(10_000, "the connection", (resolve) => accepted = resolve);
  const listener = mesh.lab.listenRaw(server.namespaceFd, PORT, (fd) => accepted(fd));
  const fd = await mesh.lab.connectRaw(from.namespaceFd, server.ip(family), PORT);
  const ends = [new Bulk(mesh.lab, fd, bytes), new Bulk(mesh.lab, await incoming, bytes)];
  listener.close();
  const [near, far] = await Promise.all(ends.map((end) => end.done(timeoutMs)));
  assert.equal(far!.received, bytes);
  assert.equal(near!.received, bytes);
  assert.equal(far!.receivedSha256, near!.sentSha256);
  assert.equal(near!.receivedSha256, far!.sentSha256);
}

const GIGABYTE = 1_000_000_000;
test("transfer, 1 GB each way at once over HBONE, random chunks: every bit arrives, memory stays bounded", async () => {
  const before = ["a", "b"].map((name) => mesh.node(name).ztunnel.residentKilobytes);
  const marks = ["a", "b"].map((name) => mesh.node(name).ztunnel.mark);
  await transfer(client, "ipv4", GIGABYTE, 60_000);
  for (const [i, name] of ["a", "b"].entries()) {
    const { ztunnel } = mesh.node(name);
    const { fields } = await ztunnel.access(({ fields }) => fields.direction !== undefined, marks[i]);
    assert.equal(fields.bytes_sent, String(GIGABYTE));
    assert.equal(fields.bytes_recv, String(GIGABYTE));
    assert.equal(fields.error, undefined);
    const grownMegabytes = (ztunnel.residentKilobytes - before[i]!) / 1024;
    assert.ok(grownMegabytes < 96, `${Math.round(grownMegabytes)} MB more at ${name}`);
  }
});

test("transfer, 32 MB each way at once over HBONE and IPv6", () => transfer(client, "ipv6", 32_000_000, 20_000));

test("transfer, 32 MB each way at once in plaintext", () => transfer(mesh.pod("outside"), "ipv4", 32_000_000, 20_000));

for (const [name, how] of [["client", "HBONE"], ["outside", "plaintext"]] as const) {
  for (const first of ["client", "application"] as const) {
    test(`half-close, ${how}, the ${first} ends its half first: the other half goes on as long as it likes`, async () => {
      const [peer, application] = await acceptOne(server, PORT, () => mesh.pod(name).connect(server.ip(), PORT));
      const [early, late] = first === "client" ? [peer, application] : [application, peer];
      early.write("last words");
      early.finish();
      assert.deepEqual(await late.readToEnd(), { text: "last words", end: "eof" });
      for (const words of ["first", "second", "third"]) {
        late.write(words);
        assert.equal(await early.read(words.length), words);
      }
      late.finish();
      assert.equal(await early.ended(), "eof");
      peer.close();
      application.close();
    });
  }

  test(`half-close, ${how}, an end at once and no byte in either direction: in order on both sides`, async () => {
    const [peer, application] = await acceptOne(server, PORT, () => mesh.pod(name).connect(server.ip(), PORT));
    peer.finish();
    assert.equal(await application.ended(), "eof");
    application.finish();
    assert.equal(await peer.ended(), "eof");
    peer.close();
    application.close();
  });
}

const IDLE = 2_000;
test(`idle, ${IDLE} connections: memory per connection bounded, descriptors and memory given back`, async () => {
  const ztunnels = ["a", "b"].map((name) => mesh.node(name).ztunnel);
  const accepted: Peer[] = [];
  const listener = server.listen(PORT, (peer) => accepted.push(peer));
  const connect = async () => {
    const peer = await client.connect(server.ip(), PORT);
    peer.write("x");
    return peer;
  };
  // Once before: what a first burst makes a runtime allocate is not counted per connection.
  for (let round = 0; round < 2; round++) {
    const before = ztunnels.map((ztunnel) => [ztunnel.descriptors, ztunnel.residentKilobytes] as const);
    const peers: Peer[] = [];
    while (peers.length < IDLE) peers.push(...await Promise.all(Array.from({ length: 100 }, connect)));
    await eventually(() => assert.equal(accepted.length, IDLE), 30_000);
    if (round === 1) {
      for (const [i, ztunnel] of ztunnels.entries()) {
        const opened = ztunnel.descriptors - before[i]![0];
        // One for the application, and one tunnel for a hundred of them.
        assert.ok(opened < IDLE * 1.05, `${opened} descriptors for ${IDLE} connections`);
        const each = (ztunnel.residentKilobytes - before[i]![1]) / IDLE;
        assert.ok(each < 24, `${each.toFixed(1)} KB for each of ${IDLE} connections`);
      }
    }
    for (const peer of [...peers, ...accepted.splice(0)]) peer.close();
    await eventually(() => {
      for (const [i, ztunnel] of ztunnels.entries()) {
        const left = ztunnel.descriptors - before[i]![0];
        assert.ok(left <= IDLE / 100 + 4, `${left} descriptors are left`);
      }
    }, 20_000);
  }
  listener.close();
  for (const name of ["a", "b"]) {
    await eventually(async () => {
      const open = (await mesh.node(name).metrics()).filter((sample) => sample.name === "istio_tcp_sockets_open");
      assert.ok(open.length > 0);
      assert.ok(open.every(({ value }) => value === 0), JSON.stringify(open));
    });
  }
});
