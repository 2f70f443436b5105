/** What goes wrong between two pods: refusals, clients that leave, a reader that does not read, no descriptors left, a peer that dies. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { tool } from "../../src/local/run_tool.ts";
import { ECONNREFUSED, ECONNRESET } from "../../src/platform/errno.ts";
import type { TlsMaterial } from "../../src/platform/tls_context.ts";
import { clientHello } from "./support/client_hello.ts";
import { APP_PORT, socketAddress } from "./support/exchange.ts";
import { acceptOne, issue, TestMesh, type TestNode, type TestPod } from "./support/mesh.ts";
import type { Peer } from "./support/peer.ts";
import { RawTunnel } from "./support/raw_hbone.ts";
import { eventually, pause } from "./support/wait.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b }
  - { name: outside, namespace: wild, node: b, captured: false }
  - { name: prober, namespace: wild, node: a, captured: false }
workloads:
  # Known to the mesh, but no way leads there.
  - { uid: nowhere, name: nowhere, namespace: city, workloadIps: [203.0.113.9], protocol: HBONE, serviceAccount: x, node: c }
`;
const CLOSED_PORT = 9;

let mesh: TestMesh;
let client: TestPod;
let server: TestPod;
let a: TestNode;
let b: TestNode;
before(async () => {
  mesh = await TestMesh.start(FILE);
  client = mesh.pod("client");
  server = mesh.pod("server");
  a = mesh.node("a");
  b = mesh.node("b");
});
after(() => mesh?.stop());

/** An open connection and its other end. */
function open(port = 7000, to = server): Promise<[client: Peer, application: Peer]> {
  return acceptOne(to, port, () => client.connect(to.ip(), port));
}

/** Traffic flows between the two pods. */
async function checkFlow(): Promise<void> {
  const [peer, application] = await open();
  peer.write("hello");
  assert.equal(await application.read(5), "hello");
  application.write("welcome");
  application.finish();
  assert.equal((await peer.readToEnd()).text, "welcome");
  peer.close();
  application.close();
}

test("fault, application refuses, HBONE: reset, 503 on the way", async () => {
  const marks = [a.ztunnel.mark, b.ztunnel.mark];
  assert.equal(await client.refusal(server.ip(), CLOSED_PORT), ECONNRESET);
  const authority = socketAddress(server.ip(), CLOSED_PORT);
  const inbound = await b.ztunnel.access(({ fields }) => fields["dst.hbone_addr"] === authority, marks[1]!);
  assert.match(inbound.fields.error!, /cannot reach the application at .*:9: connection refused/);
  const outbound = await a.ztunnel.access(({ fields }) => fields["dst.hbone_addr"] === authority, marks[0]!);
  assert.match(outbound.fields.error!, /^http status: 503/);
});

test("fault, application refuses, plaintext: reset or refused by whoever connects to it", async () => {
  const marks = [a.ztunnel.mark, b.ztunnel.mark];
  const outside = mesh.pod("outside");
  assert.equal(await outside.refusal(server.ip(), CLOSED_PORT), ECONNRESET);
  const inbound = await b.ztunnel.access(({ fields }) => fields["src.workload"] === "outside", marks[1]!);
  assert.match(inbound.fields.error!, /connection refused/);
  assert.equal(await client.refusal(outside.ip(), CLOSED_PORT), ECONNRESET);
  const outbound = await a.ztunnel.access(({ fields }) => fields["dst.workload"] === "outside", marks[0]!);
  assert.match(outbound.fields.error!, /connection refused.*nothing listens there/);
});

test("fault, destination unreachable: reset, and the line says that there is no way", async () => {
  const mark = a.ztunnel.mark;
  assert.equal(await client.refusal("203.0.113.9", APP_PORT), ECONNRESET);
  const { fields } = await a.ztunnel.access(({ fields }) => fields["dst.workload"] === "nowhere", mark);
  assert.match(fields.error!, /cannot reach 203\.0\.113\.9:15008: .*not reachable from this node/);
});

