/** A new ztunnel takes over from the old one, as in a rolling update with maxSurge: connections lose nothing. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { acceptOne, TestMesh, type TestNode, type TestPod } from "./support/mesh.ts";
import { Rate, servePong } from "./support/rate.ts";
import { eventually, pause } from "./support/wait.ts";

const FILE = `
nodes: [{ name: a }, { name: b }, { name: spare }, { name: other }, { name: b2 }, { name: b3 }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b }
  - { name: outside, namespace: wild, node: a, captured: false }
`;
const PORT = 8080;
/** Of each of two clients. */
const PER_SECOND = 500;

let mesh: TestMesh;
let client: TestPod;
let server: TestPod;
let outside: TestPod;
before(async () => {
  mesh = await TestMesh.create(FILE, { agents: {}, env: { TERMINATION_GRACE_PERIOD_SECONDS: "30" } });
  await Promise.all([mesh.node("a").start(), mesh.node("b").start()]);
  client = mesh.pod("client");
  server = mesh.pod("server");
  outside = mesh.pod("outside");
});
after(() => mesh?.stop());

/** What is not an access-log line. */
function said({ ztunnel }: TestNode): string {
  return ztunnel.lines.filter((line) => !line.includes("connection complete")).slice(-30).join("\n");
}

/** The ztunnel of a node that runs now. */
function running(name: string): TestNode {
  return mesh.nodes.findLast((node) => node.name === name && node.ztunnel?.running)!;
}

/** Stops every thread of the ztunnels where it stands. */
async function halt(...nodes: readonly TestNode[]): Promise<void> {
  for (const { ztunnel } of nodes) ztunnel.kill("SIGSTOP");
  await eventually(() => {
    for (const { ztunnel: { pid } } of nodes) {
      for (const thread of readdirSync(`/proc/${pid}/task`)) {
        assert.match(readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8"), /^.*\) T /);
      }
    }
  });
}

/** Lets it go on, or end: nsenter, its parent, has stopped with it, and goes on only when it is told to. */
function wake({ ztunnel }: TestNode, signal: "SIGCONT" | "SIGKILL"): void {
  const parent = Number(readFileSync(`/proc/${ztunnel.pid}/stat`, "utf8").replace(/^.*\) \S /, "").split(" ")[0]);
  ztunnel.kill(signal);
  process.kill(parent, "SIGCONT");
}

for (const [node, home, who] of [["b", "spare", "server"], ["a", "other", "client"]] as const) {
  test(`upgrade of the ztunnel of the ${who} under 1,000 new connections a second: not one is reset or refused`, async () => {
    const old = running(node);
    const handover = join(dirname(old.agent!.path), "ztunnel.handover.sock");
    await eventually(() => assert.ok(existsSync(handover)));
    assert.equal(statSync(handover).mode & 0o777, 0o600);
    const application = servePong(server, PORT);
    const rates = [client, outside].map((pod) => new Rate(PER_SECOND, () => pod.connect(server.ip(), PORT)));
    await eventually(() => assert.ok(rates.every(({ completed }) => completed > PER_SECOND / 2)));

    const twin = await mesh.twin(node, home);
    await twin.start();
    await twin.ztunnel.line((line) => line.includes("another ztunnel serves this node"));
    old.ztunnel.kill("SIGTERM");
    assert.deepEqual(await old.ztunnel.exit(), { code: 0, signal: null });
    await pause(1_000);
    const achieved = rates.reduce((sum, { rate }) => sum + rate, 0);
    await Promise.all(rates.map((rate) => rate.stop()));

    for (const rate of rates) {
      assert.deepEqual(rate.failures.slice(0, 10), [], `of ${rate.started}\n${said(old)}\n${said(twin)}`);
      assert.equal(rate.completed, rate.started);
    }
    // What a machine that does nothing else reaches; one that does still shows what it shows.
    assert.ok(achieved > 300, `only ${Math.round(achieved)} connections a second were made`);
    application.close();
  });
}

test("upgrade, the old ztunnel is killed with connections in its accept queues: the new one serves them", async () => {
  const old = running("b");
  const twin = await mesh.twin("b", "b2");
  await twin.start();
  await twin.ztunnel.line((line) => line.includes("another ztunnel serves this node"));
  const application = servePong(server, PORT);
  // Neither accepts: what connects waits in the kernel.
  await halt(old, twin);
  const one = async () => {
    const peer = await outside.connect(server.ip(), PORT);
    peer.write("ping");
    return peer;
  };
  const peers = await Promise.all(Array.from({ length: 40 }, one));
  wake(old, "SIGKILL");
  await old.ztunnel.exit();
  wake(twin, "SIGCONT");
  for (const peer of peers) {
    assert.deepEqual(await peer.readToEnd(), { text: "pong from the application", end: "eof" });
    peer.close();
  }
  // A single one, for which perhaps only the dead process was woken, is not forgotten either.
  const last = await mesh.twin("b", "b3");
  await last.start();
  await halt(twin, last);
  const single = await one();
  wake(twin, "SIGKILL");
  await twin.ztunnel.exit();
  wake(last, "SIGCONT");
  assert.deepEqual(
    await single.readToEnd(),
    { text: "pong from the application", end: "eof" },
    `${said(twin)}\n${said(last)}`,
  );
  single.close();
  application.close();
});

test("upgrade, a connection through the old ztunnel goes on while the new one serves, and ends well", async () => {
  const old = running("b");
  const [peer, app] = await acceptOne(server, 7000, () => client.connect(server.ip(), 7000));
  const twin = await mesh.twin("b", "b2");
  await twin.start();
  old.ztunnel.kill("SIGTERM");
  await old.ztunnel.line((line) => line.includes("draining"));
  const [second, secondApp] = await acceptOne(server, 7000, () => client.connect(server.ip(), 7000));
  peer.write("still here");
  assert.equal(await app.read(10), "still here");
  app.write("so am I");
  app.finish();
  assert.equal((await peer.readToEnd()).text, "so am I");
  peer.finish();
  for (const end of [peer, app, second, secondApp]) end.close();
  assert.deepEqual(await old.ztunnel.exit(), { code: 0, signal: null });
});
