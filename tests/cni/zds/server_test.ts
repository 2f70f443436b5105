/** The ZDS server with its thread, on real sockets; at the other end what a ztunnel may do, and what it may not. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, beforeEach, test } from "node:test";
import { createNetnsCache, type NetnsCache } from "../../../src/cni/netns/cache.ts";
import { startZdsServer, type ZdsServer, type ZdsServerOptions } from "../../../src/cni/zds/server.ts";
import { openNamespace } from "../../../src/platform/netns.ts";
import { startThread } from "../../../src/platform/thread.ts";
import { encodeResponse } from "../../../src/protocol/zds.ts";
import { FakeZtunnel, openFiles, settledFiles, until } from "./fake_ztunnel.ts";

const ENTRY = new URL("../../../src/roles/cni_worker.ts", import.meta.url);
const UID = "863b91d4-4b68-4efa-917f-4b560e3e86aa";
const WORKLOAD = { name: "web", namespace: "town", serviceAccount: "web" };

let directory: string;
let path: string;
let cache: NetnsCache;
let server: ZdsServer;
let counts: number[];
let lines: string[];
let ztunnels: FakeZtunnel[];

before(() => {
  directory = mkdtempSync(join(tmpdir(), "ambit-zds-"));
  path = join(directory, "ztunnel.sock");
});
after(() => rmSync(directory, { recursive: true }));
beforeEach(() => {
  cache = createNetnsCache();
  counts = [];
  lines = [];
  ztunnels = [];
});

function start(more: Partial<ZdsServerOptions> = {}): void {
  server = startZdsServer({
    path,
    pods: () => cache.entries(),
    startThread: (data, events) => startThread(ENTRY, data, events),
    log: (level, message, fields) => lines.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
    connected: (count) => counts.push(count),
    acceptsPerSecond: 1_000,
    ...more,
  });
}

function stop(): void {
  for (const ztunnel of ztunnels) ztunnel.leave();
  server.close();
  cache.clear();
}

function connect(hello?: Uint8Array): FakeZtunnel {
  const ztunnel = hello === undefined ? new FakeZtunnel(path) : new FakeZtunnel(path, hello);
  ztunnels.push(ztunnel);
  return ztunnel;
}

/** This process' own namespace stands for a pod's. */
function pod(uid = UID) {
  const netns = cache.upsert(uid, openNamespace("/proc/self/ns/net"), WORKLOAD);
  return { uid, workload: WORKLOAD, netns };
}

const serving = (count = 1) =>
  until(() => server.connections().filter(({ snapshotSent }) => snapshotSent).length === count, `${count} served`);

test("zds server: a ztunnel is told the snapshot, then what comes and goes, one message after the other", async () => {
  start();
  cache.ensure("unresolved", WORKLOAD);
  const first = pod();
  const ztunnel = connect();
  await serving();
  assert.deepEqual(ztunnel.kinds(), ["keep unresolved", `add ${UID}`, "snapshot_sent"]);
  assert.deepEqual(ztunnel.heard[1].request, { kind: "add", uid: UID, workload: WORKLOAD });
  assert.deepEqual(ztunnel.heard.map(({ namespaces }) => namespaces), [[], [first.netns.identity], []]);

  await server.add(pod("late"));
  assert.deepEqual(ztunnel.heard.at(-1)?.namespaces, [first.netns.identity]);
  const [info] = server.connections();
  assert.deepEqual([...info.ackedUids], [UID, "late"]);
  assert.equal(info.acked("unresolved"), false, "to keep is not to serve");
  assert.equal(info.pid, process.pid);
  cache.take(UID)?.release();
  await server.del(UID);
  assert.equal(ztunnel.kinds().at(-1), `del ${UID}`);
  assert.equal(info.acked(UID), false);
  assert.deepEqual(counts, [1]);
  assert.ok(lines.some((line) => line.startsWith("info new ztunnel connected, total connected: 1 ")), lines.join("\n"));
  assert.ok(lines.some((line) => line.includes("sending 'keep' to ztunnel") && line.includes("unresolved")));
  stop();
});