/** A way to come to the server's 15008 and leave, at each step of the way. */
const LEAVING: readonly (readonly [step: string, act: (material: TlsMaterial) => Promise<void>])[] = [
  ["before TLS, by FIN", async () => (await mesh.pod("prober").connect(server.ip(), 15008)).close()],
  ["before TLS, by RST", async () => (await mesh.pod("prober").connect(server.ip(), 15008)).abort()],
  ["in the middle of a ClientHello", async () => {
    const peer = await mesh.pod("prober").connect(server.ip(), 15008);
    peer.write(clientHello("1.3", ["h2"]).subarray(0, 60));
    peer.close();
  }],
  ["in the middle of the handshake", async () => {
    const peer = await mesh.pod("prober").connect(server.ip(), 15008);
    peer.write(clientHello("1.3", ["h2"]));
    await peer.readBytes(10);
    peer.abort();
  }],
  ["after the handshake", async (material) => {
    (await RawTunnel.connect(mesh.pod("prober"), server.ip(), material)).close();
  }],
  ["after CONNECT, before the answer", async (material) => {
    const tunnel = await RawTunnel.connect(mesh.pod("prober"), server.ip(), material);
    tunnel.connect(socketAddress(server.ip(), APP_PORT));
    tunnel.flush();
    tunnel.close();
  }],
  ["after the 200", async (material) => {
    const tunnel = await RawTunnel.connect(mesh.pod("prober"), server.ip(), material);
    await tunnel.connect(socketAddress(server.ip(), APP_PORT)).response();
    tunnel.close();
  }],
  ["in the middle of a transfer", async (material) => {
    const tunnel = await RawTunnel.connect(mesh.pod("prober"), server.ip(), material);
    const stream = await tunnel.connect(socketAddress(server.ip(), APP_PORT)).response();
    await stream.read("x");
    tunnel.close();
  }],
  ["as an application, at once", async () => (await client.connect(server.ip(), APP_PORT)).close()],
  ["as an application, by RST", async () => (await client.connect(server.ip(), APP_PORT)).abort()],
  ["as an application, in the middle of a transfer", async () => {
    const peer = await client.connect(server.ip(), APP_PORT);
    await peer.readBytes(1000);
    peer.abort();
  }],
  ["as a plaintext client, at once", async () => (await mesh.pod("outside").connect(server.ip(), APP_PORT)).close()],
  ["as a plaintext client, in the middle of a transfer", async () => {
    const peer = await mesh.pod("outside").connect(server.ip(), APP_PORT);
    await peer.readBytes(1000);
    peer.abort();
  }],
];
const TIMES = 25;

test("fault, a plaintext client that uses most of its ports: its own connections are never mixed up with those in its name", async () => {
  const outside = mesh.pod("outside");
  const places = [outside, server].map(({ spec }) => ({ pod: spec.name, namespace: spec.namespace }));
  const setRange = (range: string) =>
    Promise.all(
      places.map((at) => mesh.run(at, ["sh", "-c", `echo ${range} > /proc/sys/net/ipv4/ip_local_port_range`])),
    );
  const accepted: Peer[] = [];
  const echo = server.listen(APP_PORT, (peer) => {
    accepted.push(peer);
    peer.write("welcome");
  });
  // With 16 ports for both of them, a port that the kernel chose for the second half would be one that the client has.
  await setRange("40000 40015");
  try {
    const peers = await Promise.all(Array.from({ length: 12 }, () => outside.connect(server.ip(), APP_PORT)));
    for (const peer of peers) assert.equal(await peer.read(7), "welcome");
    assert.ok(accepted.every(({ remote }) => remote.ip === outside.ip()));
    for (const peer of [...peers, ...accepted]) peer.close();
  } finally {
    await setRange("32768 60999");
    echo.close();
  }
});

