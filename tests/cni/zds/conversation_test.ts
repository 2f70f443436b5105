/** The conversation with one ztunnel in virtual time: deadlines, the queue, and what becomes of messages when it ends. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { PodNetns } from "../../../src/cni/netns/pod_netns.ts";
import type { AskOutcome, SnapshotPod } from "../../../src/cni/zds/ask.ts";
import { Conversation, DEADLINE_MS, MAX_WAITING, QUEUE_LENGTH } from "../../../src/cni/zds/conversation.ts";
import { decodeRequest, encodeHello, encodeResponse } from "../../../src/protocol/zds.ts";

const WORKLOAD = { name: "web", namespace: "town", serviceAccount: "web" };
const ACK = encodeResponse();

interface TestNetns extends PodNetns {
  holders: number;
}

function createNetns(): TestNetns {
  return {
    fd: 7,
    identity: "0:4:1",
    path: "/proc/1/fd/7",
    holders: 1,
    retain() {
      if (this.holders === 0) return false;
      this.holders++;
      return true;
    },
    release() {
      this.holders--;
    },
  };
}

function createScene(pods: () => Iterable<SnapshotPod> = () => []) {
  let nowMs = 0;
  const timers = new Set<{ atMs: number; task: () => void }>();
  const sent: { number: number; text: string; netns: PodNetns | undefined }[] = [];
  const ends: string[] = [];
  let closed = 0;
  let ready = 0;
  const conversation = new Conversation({
    deadlineMs: DEADLINE_MS,
    send(number, bytes, netns) {
      const request = decodeRequest(bytes);
      sent.push({ number, text: request.kind === "snapshot_sent" ? "end" : `${request.kind} ${request.uid}`, netns });
    },
    close: () => void closed++,
    ended: (reason, quiet) => ends.push(`${quiet ? "quiet" : "loud"}: ${reason}`),
    snapshot: pods,
    ready: () => void ready++,
    schedule(task, delayMs) {
      const timer = { atMs: nowMs + delayMs, task };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    log() {},
  });
  return {
    conversation,
    sent,
    ends,
    timers,
    get closed() {
      return closed;
    },
    get ready() {
      return ready;
    },
    pass(ms: number) {
      nowMs += ms;
      for (const timer of [...timers]) {
        if (timer.atMs > nowMs || !timers.delete(timer)) continue;
        timer.task();
      }
    },
    texts: () => sent.map(({ text }) => text),
    /** The kernel took the last message, and ztunnel answers. */
    acknowledge(answer = ACK) {
      const last = sent[sent.length - 1];
      last.netns?.release();
      conversation.sent(last.number, undefined);
      conversation.received(answer, undefined);
    },
    serve() {
      conversation.received(encodeHello(), undefined);
      this.acknowledge();
      sent.length = 0;
    },
    ask(uid: string, netns: PodNetns | undefined = createNetns()) {
      const outcomes: AskOutcome[] = [];
      const settled = (outcome: AskOutcome) => void outcomes.push(outcome);
      const withdraw = conversation.ask({ request: { kind: "add", uid, workload: WORKLOAD }, netns, settled });
      return { outcomes, withdraw };
    },
  };
}

const settle = () => new Promise<void>((resolve) => queueMicrotask(() => queueMicrotask(resolve)));

test("zds conversation: a ztunnel that says no hello within 5 s is closed; what waited for it goes elsewhere", async () => {
  const scene = createScene();
  const { outcomes } = scene.ask("a");
  scene.pass(DEADLINE_MS - 1);
  assert.deepEqual(scene.ends, []);
  scene.pass(1);
  await settle();
  assert.deepEqual(scene.ends, ["loud: ztunnel did not say hello within 5 s"]);
  assert.equal(scene.closed, 1);
  assert.deepEqual(outcomes, [{ is: "lost", reason: "ztunnel did not say hello within 5 s" }]);
  assert.equal(scene.timers.size, 0);
});

test("zds conversation: an overdue answer closes the connection, so that it is never taken for the next one's", async () => {
  const scene = createScene();
  scene.serve();
  const first = scene.ask("a");
  const second = scene.ask("b");
  assert.deepEqual(scene.texts(), ["add a"]);
  scene.conversation.sent(scene.sent[0].number, undefined);
  scene.pass(DEADLINE_MS);
  await settle();
  const error = "ztunnel did not answer within 5 s (add a)";
  assert.deepEqual(first.outcomes, [{ is: "failed", error }]);
  assert.deepEqual(second.outcomes, [{ is: "lost", reason: error }]);
  assert.deepEqual(scene.ends, [`loud: ${error}`]);
  // The late answer changes nothing.
  scene.conversation.received(ACK, undefined);
  assert.deepEqual(scene.texts(), ["add a"]);
  assert.equal(scene.conversation.acked.size, 0);
});

test("zds conversation: the time for the answer begins when the message is sent", () => {
  const scene = createScene();
  scene.serve();
  scene.ask("a");
  scene.pass(DEADLINE_MS - 1);
  scene.conversation.sent(scene.sent[0].number, undefined);
  scene.pass(DEADLINE_MS - 1);
  assert.deepEqual(scene.ends, []);
  scene.conversation.received(ACK, undefined);
  assert.deepEqual([...scene.conversation.acked], ["a"]);
  assert.equal(scene.timers.size, 0);
});