test("zds server: without a ztunnel an add is refused, a delete is done", async () => {
  start();
  await assert.rejects(server.add(pod()), /^Error: no ztunnel connection$/);
  await server.del(UID);
  stop();
});

test("zds server: what ztunnel answers is the caller's error, and the connection goes on", async () => {
  start();
  const ztunnel = connect();
  await serving();
  ztunnel.answer = ({ kind }) => kind === "add" ? encodeResponse("failure to start proxy : port in use") : undefined;
  await assert.rejects(server.add(pod()), /^Error: got ack error: failure to start proxy : port in use$/);
  assert.equal(server.connections()[0].acked(UID), false);
  ztunnel.answer = () => undefined;
  await server.add(pod());
  assert.equal(server.connections()[0].acked(UID), true);
  ztunnel.answer = () => encodeResponse("no");
  await assert.rejects(server.del(UID), /got ack error: no/);
  stop();
});

test("zds server: an add is for the newest ztunnel, a delete for all; when the newest leaves, the one before it takes over", async () => {
  start();
  const old = connect();
  await serving();
  const young = connect();
  await serving(2);
  await server.add(pod());
  assert.deepEqual(old.kinds(), ["snapshot_sent"]);
  assert.deepEqual(young.kinds(), ["snapshot_sent", `add ${UID}`]);
  await server.del(UID);
  assert.equal(old.kinds().at(-1), `del ${UID}`);
  assert.equal(young.kinds().at(-1), `del ${UID}`);
  young.leave();
  await until(() => server.connections().length === 1, "one is gone");
  await server.add(pod());
  assert.equal(old.kinds().at(-1), `add ${UID}`);
  assert.deepEqual(counts, [1, 2, 1]);
  stop();
});

test("zds server: a ztunnel that dies over an add: the one before it is told instead", async () => {
  start();
  const old = connect();
  await serving();
  const young = connect();
  await serving(2);
  young.answer = () => "leave";
  const waiting = [pod("one"), pod("two"), pod("three")].map((one) => server.add(one));
  await Promise.all(waiting);
  assert.deepEqual(old.kinds(), ["snapshot_sent", "add one", "add two", "add three"]);
  old.answer = () => "leave";
  await assert.rejects(
    server.add(pod()),
    /^Error: no ztunnel connection: the last one ended: ztunnel closed the connection$/,
  );
  assert.deepEqual(server.connections(), []);
  stop();
});

test("zds server: one that connects and says nothing does not stand in the way of one that works", async () => {
  start();
  const old = connect();
  await serving();
  connect(new Uint8Array());
  const silent = new FakeZtunnel(path, null);
  ztunnels.push(silent);
  await until(() => server.connections().length >= 2, "it is connected");
  await server.add(pod());
  assert.equal(old.kinds().at(-1), `add ${UID}`);
  stop();
});

for (
  const [what, misbehave] of Object.entries<(ztunnel: FakeZtunnel) => void>({
    "speaks unasked": (ztunnel) => ztunnel.say(encodeResponse()),
    "speaks nonsense": (ztunnel) => ztunnel.say(new Uint8Array([0xff, 0xff])),
    "sends descriptors": (ztunnel) => ztunnel.say(encodeResponse(), [0, 1]),
  })
) {
  test(`zds server: a ztunnel that ${what} is disconnected, and nothing is left open`, async () => {
    start();
    const ztunnel = connect();
    await serving();
    const before = await settledFiles();
    misbehave(ztunnel);
    await until(() => server.connections().length === 0, "it is disconnected");
    await until(() => ztunnel.ended, "it has noticed");
    // Its own descriptor, and the server's.
    await until(() => openFiles() === before - 2, "both ends are closed");
    assert.ok(lines.some((line) => line.startsWith("error ztunnel connection closed: ztunnel broke the protocol")));
    stop();
  });
}

test("zds server: nonsense instead of an answer, and a hello of another version", async () => {
  start();
  const ztunnel = connect();
  await serving();
  ztunnel.answer = () => new Uint8Array([0x0a, 0xff]);
  await assert.rejects(server.add(pod()), /no ztunnel connection: the last one ended: ztunnel broke the protocol/);
  connect(new Uint8Array([8, 2]));
  await until(() => lines.some((line) => /its hello names version 2/.test(line)), "it is refused");
  stop();
});

