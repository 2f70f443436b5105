import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { run } from "../../scripts/support/tools.ts";
import { signalEventFd } from "../../src/platform/epoll.ts";
import { startThread, type Thread } from "../../src/platform/thread.ts";

interface Message {
  readonly type: string;
  readonly wakeFd?: number;
  readonly data?: unknown;
  readonly n?: number;
  readonly received?: readonly number[];
}

/** A worker, and a way to wait for what it says. */
class Subject {
  readonly thread: Thread;
  readonly ended: Promise<Error | undefined>;
  wakeFd = -1;
  readonly #messages: Message[] = [];
  #wanted: ((message: Message) => void) | undefined;

  constructor(data: unknown) {
    let end: (error: Error | undefined) => void = () => {};
    this.ended = new Promise((resolve) => {
      end = resolve;
    });
    this.thread = startThread(new URL("./thread_worker.ts", import.meta.url), data, {
      message: (message) => this.#take(message as Message),
      ended: (error) => end(error),
    });
  }

  next(): Promise<Message> {
    const first = this.#messages.shift();
    if (first !== undefined) return Promise.resolve(first);
    return new Promise((resolve) => {
      this.#wanted = resolve;
    });
  }

  async start(): Promise<unknown> {
    const started = await this.next();
    assert.equal(started.type, "started");
    this.wakeFd = started.wakeFd as number;
    this.thread.setWakeFd(this.wakeFd);
    return started.data;
  }

  #take(message: Message): void {
    const wanted = this.#wanted;
    this.#wanted = undefined;
    if (wanted === undefined) this.#messages.push(message);
    else wanted(message);
  }
}

describe("thread", () => {
  test("thread: a worker that blocks takes 2,000 messages in the order they were posted", async () => {
    const subject = new Subject({ some: "data" });
    const expected = Array.from({ length: 2_000 }, (_, n) => n);
    // The first ones are posted before the worker can be woken: they must not be lost.
    for (const n of expected.slice(0, 100)) subject.thread.post({ type: "count", n });
    assert.deepEqual(await subject.start(), { some: "data" });
    for (const n of expected.slice(100)) {
      subject.thread.post({ type: "count", n });
      // Bursts of every length, so that posts fall before, during and after the worker's turns.
      if (n % (1 + n % 37) === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    subject.thread.post({ type: "report" });
    assert.deepEqual((await subject.next()).received, expected);
    subject.thread.post({ type: "end" });
    assert.equal(await subject.ended, undefined);
  });

  test("thread: each of 500 messages wakes the worker", async () => {
    const subject = new Subject(undefined);
    await subject.start();
    for (let n = 0; n < 500; n++) {
      subject.thread.post({ type: "echo", n });
      assert.equal((await subject.next()).n, n);
    }
    subject.thread.post({ type: "end" });
    await subject.ended;
  });

  test("thread: what is taken in the middle of work, and what comes by events, is handled once and in order", async () => {
    const received: number[] = [];
    let depth = 0;
    let started = (_: Message) => {};
    const ready = new Promise<Message>((resolve) => started = resolve);
    let ended = () => {};
    const end = new Promise<void>((resolve) => ended = resolve);
    const thread = startThread(new URL("./thread_worker.ts", import.meta.url), undefined, {
      message(posted) {
        const message = posted as Message;
        if (message.type === "started") return started(message);
        assert.equal(++depth, 1, "a handler is not interrupted by the next message");
        received.push(message.n as number);
        // A handler may do long work itself.
        if (received.length % 5 === 0) thread.take();
        depth--;
      },
      ended: () => ended(),
    });
    thread.setWakeFd((await ready).wakeFd as number);
    const count = 3_000;
    let taken = 0;
    for (let n = 0; n < count;) {
      // Rounds of every kind: only events, only taken, both; the worker posts meanwhile.
      for (const until = Math.min(count, n + 1 + n % 41); n < until; n++) thread.post({ type: "echo", n });
      if (n % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
      const before = received.length;
      if (n % 2 === 0) thread.take();
      taken += received.length - before;
      if (n % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
    }
    while (received.length < count) {
      const before = received.length;
      thread.take();
      taken += received.length - before;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(received, Array.from({ length: count }, (_, n) => n));
    assert.ok(taken > 0 && taken < count, `${taken} of ${count} were taken, the others came as events`);
    thread.post({ type: "end" });
    await end;
  });

  test("thread: a handler that throws ends the process as an event's would, and is no failure of who takes messages", async () => {
    const program = fileURLToPath(new URL("./thread_failure.ts", import.meta.url));
    const flags = process.versions.bun === undefined ? ["run", "--no-check", "-A"] : [];
    const { code, output } = await run([process.execPath, ...flags, program], { show: false, timeoutMs: 30_000 });
    assert.match(output, /the caller went on/);
    assert.match(output, /the handler has a bug/);
    assert.notEqual(code, 0);
  });

  test("thread: a worker that throws is reported with its error, once", async () => {
    const subject = new Subject(undefined);
    await subject.start();
    subject.thread.post({ type: "throw" });
    const error = await subject.ended;
    assert.match(error?.message ?? "", /the worker has a bug/);
    subject.thread.post({ type: "count", n: 1 }); // To a thread that is gone: nothing happens.
  });

  test("thread: a worker whose module cannot be loaded is reported", async () => {
    const ended = new Promise<Error | undefined>((resolve) => {
      startThread(new URL("./no_such_worker.ts", import.meta.url), undefined, { message: () => {}, ended: resolve });
    });
    assert.ok((await ended) instanceof Error);
  });

  test("thread: a worker that runs for ever is reported as ended when it is terminated", async () => {
    const subject = new Subject(undefined);
    await subject.start();
    const flag = new Int32Array(new SharedArrayBuffer(4));
    subject.thread.post({ type: "loop", flag: flag.buffer });
    while (Atomics.load(flag, 0) === 0) await new Promise((resolve) => setImmediate(resolve));
    subject.thread.terminate();
    assert.equal(await subject.ended, undefined);
    Atomics.store(flag, 0, 2);
  });

  test("thread: a worker that blocks in the kernel is reported as ended when it is terminated", async () => {
    const subject = new Subject(undefined);
    await subject.start();
    subject.thread.terminate();
    assert.equal(await subject.ended, undefined);
    signalEventFd(subject.wakeFd);
  });
});