test("zds conversation: a message that the kernel does not take fails alone", async () => {
  const scene = createScene();
  scene.serve();
  const first = scene.ask("a");
  const second = scene.ask("b");
  scene.conversation.sent(scene.sent[0].number, "no buffer space (ENOBUFS) for 5 s");
  await settle();
  assert.deepEqual(first.outcomes, [{
    is: "failed",
    error: "cannot send to ztunnel: no buffer space (ENOBUFS) for 5 s",
  }]);
  assert.deepEqual(scene.texts(), ["add a", "add b"]);
  scene.acknowledge();
  await settle();
  assert.deepEqual(second.outcomes, [{ is: "acked" }]);
  assert.deepEqual(scene.ends, []);
});

test("zds conversation: the snapshot is what is known at the hello; what comes later is told behind it, in order", () => {
  const pods: SnapshotPod[] = [
    { uid: "known", workload: WORKLOAD, netns: createNetns() },
    { uid: "sought", workload: WORKLOAD, netns: undefined },
    { uid: "nameless", workload: undefined, netns: createNetns() },
    { uid: "long", workload: { ...WORKLOAD, name: "n".repeat(1000) }, netns: createNetns() },
  ];
  const scene = createScene(() => pods);
  scene.ask("early");
  scene.conversation.received(encodeHello(), undefined);
  pods.push({ uid: "late", workload: WORKLOAD, netns: createNetns() });
  scene.ask("late");
  for (let i = 0; i < 7; i++) {
    assert.equal(scene.ready, i < 5 ? 0 : 1);
    scene.acknowledge();
  }
  const told = ["add known", "keep sought", "keep nameless", "keep long", "end", "add early", "add late"];
  assert.deepEqual(scene.texts(), told);
  assert.deepEqual([...scene.conversation.acked], ["known", "early", "late"]);
  assert.deepEqual(pods.map(({ netns }) => (netns as TestNetns | undefined)?.holders), [1, undefined, 1, 1, 1]);
});

test("zds conversation: a pod of the snapshot that is gone by its turn is not told, and one refused does not end it", () => {
  const netns = [createNetns(), createNetns(), createNetns()];
  const scene = createScene(() => netns.map((one, i) => ({ uid: `${i}`, workload: WORKLOAD, netns: one })));
  scene.conversation.received(encodeHello(), undefined);
  netns[1].release();
  scene.acknowledge(encodeResponse("failure to start proxy : no"));
  scene.acknowledge();
  scene.acknowledge(encodeResponse("odd"));
  assert.deepEqual(scene.texts(), ["add 0", "add 2", "end"]);
  assert.deepEqual([...scene.conversation.acked], ["2"]);
  assert.equal(scene.conversation.isServing, true);
});

test("zds conversation: 100 messages wait for their turn, those behind them 5 s for a place", async () => {
  const scene = createScene();
  scene.serve();
  const asks = Array.from({ length: QUEUE_LENGTH + 3 }, (_, i) => scene.ask(`${i}`));
  // One is under way, 100 wait, two are too many.
  assert.equal(scene.conversation.queued, QUEUE_LENGTH + 3);
  scene.pass(DEADLINE_MS / 2);
  scene.acknowledge();
  scene.pass(DEADLINE_MS / 2);
  await settle();
  const ended = asks.flatMap(({ outcomes }, i) => outcomes.map((outcome) => `${i} ${outcome.is}`));
  assert.deepEqual(ended, ["0 acked", `${QUEUE_LENGTH + 2} failed`]);
  const [last] = asks[QUEUE_LENGTH + 2].outcomes;
  assert.ok(last.is === "failed" && last.error === "ztunnel is too slow: 100 messages were before this one for 5 s");
});

test("zds conversation: more than a bound are refused at once; a withdrawn one leaves its place to the next", async () => {
  const scene = createScene();
  scene.serve();
  const asks = Array.from({ length: MAX_WAITING + 2 }, (_, i) => scene.ask(`${i}`));
  await settle();
  assert.deepEqual(asks.at(-1)?.outcomes, [{ is: "failed", error: "2000 messages wait for ztunnel already" }]);
  asks[1].withdraw();
  scene.acknowledge();
  assert.deepEqual(scene.texts(), ["add 0", "add 2"]);
  asks[2].withdraw();
  scene.acknowledge();
  await settle();
  assert.deepEqual(asks[2].outcomes, [], "nobody waits any more");
  assert.ok(scene.conversation.acked.has("2"));
});

test("zds conversation: a namespace that was let go while its pod waited is not sent", async () => {
  const scene = createScene();
  scene.serve();
  scene.ask("a");
  const netns = createNetns();
  const { outcomes } = scene.ask("b", netns);
  netns.release();
  scene.acknowledge();
  await settle();
  assert.deepEqual(outcomes, [{ is: "failed", error: "the network namespace of pod b is closed" }]);
  assert.deepEqual(scene.texts(), ["add a"]);
});

test("zds conversation: after its end it takes nothing", async () => {
  const scene = createScene();
  scene.serve();
  scene.conversation.end("ztunnel closed the connection", true);
  scene.conversation.end("again");
  const { outcomes } = scene.ask("a");
  await settle();
  assert.deepEqual(outcomes, [{ is: "lost", reason: "ztunnel closed the connection" }]);
  assert.deepEqual(scene.ends, ["quiet: ztunnel closed the connection"]);
  assert.equal(scene.closed, 1);
});
