/** The conversation with the node agent, with an agent, pods and time that the test plays (reference ztunnel 2.4). */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { beforeEach, describe, test } from "node:test";
import { openNamespace } from "../../src/platform/netns.ts";
import { closeDescriptor } from "../../src/platform/socket.ts";
import { decodeHello, decodeResponse, encodeRequest, type ZdsRequest } from "../../src/protocol/zds.ts";
import type { LinkHandler } from "../../src/ztunnel/links.ts";
import { closeNamespace } from "../../src/ztunnel/pod_namespace.ts";
import { type PodInfo, ProxyStartError } from "../../src/ztunnel/pods.ts";
import { ZdsClient } from "../../src/ztunnel/zds_client.ts";
import { VirtualTime } from "./virtual_time.ts";

const WORKLOAD = { name: "web-1", namespace: "town", serviceAccount: "web" };

/** One connection as the agent sees it. */
class Connection {
  readonly sent: Uint8Array[] = [];
  closed = false;
  constructor(readonly handler: LinkHandler) {}
}

let time: VirtualTime;
let connections: Connection[];
/** Pods that are served, and those that were asked for and could not be. */
let served: Map<string, PodInfo>;
let pending: Set<string>;
let removed: string[];
let refusal: Error | undefined;
let stuck: boolean;
let readiness: string | undefined;
let fatal: string[];
let client: ZdsClient;

beforeEach(() => {
  time = new VirtualTime();
  connections = [];
  served = new Map();
  pending = new Set();
  removed = [];
  refusal = undefined;
  stuck = false;
  readiness = "not begun";
  fatal = [];
  client = new ZdsClient({
    path: "/run/agent.sock",
    connect: (path, handler) => {
      assert.equal(path, "/run/agent.sock");
      const connection = new Connection(handler);
      connections.push(connection);
      return {
        send: (bytes) => void connection.sent.push(bytes),
        close: () => {
          connection.closed = true;
        },
      };
    },
    pods: {
      announce: (info) => {
        if (stuck) return new Promise(() => {});
        const known = served.get(info.uid);
        closeNamespace((known ?? info).netns);
        if (refusal !== undefined) {
          if (refusal instanceof ProxyStartError) pending.add(info.uid);
          return Promise.reject(refusal);
        }
        pending.delete(info.uid);
        served.set(info.uid, info);
        return Promise.resolve();
      },
      remove: (uid) => {
        if (stuck) return new Promise(() => {});
        removed.push(uid);
        served.delete(uid);
        pending.delete(uid);
        return Promise.resolve();
      },
      forgetPending: (uid) => void (uid === undefined ? pending.clear() : pending.delete(uid)),
      uids: () => [...served.keys(), ...pending],
      get pending() {
        return pending.size;
      },
      pendingReasons: () => [...pending].map((uid) => `${uid}: port taken`),
    },
    closeDescriptor,
    schedule: time.schedule,
    random: () => 0.5,
    ready: (reason) => {
      readiness = reason;
    },
    fatal: (reason) => void fatal.push(reason),
    log: () => {},
  });
});

function newest(): Connection {
  return connections[connections.length - 1];
}

/** What follows from promises that are settled. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A descriptor such as an agent sends; any file will do. */
function netns(): number {
  return openNamespace("/proc/self/ns/net");
}

async function connect(): Promise<void> {
  client.start();
  newest().handler.connected?.(0);
}

/** Sends a message and returns the answer: "" for yes; undefined when there was none. */
async function ask(
  request: ZdsRequest | Uint8Array,
  fds: readonly number[] = [],
  damage?: string,
): Promise<string | undefined> {
  const connection = newest();
  const before = connection.sent.length;
  const bytes = request instanceof Uint8Array ? request : encodeRequest(request);
  connection.handler.message(bytes, fds, damage);
  await turn();
  assert.ok(connection.sent.length <= before + 1, "one message, one answer");
  const answer = connection.sent[before];
  return answer === undefined ? undefined : decodeResponse(answer) ?? "";
}

function add(uid: string): Promise<string | undefined> {
  return ask({ kind: "add", uid, workload: WORKLOAD }, [netns()]);
}

function openCount(): number {
  return readdirSync("/proc/self/fd").length;
}

