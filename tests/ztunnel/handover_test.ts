/** The hand-over between two ztunnels, over a real socket, with both ends in this process. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { fileIdentity } from "../../src/platform/netns.ts";
import { connectSeqpacket, MessageSender } from "../../src/platform/seqpacket.ts";
import { closeDescriptor } from "../../src/platform/socket.ts";
import { HandoverClient } from "../../src/ztunnel/handover_client.ts";
import {
  decodeHandoverAnswer,
  decodeHandoverRequest,
  encodeHandoverAnswer,
  encodeHandoverRequest,
} from "../../src/ztunnel/handover_messages.ts";
import { HandoverServer } from "../../src/ztunnel/handover_server.ts";
import { type LinkHandler, Links } from "../../src/ztunnel/links.ts";
import type { LinkEvent } from "../../src/ztunnel/messages.ts";
import { openPodListeners, type PodListenerOptions, type PodListeners } from "../../src/ztunnel/pod_listeners.ts";
import { WorkerLinks } from "../../src/ztunnel/worker_links.ts";
import { createLoop, type Loop } from "../net/support.ts";
import { createNamespace, type TestNamespace } from "../platform/support.ts";
import { VirtualTime } from "./virtual_time.ts";

let namespace: TestNamespace;
let directory: string;
let path: string;
let options: PodListenerOptions;
let loop: Loop;
let links: Links;
let time: VirtualTime;
let turning: boolean;
let said: string[];
let closers: (() => void)[];

before(async () => {
  namespace = await createNamespace();
  directory = mkdtempSync(join(tmpdir(), "ambit-handover-"));
});
after(() => {
  namespace.close();
  rmSync(directory, { recursive: true });
});

beforeEach(() => {
  path = join(directory, "handover.sock");
  options = {
    netns: { kind: "path", path: namespace.path },
    mark: 1337,
    ipv6Enabled: true,
    reusePort: true,
    requireOriginalSource: undefined,
    tuning: { keepalive: undefined, userTimeoutMs: undefined },
  };
  loop = createLoop();
  time = new VirtualTime();
  said = [];
  closers = [];
  const events: LinkEvent[] = [];
  const worker = new WorkerLinks(loop.reactor, 1, (event) => void events.push(event));
  links = new Links({ first: () => 0, send: (_worker, order) => worker.handle(order), closeDescriptor });
  turning = true;
  const turn = () => {
    if (!turning) return;
    loop.reactor.turn(0);
    for (const event of events.splice(0)) links.received(0, event);
    setTimeout(turn, 1);
  };
  turn();
});
afterEach(() => {
  for (const close of closers) close();
  turning = false;
});

function serve(listeners: Readonly<Record<string, PodListeners>>): HandoverServer {
  const server = new HandoverServer({
    path,
    serve: (fd, accepted) => links.serve(fd, accepted),
    listenersOf: (uid) => listeners[uid],
    log: (level, message, error) => void said.push(`${level} ${message} ${error ?? ""}`),
  });
  closers.push(() => server.close());
  return server;
}

function take(): { readonly client: HandoverClient; gone: number } {
  const state = { client: undefined as unknown as HandoverClient, gone: 0 };
  state.client = new HandoverClient({
    path,
    connect: (to, handler) => links.connect(to, handler),
    closeDescriptor,
    gone: () => state.gone++,
    schedule: time.schedule,
    log: (level, message, error) => void said.push(`${level} ${message} ${error ?? ""}`),
  });
  closers.push(() => state.client.close());
  return state;
}

function openCount(): number {
  return readdirSync("/proc/self/fd").length;
}

function identities(listeners: PodListeners): (string | undefined)[] {
  return Object.values(listeners.fds).map((fd) => fileIdentity(fd as number));
}

describe("handover", () => {
  test("handover: the new process gets the very sockets of a pod, and nothing is lost when the old one closes", async () => {
    const before = openCount();
    const old = openPodListeners(options);
    const server = serve({ pod: old });
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const { client } = take();
    assert.equal(await client.connected, true);
    const inherited = await client.fetch("pod", old.namespaceIdentity);
    assert.deepEqual([...inherited.keys()].sort(), ["inboundHbone", "inboundPlaintext", "outbound"]);
    const refused: string[] = [];
    const next = openPodListeners({
      ...options,
      inherited,
      refused: (kind, reason) => refused.push(`${kind}: ${reason}`),
    });
    assert.deepEqual(refused, []);
    assert.equal(next.shared, true);
    assert.deepEqual(identities(next).sort(), identities(old).sort());
    assert.equal(server.inherited("pod"), true);
    assert.equal(server.inherited("other"), false);
    old.close();
    // Still listening: a socket of its own at these ports, without SO_REUSEPORT, is refused.
    assert.throws(() => openPodListeners({ ...options, reusePort: false }), /address already in use/);
    next.close();
    for (const close of closers.splice(0)) close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(openCount(), before);
  });

  test("handover: a pod that is not served, or in another namespace, gives nothing", async () => {
    const old = openPodListeners(options);
    serve({ pod: old });
    const { client } = take();
    assert.equal((await client.fetch("nobody", old.namespaceIdentity)).size, 0);
    assert.equal((await client.fetch("pod", "0:4:1")).size, 0);
    old.close();
    assert.equal((await client.fetch("pod", old.namespaceIdentity)).size, 0, "nor one that does not listen any more");
  });

  test("handover: nobody to take over from is no failure", async () => {
    rmSync(path, { force: true });
    const { client } = take();
    assert.equal(await client.connected, false);
    assert.equal((await client.fetch("pod", "0:4:1")).size, 0);
    assert.ok(!said.some((line) => line.startsWith("warn")), said.join());
  });

  test("handover: an old process that does not answer is waited for 1 s, then done without", async () => {
    const listeners = { namespaceIdentity: "0:4:1" } as PodListeners;
    const handlers: LinkHandler[] = [];
    const client = new HandoverClient({
      path,
      connect: (_to, handler) => {
        handlers.push(handler);
        return { send() {}, close() {} };
      },
      closeDescriptor,
      gone: () => {},
      schedule: time.schedule,
      log: () => {},
    });
    handlers[0].connected?.(process.getuid!());
    const fetched = client.fetch("pod", listeners.namespaceIdentity);
    await new Promise((resolve) => setImmediate(resolve));
    time.advance(1_000);
    assert.equal((await fetched).size, 0);
  });

  test("handover: a process of another user is refused, on both sides", async () => {
    let accepted: ((link: { send(): void; close(): void }, uid: number) => LinkHandler) | undefined;
    const server = new HandoverServer({
      path,
      serve: (_fd, handler) => {
        accepted = handler;
        return () => {};
      },
      listenersOf: () => undefined,
      log: (level, message, error) => void said.push(`${level} ${message} ${error ?? ""}`),
    });
    closers.push(() => server.close());
    let closed = false;
    const link = {
      send() {},
      close() {
        closed = true;
      },
    };
    accepted!(link, process.getuid!() + 1);
    assert.equal(closed, true);
    assert.match(said.join(), /warn refused a hand-over the process that asks belongs to user/);

    const handlers: LinkHandler[] = [];
    const client = new HandoverClient({
      path,
      connect: (_to, handler) => {
        handlers.push(handler);
        return link;
      },
      closeDescriptor,
      gone: () => {},
      schedule: time.schedule,
      log: () => {},
    });
    handlers[0].connected?.(process.getuid!() + 1);
    assert.equal(await client.connected, false);
    assert.equal((await client.fetch("pod", "0:4:1")).size, 0);
  });

  test("handover: what is no request ends that connection, and leaks nothing", async () => {
    const old = openPodListeners(options);
    serve({ pod: old });
    const before = openCount();
    const fd = connectSeqpacket(path);
    new MessageSender(64).send(fd, new Uint8Array([1, 2, 3]), [fd, fd]);
    while (!said.some((line) => line.includes("cannot be read"))) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    closeDescriptor(fd);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(openCount(), before);
    old.close();
  });

  test("handover: who served is gone: the one after it is told", async () => {
    const server = serve({});
    const taker = take();
    await taker.client.connected;
    server.close();
    while (taker.gone === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    assert.equal(taker.gone, 1);
  });

  test("handover: a path that cannot be used is said, and nothing else fails", () => {
    writeFileSync(join(directory, "file"), "");
    path = join(directory, "file", "handover.sock");
    serve({});
    assert.match(said.join(), /warn cannot offer a hand-over/);
  });
});

describe("handover_messages", () => {
  test("handover_messages: what is written is read, anything else is not", () => {
    const request = { uid: "pod", netns: "0:4:4026531840" };
    assert.deepEqual(decodeHandoverRequest(encodeHandoverRequest(request)), request);
    const answer = { uid: "pod", sockets: ["outbound", "dnsUdp"] };
    assert.deepEqual(decodeHandoverAnswer(encodeHandoverAnswer(answer)), answer);
    const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
    for (const value of [null, 1, [], {}, { version: 2, uid: "a", netns: "b" }, { version: 1, uid: 1, netns: "b" }]) {
      assert.equal(decodeHandoverRequest(bytes(value)), undefined);
    }
    for (const sockets of [undefined, "outbound", [1], ["outbound", "outbound"]]) {
      assert.equal(decodeHandoverAnswer(bytes({ version: 1, uid: "a", sockets })), undefined);
    }
    assert.equal(decodeHandoverRequest(new Uint8Array([0xff])), undefined);
  });
});
