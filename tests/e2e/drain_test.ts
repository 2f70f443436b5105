/** SIGTERM: what was accepted is completed, what cannot be is cut at the deadline, and the process ends with 0. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ECONNRESET } from "../../src/platform/errno.ts";
import { acceptOne, TestMesh, type TestPod } from "./support/mesh.ts";
import { complete, Load, serveLoad } from "./support/load.ts";
import type { Peer } from "./support/peer.ts";
import { eventually } from "./support/wait.ts";
import { Stopwatch } from "../support/stopwatch.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b }
  - { name: outside, namespace: wild, node: a, captured: false }
  - { name: waiting, namespace: port, node: b, authorizationPolicies: [port/late] }
`;
const LOAD_PORT = 8081;
/** ztunnel's default deadline is 5 s; nothing in these tests may need it. */
const WITHIN_MS = 4_500;
const HELD = 30;
const HALF = new Uint8Array(100_000).fill(98);

let mesh: TestMesh;
let client: TestPod;
let server: TestPod;
let outside: TestPod;
before(async () => {
  mesh = await TestMesh.create(FILE);
  await Promise.all([mesh.node("a").start(), mesh.node("b").start()]);
  client = mesh.pod("client");
  server = mesh.pod("server");
  outside = mesh.pod("outside");
});
after(() => mesh?.stop());

for (const [node, who] of [["b", "server"], ["a", "client"]] as const) {
  test(`drain, the ztunnel of the ${who} gets SIGTERM under load: every connection that was accepted is completed, exit code 0`, async () => {
    const { ztunnel } = mesh.node(node);
    const application = serveLoad(server, LOAD_PORT);
    const loads = [
      new Load(8, () => client.connect(server.ip(), LOAD_PORT)),
      ...(node === "b" ? [new Load(8, () => outside.connect(server.ip(), LOAD_PORT))] : []),
    ];
    await eventually(() => assert.ok(loads.every((load) => load.completed > 100)));
    // Besides, connections in the middle of an answer.
    const held: [Peer, Peer][] = [];
    for (let i = 0; i < HELD; i++) held.push(await acceptOne(server, 7000, () => client.connect(server.ip(), 7000)));
    for (const [peer, app] of held) {
      app.write(HALF);
      await peer.readBytes(HALF.length);
    }

    const acceptedBefore = performance.now();
    ztunnel.kill("SIGTERM");
    await ztunnel.line((line) => line.includes("draining"));
    for (const [peer, app] of held) {
      peer.write("more");
      assert.equal(await app.read(4), "more");
      app.write(HALF);
      app.finish();
      await peer.readBytes(HALF.length);
      assert.equal(await peer.ended(), "eof");
      peer.close();
      app.close();
    }
    await Promise.all(loads.map((load) => load.stop()));
    const exit = await ztunnel.exit();
    const tookMs = performance.now() - acceptedBefore;
    assert.deepEqual(exit, { code: 0, signal: null });
    assert.ok(tookMs < WITHIN_MS, `${Math.round(tookMs)} ms`);
    assert.ok(ztunnel.lines.some((line) => line.includes("all connections finished")));

    const attempts = loads.flatMap((load) => load.attempts);
    const lost = attempts.filter((attempt) => attempt.connectedMs! < acceptedBefore && !complete(attempt));
    assert.deepEqual(lost, [], "connections that stood before SIGTERM were not completed");
    const answered = attempts.filter(complete).length;
    assert.equal(application.accepted, answered, "the application got requests whose answer never arrived");
    // Truncation never looks like an end.
    const truncated = attempts.filter((attempt) => !complete(attempt) && attempt.end === "eof");
    assert.deepEqual(truncated, []);
    application.close();
    await mesh.node(node).start();
  });
}

test("drain, a connection that was accepted but not yet connected to its application: completed all the same", async () => {
  const node = mesh.node("b");
  const waiting = mesh.pod("waiting");
  const greeter = waiting.listen(7000, (peer) => {
    peer.write("welcome");
    peer.finish();
  });
  // It waits for a policy that its pod names and nobody has seen.
  const peers = await Promise.all([client, outside].map((pod) => pod.connect(waiting.ip(), 7000)));
  await eventually(async () => {
    const { workloadState } = await node.configDump();
    assert.equal(workloadState[waiting.spec.uid]!.connections.inbound.length, peers.length);
  });
  node.ztunnel.kill("SIGTERM");
  await eventually(() => assert.rejects(outside.connect(waiting.ip(), 15008).then((peer) => peer.close())));
  const policy = { name: "late", namespace: "port", scope: "WorkloadSelector", action: "Deny", rules: [] };
  await mesh.apply(`${FILE}policies: ${JSON.stringify([policy])}`);
  for (const peer of peers) {
    assert.equal((await peer.readToEnd()).text, "welcome");
    peer.close();
  }
  assert.deepEqual(await node.ztunnel.exit(), { code: 0, signal: null });
  greeter.close();
  await node.start();
});

test("drain, a connection that does not end: cut at the deadline, the other side sees a reset, exit code 0", async () => {
  const node = mesh.node("a");
  node.ztunnel.kill("SIGTERM");
  await node.ztunnel.exit();
  await node.start({ CONNECTION_TERMINATION_DEADLINE: "1s" });
  const [peer, app] = await acceptOne(server, 7000, () => client.connect(server.ip(), 7000));
  peer.write("x");
  await app.read(1);
  const watch = new Stopwatch();
  node.ztunnel.kill("SIGTERM");
  await node.ztunnel.line((line) => line.includes("draining"));
  // No new connections, at once.
  assert.notEqual(await client.refusal(server.ip(), 7000), "eof");
  assert.equal(await app.ended(), ECONNRESET);
  const { code } = await node.ztunnel.exit();
  const { ms, wallMs } = watch.stop();
  assert.equal(code, 0);
  assert.ok(wallMs > 900 && ms < 3_000, `${Math.round(ms)} ms`);
  assert.ok(node.ztunnel.lines.some((line) => line.includes("deadline reached")));
  // Not by the client's port: the kernel changes it when a connection before had the same one to another address. The connection that
  // was tried meanwhile, and carried nothing, may have come just before the listeners closed.
  const { fields } = await node.ztunnel.access(({ fields }) =>
    fields["dst.hbone_addr"] === `${server.ip()}:7000` && fields.bytes_sent === "1"
  );
  assert.equal(fields.error, "connection closed due to connection drain");
  peer.close();
  app.close();
});