describe("zds_client: the sequence", () => {
  test("zds_client: says hello first and nothing else unasked", async () => {
    await connect();
    assert.equal(newest().sent.length, 1);
    assert.equal(decodeHello(newest().sent[0]), 1);
    time.advance(30_000);
    await turn();
    assert.equal(newest().sent.length, 1);
    assert.match(readiness ?? "", /list of pods is not complete/);
  });

  test("zds_client: a snapshot of pods, then ready; news afterwards", async () => {
    await connect();
    assert.equal(await add("one"), "");
    assert.deepEqual({ ...served.get("one"), netns: undefined }, { uid: "one", netns: undefined, ...WORKLOAD });
    assert.equal(await ask({ kind: "snapshot_sent" }), "");
    assert.equal(readiness, undefined);
    assert.equal(await add("two"), "");
    assert.equal(await ask({ kind: "del", uid: "one" }), "");
    assert.equal(await ask({ kind: "del", uid: "nobody" }), "", "an unknown pod is no error");
    assert.deepEqual([...served.keys()], ["two"]);
    assert.equal(newest().closed, false);
  });

  test("zds_client: pods missing from the snapshot are removed, kept ones are not touched", async () => {
    await connect();
    await add("one");
    await add("two");
    await ask({ kind: "snapshot_sent" });
    newest().handler.closed("the agent ended");
    time.advance(0);
    newest().handler.connected?.(0);
    assert.deepEqual([...served.keys()], ["one", "two"], "running pods stay while the agent is away");
    assert.match(readiness ?? "", /not complete/);
    assert.equal(await ask({ kind: "keep", uid: "two" }), "");
    assert.deepEqual(removed, []);
    assert.equal(await ask({ kind: "snapshot_sent" }), "");
    assert.deepEqual(removed, ["one"]);
    assert.equal(readiness, undefined);
  });

  test("zds_client: a delete before the snapshot's end leaves the pod to it", async () => {
    served.set("one", { uid: "one", netns: undefined, ...WORKLOAD });
    await connect();
    assert.equal(await ask({ kind: "keep", uid: "one" }), "");
    assert.equal(await ask({ kind: "del", uid: "one" }), "");
    assert.deepEqual(removed, []);
    await ask({ kind: "snapshot_sent" });
    assert.deepEqual(removed, ["one"]);
  });

  test("zds_client: a delete before the snapshot's end forgets a pod that could not be opened", async () => {
    await connect();
    refusal = new ProxyStartError("failure to start proxy : port taken");
    await add("one");
    assert.equal(await ask({ kind: "del", uid: "one" }), "");
    assert.deepEqual([...pending], []);
    assert.deepEqual(removed, []);
  });
});

describe("zds_client: failures", () => {
  test("zds_client: a pod that cannot be opened is refused, keeps the connection, and is what readiness waits for", async () => {
    await connect();
    refusal = new ProxyStartError("failure to start proxy : port taken");
    assert.equal(await add("one"), "failure to start proxy : port taken");
    assert.equal(newest().closed, false);
    assert.equal(await ask({ kind: "snapshot_sent" }), "");
    assert.equal(readiness, "1 pods cannot be served yet: one: port taken");
    pending.clear();
    client.podsChanged();
    assert.equal(readiness, undefined);
  });

  test("zds_client: pods that wait are forgotten with the connection", async () => {
    await connect();
    refusal = new ProxyStartError("failure to start proxy : port taken");
    await add("one");
    newest().handler.closed("gone");
    time.advance(1_000);
    assert.deepEqual([...pending], []);
  });

  const unreadable: readonly (readonly [string, ZdsRequest | Uint8Array, number, string | undefined, RegExp])[] = [
    ["no payload", new Uint8Array(), 0, undefined, /no payload/],
    ["bytes that are no message", new Uint8Array([0x0a, 0x05]), 0, undefined, /longer than its message/],
    ["a message that was cut", { kind: "snapshot_sent" }, 0, "too long", /too long/],
    ["an add without a descriptor", { kind: "add", uid: "x", workload: WORKLOAD }, 0, undefined, /No control message/],
    ["an add with two", { kind: "add", uid: "x", workload: WORKLOAD }, 2, undefined, /Expected 1 FD/],
    ["a delete with a descriptor", { kind: "del", uid: "x" }, 1, undefined, /no FD/],
    ["an end of the snapshot with one", { kind: "snapshot_sent" }, 3, undefined, /no FD/],
  ];
  for (const [what, request, count, damage, text] of unreadable) {
    test(`zds_client: ${what}: refused, every descriptor closed, and a new connection`, async () => {
      await connect();
      const before = openCount();
      const answer = await ask(request, Array.from({ length: count }, netns), damage);
      assert.match(answer ?? "", /^failure to read message : /);
      assert.match(answer ?? "", text);
      assert.equal(openCount(), before);
      assert.equal(newest().closed, true);
      time.advance(100);
      assert.equal(connections.length, 2);
      assert.deepEqual(fatal, []);
    });
  }

  test("zds_client: a failure that is not the listeners': refused, and a new connection", async () => {
    await connect();
    refusal = new Error("out of memory");
    assert.equal(await add("one"), "out of memory");
    assert.equal(newest().closed, true);
    assert.deepEqual(fatal, []);
  });

  const broken: readonly (readonly [string, readonly ZdsRequest[], RegExp])[] = [
    ["an add without workload_info", [{ kind: "add", uid: "x", workload: undefined }], /workload_info is required/],
    ["a keep after the snapshot", [{ kind: "snapshot_sent" }, { kind: "keep", uid: "x" }], /after the snapshot/],
    ["the end of the snapshot twice", [{ kind: "snapshot_sent" }, { kind: "snapshot_sent" }], /twice/],
  ];
  for (const [what, requests, text] of broken) {
    test(`zds_client: ${what} ends the process, and leaks nothing`, async () => {
      await connect();
      const before = openCount();
      for (const request of requests) await ask(request, request.kind === "add" ? [netns()] : []);
      assert.equal(fatal.length, 1);
      assert.match(fatal[0], text);
      assert.equal(openCount(), before);
    });
  }

  test("zds_client: an answer comes before the agent's 5 s are over, whatever hangs", async () => {
    await connect();
    stuck = true;
    const fd = netns();
    newest().handler.message(encodeRequest({ kind: "add", uid: "x", workload: WORKLOAD }), [fd], undefined);
    await turn();
    time.advance(4_000);
    await turn();
    assert.match(decodeResponse(newest().sent[1]) ?? "", /failure to start proxy : it takes long/);
    stuck = false;
    await ask({ kind: "snapshot_sent" });
    stuck = true;
    newest().handler.message(encodeRequest({ kind: "del", uid: "x" }), [], undefined);
    await turn();
    time.advance(4_000);
    await turn();
    assert.equal(decodeResponse(newest().sent[3]), undefined);
    assert.equal(newest().closed, false);
    closeDescriptor(fd);
  });
});

