import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ECONNRESET } from "../../src/platform/errno.ts";
import { openDescriptors } from "../../src/platform/process.ts";
import { closeDescriptor, receive } from "../../src/platform/socket.ts";
import type { FromWorker, ToWorker } from "../../src/ztunnel/messages.ts";
import { WorkerGroup } from "../../src/ztunnel/worker_group.ts";
import { tcpPair, waitFor } from "../platform/support.ts";
import { Flag, type GroupSettings } from "./group_settings.ts";
import { VirtualTime } from "./virtual_time.ts";

interface Lost {
  readonly worker: number;
  readonly generation: number;
  readonly reason: string;
  readonly closed: number;
}

/** A group of real threads whose waits are virtual. */
class Bench {
  readonly time = new VirtualTime();
  readonly group: WorkerGroup;
  readonly lost: Lost[] = [];
  /** Messages of workers so far. */
  received = 0;
  readonly flags: Int32Array<SharedArrayBuffer>;
  replayed: readonly ToWorker[] = [{ type: "evict", owners: [] }];
  readonly #reports = new Map<number, (text: string) => void>();
  #changed = () => {};

  constructor(count: number, dieAtStart: readonly number[] = [], silent: readonly number[] = [], atFirst?: number) {
    this.flags = new Int32Array(new SharedArrayBuffer(4 * count));
    const settings = { flags: this.flags.buffer, dieAtStart, silent } as Partial<GroupSettings> as GroupSettings;
    this.group = new WorkerGroup({
      entry: new URL("./group_worker.ts", import.meta.url),
      count,
      atFirst,
      settings,
      directives: () => "info",
      replay: () => this.replayed,
      received: (_worker, message) => {
        this.received++;
        this.#received(message);
      },
      lost: (worker, generation, reason, closed) => {
        this.lost.push({ worker, generation, reason, closed });
        this.#changed();
      },
      schedule: this.time.schedule,
    });
  }

  /** What a worker has seen so far, in order. */
  seen(worker: number): Promise<string> {
    const id = this.#reports.size + 1;
    return new Promise((resolve) => {
      this.#reports.set(id, resolve);
      this.group.send(worker, { type: "report", id, connections: false });
    });
  }

  tell(directives: string, worker = 0): void {
    this.group.send(worker, { type: "log", directives });
  }