test(`fault, clients that leave at every step, ${TIMES} times each: no descriptor stays, one line each at most, traffic flows`, async () => {
  const material = await issue(mesh.ca, "spiffe://cluster.local/ns/wild/sa/prober");
  // Sends more than is read, and goes when its client goes.
  const chatter = server.listen(APP_PORT, (peer) => {
    peer.write("x".repeat(512 * 1024));
    void peer.ended(60_000).then(() => peer.close(), () => {});
  });
  await checkFlow();
  const before = [a.ztunnel.descriptors, b.ztunnel.descriptors];
  const marks = [a.ztunnel.mark, b.ztunnel.mark];
  let left = 1;
  for (const [step, act] of LEAVING) {
    left += TIMES;
    await Promise.all(Array.from({ length: TIMES }, () => act(material)));
    await eventually(() => {
      assert.ok(a.ztunnel.descriptors <= before[0]! + 1, `${step}: ${before[0]} became ${a.ztunnel.descriptors} at a`);
      assert.ok(b.ztunnel.descriptors <= before[1]! + 1, `${step}: ${before[1]} became ${b.ztunnel.descriptors} at b`);
    });
    for (const [i, { ztunnel }] of [a, b].entries()) {
      const lines = ztunnel.lines.slice(marks[i]);
      assert.ok(lines.length <= left, `${step}: ${lines.length} lines of ${left} clients, such as ${lines.at(-1)}`);
    }
  }
  chatter.close();
  await checkFlow();
  // No socket that somebody left half open keeps a worker awake.
  const cpuMs = [a.ztunnel.cpuMs, b.ztunnel.cpuMs];
  await pause(500);
  for (const [i, { ztunnel }] of [a, b].entries()) {
    assert.ok(ztunnel.cpuMs - cpuMs[i]! < 150, `${ztunnel.cpuMs - cpuMs[i]!} ms of CPU in 500 ms without work`);
  }
});

test("fault, readers that do not read: memory stays bounded, and what was sent arrives when they read again", async () => {
  const CONNECTIONS = 8;
  const TOTAL = 24 * 1024 * 1024;
  const chunk = new Uint8Array(64 * 1024).fill(120);
  const pairs = await Promise.all(Array.from({ length: CONNECTIONS }, (_, i) => open(7100 + i)));
  await Promise.all(pairs.map(async ([peer, application]) => {
    application.write("x");
    await peer.readBytes(1);
  }));
  const before = [a.ztunnel.residentKilobytes, b.ztunnel.residentKilobytes];
  for (const [peer, application] of pairs) {
    peer.pause();
    for (let sent = 0; sent < TOTAL; sent += chunk.length) application.write(chunk);
    application.finish();
  }
  // The applications get rid of what windows and kernels hold, and then of nothing more.
  const held = () => pairs.reduce((sum, [, application]) => sum + application.queued, 0);
  let last = -1;
  await eventually(async () => {
    await pause(200);
    const now = held();
    const settled = now === last;
    last = now;
    assert.ok(settled, "still flowing");
  });
  assert.ok(last > 0, "everything was taken although nobody reads");
  for (const [i, { ztunnel }] of [a, b].entries()) {
    const grownMegabytes = (ztunnel.residentKilobytes - before[i]!) / 1024;
    // 4 MiB of window a stream at the reader's side, 1 MiB of output a tunnel at the other's, and the runtime's slack.
    assert.ok(grownMegabytes < 4 * CONNECTIONS + 48, `${Math.round(grownMegabytes)} MB for ${CONNECTIONS} connections`);
  }
  for (const [peer] of pairs) peer.resume();
  for (const [peer, application] of pairs) {
    assert.equal(await peer.ended(), "eof");
    assert.equal(peer.received, 1 + TOTAL);
    peer.close();
    application.close();
  }
});