describe("zds_client: connections", () => {
  test("zds_client: nothing is connected before the start, and nothing after the end", async () => {
    assert.equal(connections.length, 0);
    await connect();
    client.stop();
    assert.equal(newest().closed, true);
    time.advance(100_000);
    client.start();
    assert.equal(connections.length, 1);
    assert.equal(time.pending, 0);
  });

  test("zds_client: an agent that is not there is asked again after 10 ms, then ever more slowly, up to 15 s", () => {
    client.start();
    const waits: number[] = [];
    for (let i = 0; i < 16; i++) {
      newest().handler.closed("cannot connect to /run/agent.sock: no such file");
      waits.push(time.nextInMs());
      time.advanceToNext();
    }
    assert.deepEqual(waits.slice(0, 4), [10, 20, 40, 80]);
    assert.equal(waits.at(-1), 15_000);
    assert.match(readiness ?? "", /no such file/);
  });

  test("zds_client: an agent that was lost after its snapshot is asked again at once", async () => {
    await connect();
    await ask({ kind: "snapshot_sent" });
    newest().handler.closed("the other end closed the connection");
    assert.equal(time.nextInMs(), 0);
    assert.match(readiness ?? "", /no connection to the node agent: the other end closed/);
  });

  test("zds_client: an agent that accepts and then says nothing is left after a minute", async () => {
    await connect();
    time.advance(59_000);
    await add("one");
    time.advance(59_999);
    assert.equal(newest().closed, false, "each message is progress");
    time.advance(1);
    assert.equal(newest().closed, true);
    assert.match(readiness ?? "", /said nothing for 60 s/);
    time.advance(1_000);
    assert.equal(connections.length, 2);
  });

  test("zds_client: after the snapshot silence is no failure", async () => {
    await connect();
    await ask({ kind: "snapshot_sent" });
    time.advance(3_600_000);
    assert.equal(connections.length, 1);
    assert.equal(newest().closed, false);
  });

  test("zds_client: what arrives from a connection that was left is not answered, and its descriptors are closed", async () => {
    await connect();
    const old = newest();
    await ask(new Uint8Array());
    time.advance(100);
    const before = openCount();
    old.handler.message(encodeRequest({ kind: "add", uid: "x", workload: WORKLOAD }), [netns()], undefined);
    await turn();
    assert.equal(openCount(), before);
    assert.equal(served.size, 0);
    old.handler.closed("late");
    assert.equal(connections.length, 2);
  });
});
