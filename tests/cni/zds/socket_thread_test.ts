/** The main thread's side of the sockets, with a thread that is played: what is held for it, and what becomes of that when it is lost. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { PodNetns } from "../../../src/cni/netns/pod_netns.ts";
import type { ZdsEvent, ZdsOrder, ZdsThreadStart } from "../../../src/cni/zds/messages.ts";
import { type Socket, SocketThread } from "../../../src/cni/zds/socket_thread.ts";
import type { ThreadEvents } from "../../../src/platform/thread.ts";

function createScene() {
  const starts: { start: ZdsThreadStart; events: ThreadEvents; orders: ZdsOrder[] }[] = [];
  const told: string[] = [];
  const sockets: Socket[] = [];
  const delayed: (() => void)[] = [];
  const thread = new SocketThread({
    listener: 5,
    acceptGapMs: 200,
    startThread(start, events) {
      const orders: ZdsOrder[] = [];
      starts.push({ start, events, orders });
      return { post: (order) => orders.push(order as ZdsOrder), setWakeFd() {}, take() {}, terminate() {} };
    },
    accepted(socket, pid, uid) {
      sockets.push(socket);
      told.push(`accepted ${pid} ${uid}`);
      return {
        message: (bytes, damage) => told.push(`message ${bytes.length} ${damage}`),
        sent: (message, error) => told.push(`sent ${message} ${error}`),
        closed: (reason, quiet) => told.push(`closed ${reason} ${quiet}`),
      };
    },
    problem: (text) => told.push(`problem ${text.split("\n")[0]}`),
    schedule(task) {
      delayed.push(task);
      return () => delayed.splice(delayed.indexOf(task), 1);
    },
  });
  return {
    thread,
    starts,
    told,
    sockets,
    delayed,
    say: (event: ZdsEvent, nth = starts.length - 1) => starts[nth].events.message(event),
  };
}

function createNetns(): PodNetns & { holders: number } {
  return {
    fd: 9,
    identity: "0:4:1",
    path: "",
    holders: 1,
    retain: () => true,
    release() {
      this.holders--;
    },
  };
}

test("zds thread: a namespace is held until it is sent, or the connection is closed, whoever closes it", () => {
  const scene = createScene();
  scene.say({ event: "accepted", connection: 1, pid: 4, uid: 0 });
  const [socket] = scene.sockets;
  const [first, second, third] = [createNetns(), createNetns(), createNetns()];
  socket.send(1, new Uint8Array(2), first);
  assert.equal(first.holders, 1);
  scene.say({ event: "sent", connection: 1, message: 1, error: undefined });
  assert.equal(first.holders, 0);
  socket.send(2, new Uint8Array(2), second);
  socket.close();
  assert.equal(second.holders, 1, "the thread may not have come to it yet");
  scene.say({ event: "closed", connection: 1, reason: "the node agent closed it", quiet: true });
  assert.equal(second.holders, 0);
  socket.send(3, new Uint8Array(2), third);
  assert.equal(third.holders, 0, "nobody will send it");
  assert.deepEqual(scene.starts[0].orders.map((order) => order.do), ["listen", "send", "send", "close"]);
  assert.deepEqual(scene.told, ["accepted 4 0", "sent 1 undefined", "closed the node agent closed it true"]);
});

test("zds thread: one that is lost takes its connections with it, and another one is started", () => {
  const scene = createScene();
  scene.say({ event: "accepted", connection: 1, pid: 4, uid: 0 });
  const netns = createNetns();
  scene.sockets[0].send(1, new Uint8Array(2), netns);
  scene.starts[0].events.ended(new Error("a bug"));
  assert.equal(netns.holders, 0);
  assert.equal(
    scene.told[1],
    "problem the thread that watches ztunnel's connections was lost, and is started again: Error: a bug",
  );
  assert.equal(scene.told[2], "closed the thread that watched the connection was lost false");
  assert.equal(scene.starts.length, 1);
  scene.delayed[0]();
  assert.deepEqual(scene.starts[1].orders, [{ do: "listen", fd: 5 }]);
  assert.notEqual(scene.starts[1].start.generation, scene.starts[0].start.generation);
  // Its connections are new ones.
  scene.say({ event: "accepted", connection: 2, pid: 5, uid: 0 });
  scene.sockets[0].close();
  scene.sockets[1].close();
  assert.deepEqual(scene.starts[1].orders.slice(1), [{ do: "close", connection: 2 }]);
});

test("zds thread: when it is stopped it is not started again", () => {
  const scene = createScene();
  scene.say({ event: "accepted", connection: 1, pid: 4, uid: 0 });
  scene.thread.stop();
  assert.deepEqual(scene.starts[0].orders.at(-1), { do: "stop" });
  scene.say({ event: "closed", connection: 1, reason: "the node agent closed it", quiet: true });
  scene.starts[0].events.ended(undefined);
  scene.thread.stop();
  assert.deepEqual(scene.delayed, []);
  assert.equal(scene.starts.length, 1);

  const lost = createScene();
  lost.starts[0].events.ended(undefined);
  lost.thread.stop();
  assert.deepEqual(lost.delayed, [], "no restart is left");
});
