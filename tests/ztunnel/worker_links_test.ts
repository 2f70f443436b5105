/** Conversations over SOCK_SEQPACKET with a real worker thread between the main thread and the other end. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { afterEach, beforeEach, describe, test } from "node:test";
import { EAGAIN } from "../../src/platform/errno.ts";
import { fileIdentity, openNamespace } from "../../src/platform/netns.ts";
import { listenSeqpacket, MessageReceiver, MessageSender } from "../../src/platform/seqpacket.ts";
import { acceptSocket, closeDescriptor } from "../../src/platform/socket.ts";
import { type LinkHandler, Links } from "../../src/ztunnel/links.ts";
import type { ToWorker } from "../../src/ztunnel/messages.ts";
import { LINK_MESSAGE_BYTES } from "../../src/ztunnel/worker_links.ts";
import { WorkerGroup } from "../../src/ztunnel/worker_group.ts";
import { Flag, type GroupSettings } from "./group_settings.ts";
import { VirtualTime } from "./virtual_time.ts";

const receiver = new MessageReceiver(LINK_MESSAGE_BYTES);
const sender = new MessageSender(2 * LINK_MESSAGE_BYTES);

let directory: string;
let path: string;
let listener: number;
let time: VirtualTime;
let flags: Int32Array<SharedArrayBuffer>;
let group: WorkerGroup;
let links: Links;
let lost: number;
let events: unknown[][];
let received: number[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ambit-links-"));
  path = join(directory, "agent.sock");
  listener = listenSeqpacket(path, 4);
  time = new VirtualTime();
  flags = new Int32Array(new SharedArrayBuffer(4));
  lost = 0;
  events = [];
  received = [];
  group = new WorkerGroup({
    entry: new URL("./group_worker.ts", import.meta.url),
    count: 1,
    settings: { flags: flags.buffer, dieAtStart: [], silent: [] } as Partial<GroupSettings> as GroupSettings,
    directives: () => "info",
    replay: () => [],
    received: (worker, message) => {
      if (message.type !== "link") return;
      if (message.event.event === "message") { for (const fd of message.event.fds) group.claim(fd); }
      links.received(worker, message.event);
    },
    lost: (worker) => {
      lost++;
      links.lost(worker);
    },
    started: () => links?.retry(),
    schedule: time.schedule,
  });
  links = new Links({
    first: () => group.first(),
    send: (worker, order) => group.send(worker, { type: "link", order } satisfies ToWorker),
    closeDescriptor,
  });
});
afterEach(async () => {
  const before = lost;
  group.send(0, { type: "log", directives: "stop" });
  await until(() => lost > before);
  group.close();
  closeDescriptor(listener);
  rmSync(directory, { recursive: true });
});

async function until(reached: () => boolean): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (!reached()) {
    if (performance.now() > deadline) throw new Error(`not in time; so far: ${JSON.stringify(events)}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

async function accept(): Promise<number> {
  let fd = -EAGAIN;
  await until(() => (fd = acceptSocket(listener)) >= 0);
  return fd;
}

const handler: LinkHandler = {
  connected: (uid) => void events.push(["connected", uid]),
  message: (bytes, fds, damage) => {
    events.push(["message", [...bytes], fds.length, damage]);
    received.push(...fds);
  },
  closed: (reason) => void events.push(["closed", reason]),
};

describe("worker_links", () => {
  test("worker_links: messages and descriptors both ways, and the end", async () => {
    const link = links.connect(path, handler);
    const peer = await accept();
    await until(() => events.length === 1);
    assert.deepEqual(events[0], ["connected", process.getuid!()]);
    const namespace = openNamespace("/proc/self/ns/net");
    sender.send(peer, new Uint8Array([1, 2]), [namespace]);
    await until(() => events.length === 2);
    assert.deepEqual(events[1], ["message", [1, 2], 1, undefined]);
    assert.equal(fileIdentity(received[0]), fileIdentity(namespace));
    link.send(new Uint8Array([3]), [received[0]]);
    let length = -EAGAIN;
    await until(() => (length = receiver.receive(peer)) !== -EAGAIN);
    assert.equal(length, 1);
    assert.equal(fileIdentity(receiver.fds[0]), fileIdentity(namespace));
    receiver.closeDescriptors();
    sender.send(peer, new Uint8Array(LINK_MESSAGE_BYTES + 1));
    await until(() => events.length === 3);
    assert.match(String(events[2][3]), /longer than 1024 bytes/);
    closeDescriptor(peer);
    await until(() => events.length === 4);
    assert.deepEqual(events[3], ["closed", "the other end closed the connection"]);
    closeDescriptor(namespace);
    closeDescriptor(received[0]);
  });

  test("worker_links: nobody listens: the reason", async () => {
    links.connect(join(directory, "nobody"), handler);
    await until(() => events.length === 1);
    assert.match(String(events[0][1]), /^cannot connect to .*nobody: no such file or directory/);
  });

  test("worker_links: a worker that hangs loses its conversation to the next; it can begin anew there", async () => {
    links.connect(path, handler);
    const peer = await accept();
    await until(() => events.length === 1);
    group.send(0, { type: "log", directives: "hang" });
    await until(() => Atomics.load(flags, 0) === Flag.HANGS);
    // Comes while nobody reads: it is not answered, and not lost either, since the agent asks again.
    const namespace = openNamespace("/proc/self/ns/net");
    sender.send(peer, new Uint8Array([1]), [namespace]);
    closeDescriptor(namespace);
    // As the control plane does every few seconds.
    const settled = group.settle();
    time.advance(5_000);
    assert.equal(lost, 1);
    assert.match(String(events[1][1]), /the worker that watched it was lost/);
    let ended = -EAGAIN;
    await until(() => (ended = receiver.receive(peer)) !== -EAGAIN);
    assert.ok(ended <= 0, "the agent sees the end");
    time.advance(10_000);
    await settled;
    links.connect(path, handler);
    const again = await accept();
    await until(() => events.some(([what], i) => what === "connected" && i > 1));
    closeDescriptor(peer);
    closeDescriptor(again);
    Atomics.store(flags, 0, Flag.LET_GO);
  });
});