test("zds server: a message that does not fit is refused for that pod alone, and nothing is sent", async () => {
  start();
  const ztunnel = connect();
  await serving();
  const huge = { ...pod("huge"), workload: { ...WORKLOAD, name: "n".repeat(1000) } };
  await assert.rejects(server.add(huge), /the ZDS message \(add huge\) is 10\d\d bytes long, and ztunnel reads 1024/);
  await server.add(pod());
  assert.deepEqual(ztunnel.kinds(), ["snapshot_sent", `add ${UID}`]);
  stop();
});

test("zds server: whoever waits is let go by its signal; what is under way goes on without it", async () => {
  start();
  const ztunnel = connect();
  await serving();
  ztunnel.answer = () => "nothing";
  const [first, second] = [new AbortController(), new AbortController()];
  const asked = server.add(pod("one"), first.signal);
  const queued = server.add(pod("two"), second.signal);
  await until(() => ztunnel.heard.length === 2, "the first is asked");
  second.abort(new Error("the caller went away"));
  await assert.rejects(queued, /the caller went away/);
  first.abort(new Error("this one too"));
  await assert.rejects(asked, /this one too/);
  ztunnel.answer = () => undefined;
  ztunnel.say(encodeResponse());
  await server.add(pod("three"));
  assert.deepEqual(ztunnel.kinds(), ["snapshot_sent", "add one", "add three"]);
  await assert.rejects(server.add(pod("four"), AbortSignal.abort(new Error("never asked"))), /never asked/);
  stop();
});

test("zds server: all who wait are let go when it closes; the socket's file goes, another agent's stays", async () => {
  start();
  const ztunnel = connect();
  await serving();
  ztunnel.answer = () => "nothing";
  const waiting = server.add(pod());
  await until(() => ztunnel.heard.length === 2, "it is asked");
  server.close();
  await assert.rejects(waiting, /no ztunnel connection: the last one ended: the node agent ends/);
  await until(() => ztunnel.ended, "the connection is closed");
  assert.throws(() => statSync(path), /ENOENT/);
  start();
  const former = server;
  start();
  former.close();
  assert.ok(statSync(path).isSocket());
  connect();
  await serving();
  stop();
});

test("zds server: takes five connections in a second, and the others wait", async () => {
  start({ acceptsPerSecond: undefined });
  const began = performance.now();
  for (let i = 0; i < 4; i++) connect();
  await serving(4);
  const tookMs = performance.now() - began;
  assert.ok(tookMs > 590, `${tookMs} ms`);
  stop();
});

test("zds server: only the owner may connect, and what is no socket is not removed", () => {
  start();
  assert.equal(statSync(path).mode & 0o777, 0o600);
  stop();
  writeFileSync(path, "precious");
  assert.throws(() => start(), /there is a file that is no socket/);
  rmSync(path);
});

test("zds server: a burst of pods and many reconnections leave no descriptor behind", async () => {
  start();
  const ztunnel = connect();
  await serving();
  const pods = Array.from({ length: 200 }, (_, i) => pod(`pod-${i}`));
  const before = await settledFiles();
  await Promise.all(pods.map((one) => server.add(one)));
  // Fewer is no leak: what tests before this one had open may be closed meanwhile.
  assert.ok(openFiles() <= before, `${openFiles()} files are open, ${before} were before`);
  assert.equal(ztunnel.heard.length, 201);
  ztunnel.leave();
  await until(() => server.connections().length === 0, "it is gone");
  // Dies in the middle of its snapshot.
  const brief = connect();
  brief.answer = () => brief.heard.length > 50 ? "leave" : undefined;
  await until(() => brief.ended && server.connections().length === 0, "it has died");
  for (const { uid } of pods) cache.take(uid)?.release();
  await until(() => openFiles() === before - 202, "all is closed");
  stop();
  await until(() => openFiles() < before - 203, "the thread's own are closed");
});