  async untilLost(count: number): Promise<void> {
    while (this.lost.length < count) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  async untilFlag(value: number, worker = 0): Promise<void> {
    while (Atomics.load(this.flags, worker) !== value) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Ends all threads, so that none outlives its test. */
  async close(): Promise<void> {
    const running = this.lost.length;
    for (let i = 0; i < this.group.count; i++) this.tell("stop", i);
    await this.untilLost(running + this.group.count);
    this.group.close();
  }

  #received(message: FromWorker): void {
    if (message.type === "report") this.#reports.get(message.id)?.(message.metrics.source);
  }
}

describe("worker_group", () => {
  test("worker_group: what workers tell is taken in the middle of work, from each of them", async () => {
    const bench = new Bench(2);
    await bench.group.settle();
    const told: string[] = [];
    for (const worker of [0, 1]) void bench.seen(worker).then((text) => told.push(text));
    // No event comes in here.
    for (const until = performance.now() + 5_000; bench.received < 2 && performance.now() < until;) bench.group.take();
    assert.equal(bench.received, 2);
    await Promise.resolve();
    assert.equal(told.length, 2);
    await bench.close();
  });

  test("worker_group: a worker is told the whole state before its first epoch, then all in order", async () => {
    const bench = new Bench(2);
    await bench.group.settle();
    bench.group.broadcast({ type: "invalidate", keys: [] });
    await bench.group.settle();
    bench.tell("directives", 1);
    assert.equal(await bench.seen(0), "evict, epoch 0, epoch 1, invalidate, epoch 2");
    assert.equal(await bench.seen(1), "evict, epoch 0, epoch 1, invalidate, epoch 2, directives");
    assert.equal(bench.time.pending, 2, "a settled epoch leaves no timeout; one steadiness timer a worker stays");
    await bench.close();
  });

  test("worker_group: some wait to be started; nobody waits for them, and they begin with all that is in force", async () => {
    const bench = new Bench(3, [], [], 1);
    await bench.group.settle();
    assert.equal(bench.group.count, 1);
    bench.group.broadcast({ type: "invalidate", keys: [] });
    await bench.group.settle();
    bench.group.startRest();
    bench.group.startRest();
    assert.equal(bench.group.count, 3);
    await bench.group.settle();
    assert.equal(await bench.seen(0), "evict, epoch 0, epoch 1, invalidate, epoch 2, epoch 3");
    for (const worker of [1, 2]) assert.equal(await bench.seen(worker), "evict, epoch 2, epoch 3");
    await bench.close();
    bench.group.startRest();
  });

  test("worker_group: connections are given to a worker from its first confirmation to its end", async () => {
    const bench = new Bench(2, [], [], 1);
    await bench.group.settle();
    const { load } = bench.group;
    load.add(0, 20);
    assert.equal(load.receiver(0, 1), undefined, "the other is not there");
    bench.group.startRest();
    assert.equal(load.receiver(0, 1), undefined, "it only starts");
    await bench.group.settle();
    assert.equal(load.receiver(0, 1), 1);
    bench.tell("throw", 1);
    await bench.untilLost(1);
    assert.equal(load.receiver(0, 1), undefined, "it is being replaced");
    bench.time.advance(100);
    await bench.group.settle();
    assert.equal(load.receiver(0, 1), 1);
    await bench.close();
  });

  test("worker_group: a worker that throws is reported, its connections are reset, and another takes its place", async () => {
    const bench = new Bench(2);
    await bench.group.settle();
    const [near, far] = tcpPair();
    assert.equal(bench.group.handOver(0, { type: "adopt", uid: "u", listener: "outbound", fd: near }), true);
    assert.match(await bench.seen(0), /adopt$/);
    bench.tell("throw");
    await bench.untilLost(1);
    assert.equal(bench.lost[0].worker, 0);
    assert.equal(bench.lost[0].generation, 1);
    assert.match(bench.lost[0].reason, /the worker has a bug/);
    assert.equal(bench.lost[0].closed, 3, "the connection, the epoll set and the wake-up");
    waitFor(far);
    assert.equal(receive(far, new Uint8Array(1), 0, 1), -ECONNRESET);
    closeDescriptor(far);

    assert.equal(bench.time.nextInMs(), 100);
    bench.time.advance(100);
    await bench.group.settle();
    assert.equal(bench.group.generation(0), 3);
    assert.equal(bench.group.generation(1), 2, "the other one goes on");
    assert.equal(await bench.seen(0), "evict, epoch 1, epoch 2");
    await bench.close();
  });

  test("worker_group: what waits for a worker that dies is answered by its successor", async () => {
    const bench = new Bench(1);
    await bench.group.settle();
    bench.tell("throw");
    const settled = bench.group.settle();
    await bench.untilLost(1);
    bench.time.advance(100);
    await settled;
    assert.equal(await bench.seen(0), "evict, epoch 2");
    await bench.close();
  });

  test("worker_group: a worker that ends by itself is replaced too", async () => {
    const bench = new Bench(1);
    await bench.group.settle();
    bench.tell("stop");
    await bench.untilLost(1);
    assert.equal(bench.lost[0].reason, "it ended by itself");
    bench.time.advance(100);
    await bench.group.settle();
    await bench.close();
  });

  test("worker_group: a worker that does not confirm in 5 s is replaced, and can do nothing any more", async () => {
    const bench = new Bench(2);
    await bench.group.settle();
    const [near, far] = tcpPair();
    bench.group.handOver(0, { type: "adopt", uid: "u", listener: "outbound", fd: near });
    bench.tell("hang");
    await bench.untilFlag(Flag.HANGS);
    const settled = bench.group.settle();
    await bench.seen(1); // The other one has confirmed.
    bench.time.advance(4_999);
    assert.equal(bench.lost.length, 0);
    bench.time.advance(1);
    assert.equal(bench.lost.length, 1);
    assert.match(bench.lost[0].reason, /did not confirm a change within 5 s/);
    assert.equal(bench.lost[0].closed, 3);
    waitFor(far);
    assert.equal(receive(far, new Uint8Array(1), 0, 1), -ECONNRESET);
    bench.time.advance(100);
    await settled;
    assert.match(await bench.seen(0), /^evict, epoch 2$/);
    assert.ok(receive(near, new Uint8Array(1), 0, 1) <= 0, "the number is still taken");
    // Where the runtime could not stop it, it ends at its next look at the kernel; elsewhere it is gone already.
    Atomics.store(bench.flags, 0, Flag.LET_GO);
    if ("Deno" in globalThis) await bench.untilFlag(Flag.ENDED);
    closeDescriptor(near);
    closeDescriptor(far);
    await bench.close();
  });

  test("worker_group: a connection handed to a worker dies with it, even if the message was never read", async () => {
    const bench = new Bench(1);
    await bench.group.settle();
    const [near, far] = tcpPair();
    bench.tell("throw");
    bench.group.handOver(0, { type: "adopt", uid: "u", listener: "outbound", fd: near });
    await bench.untilLost(1);
    waitFor(far);
    assert.equal(receive(far, new Uint8Array(1), 0, 1), -ECONNRESET);
    const [other, otherFar] = tcpPair();
    assert.equal(
      bench.group.handOver(0, { type: "adopt", uid: "u", listener: "outbound", fd: other }),
      false,
      "there is no worker just now",
    );
    for (const fd of [far, other, otherFar]) closeDescriptor(fd);
    bench.time.advance(100);
    await bench.group.settle();
    await bench.close();
  });

  test("worker_group: replaced workers leave no descriptor behind", async () => {
    const bench = new Bench(1);
    await bench.group.settle();
    const cycle = async (n: number) => {
      bench.tell("throw");
      await bench.untilLost(n);
      bench.time.advanceToNext();
      await bench.group.settle();
    };
    await cycle(1);
    const before = openDescriptors();
    for (let n = 2; n <= 6; n++) await cycle(n);
    assert.ok(openDescriptors() <= before + 1, `${openDescriptors()} descriptors, ${before} before`);
    await bench.close();
  });

  test("worker_group: one that dies again and again is started ever more slowly", async () => {
    const generations = Array.from({ length: 9 }, (_, i) => i + 1);
    const bench = new Bench(1, generations);
    const delays: number[] = [];
    for (const n of generations) {
      await bench.untilLost(n);
      assert.match(bench.lost[n - 1].reason, /cannot start/);
      delays.push(bench.time.nextInMs());
      bench.time.advanceToNext();
    }
    assert.deepEqual(delays, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    await bench.group.settle();
    await bench.close();
  });

  test("worker_group: to confirm is not enough to be trusted again, to run for a minute is", async () => {
    const bench = new Bench(1);
    for (const [n, delay] of [100, 200, 400].entries()) {
      await bench.group.settle();
      bench.tell("throw");
      await bench.untilLost(n + 1);
      assert.equal(bench.time.nextInMs(), delay);
      bench.time.advanceToNext();
    }
    await bench.group.settle();
    bench.time.advance(60_000);
    bench.tell("throw");
    await bench.untilLost(4);
    assert.equal(bench.time.nextInMs(), 100);
    bench.time.advanceToNext();
    await bench.group.settle();
    await bench.close();
  });

  test("worker_group: one that never comes up is given 30 s, not 5, and then replaced", async () => {
    const bench = new Bench(1, [], [1]);
    const settled = bench.group.settle();
    bench.time.advance(29_999);
    assert.equal(bench.lost.length, 0);
    bench.time.advance(1);
    assert.match(bench.lost[0].reason, /did not start within 30 s/);
    bench.time.advance(100);
    await settled;
    await bench.close();
  });

  test("worker_group: close starts nothing again", async () => {
    const bench = new Bench(1);
    await bench.group.settle();
    bench.tell("throw");
    await bench.untilLost(1);
    bench.group.close();
    assert.equal(bench.time.pending, 0);
    bench.time.advance(60_000);
    assert.equal(bench.group.generation(0), 1);
  });
});