test("fault, no descriptors left for connections: it rests, is still there for probes, and serves what waited when there are some again", async () => {
  const { ztunnel } = b;
  const outside = mesh.pod("outside");
  const greeter = server.listen(APP_PORT, (peer) => {
    peer.write("welcome");
    void peer.ended(60_000).then(() => peer.close(), () => {});
  });
  const HELD = 10;
  const connect = async () => {
    const peer = await outside.connect(server.ip(), APP_PORT);
    return { peer, welcome: peer.read(7) };
  };
  const mark = ztunnel.mark;
  // Two descriptors a connection: there is none when the next one is to be accepted.
  await setLimit(ztunnel.pid, limitLeaving(ztunnel.firstAbove(2 * HELD)));
  const held: Awaited<ReturnType<typeof connect>>[] = [];
  try {
    for (let i = 0; i < HELD; i++) {
      held.push(await connect());
      assert.equal(await held[i]!.welcome, "welcome");
    }
    held.push(...await Promise.all(Array.from({ length: 30 }, connect)));
    await ztunnel.line((line) => line.includes("no more open files"), mark);
    const cpuMs = ztunnel.cpuMs;
    const from = ztunnel.mark;
    for (const [port, path] of [[15021, "/healthz/ready"], [15020, "/metrics"], [15000, "/config_dump"]] as const) {
      assert.equal((await b.http(port, path)).status, 200);
    }
    await pause(1_000);
    assert.ok(ztunnel.cpuMs - cpuMs < 300, `${ztunnel.cpuMs - cpuMs} ms of CPU in a second without descriptors`);
    const complaints = ztunnel.lines.slice(from).length;
    assert.ok(complaints <= 12, `${complaints} lines in a second`);
  } finally {
    await setLimit(ztunnel.pid, 4096);
  }
  for (const { peer, welcome } of held) {
    assert.equal(await welcome, "welcome");
    peer.close();
  }
  greeter.close();
  await checkFlow();
});

/** The limit under which descriptors below `first` are for connections, and the rest is ztunnel's own. */
function limitLeaving(first: number): number {
  let limit = first;
  while (limit - Math.min(64, limit >> 2) < first) limit++;
  return limit;
}

async function setLimit(pid: number, limit: number): Promise<void> {
  await tool(["prlimit", `--pid=${pid}`, `--nofile=${limit}:`]);
}

test("fault, the server's pod is taken out of the mesh: its connections are reset, and all flows when it is back", async () => {
  const [peer, application] = await open();
  peer.write("hello");
  assert.equal(await application.read(5), "hello");
  const mark = b.ztunnel.mark;
  await b.channel.removePod(server.spec.uid);
  assert.equal(await peer.ended(), ECONNRESET);
  assert.equal(await application.ended(), ECONNRESET);
  // An earlier connection's end may be told of only now.
  await b.ztunnel.access(
    ({ fields }) => fields["dst.workload"] === "server" && fields.error === "the pod is gone",
    mark,
  );
  assert.equal(await client.refusal(server.ip(), 7000), ECONNRESET);
  await b.addPod(server.spec);
  await checkFlow();
  peer.close();
  application.close();
});

for (const [who, node] of [["server", "b"], ["client", "a"]] as const) {
  test(`fault, the ztunnel of the ${who} is killed in the middle of a transfer: the other side sees a reset, and all flows after its return`, async () => {
    const [peer, application] = await open();
    const [near, far] = who === "server" ? [peer, application] : [application, peer];
    // Bytes on the way in both directions.
    far.write(new Uint8Array(4 * 1024 * 1024));
    near.write(new Uint8Array(4 * 1024 * 1024));
    await near.readBytes(64 * 1024);
    mesh.node(node).ztunnel.kill("SIGKILL");
    const killed = await mesh.node(node).ztunnel.exit();
    assert.notEqual(killed.code, 0);
    assert.equal(await near.ended(), ECONNRESET);
    near.close();
    far.close();
    // Until it is back, new connections fail and nothing hangs.
    const end = await client.refusal(server.ip(), 7000);
    assert.ok(end === ECONNRESET || end === ECONNREFUSED, `${end}`);
    await mesh.node(node).start();
    await checkFlow();
  });
}

test("fault, the ztunnel of an idle connection's server is killed: the client sees a reset without having to send", async () => {
  const [peer, application] = await open();
  peer.write("hello");
  assert.equal(await application.read(5), "hello");
  b.ztunnel.kill("SIGKILL");
  await b.ztunnel.exit();
  assert.equal(await peer.ended(), ECONNRESET);
  peer.close();
  application.close();
  await b.start();
  await checkFlow();
});
