import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Backoff } from "../../src/identity/backoff.ts";
import { RequestQueue } from "../../src/identity/request_queue.ts";
import { BACKDATE_MS, Bench, ca, createCa, DAY_MS, ID } from "./bench.ts";

/** A bench whose authority answers when the test says so, in the order in which it was asked. */
function heldBench() {
  const bench = new Bench();
  const held: (() => void)[] = [];
  bench.answer = (identity, csr) => new Promise((resolve) => held.push(() => resolve(ca.sign(identity, csr))));
  const id = (name: string | number) => `${ID}-${name}`;
  /** Eight requests that stay in flight until they are answered. */
  const fill = () => {
    for (let i = 0; i < 8; i++) bench.store.prefetch(id(i));
  };
  /** Answers the oldest and waits until the next one was asked for. */
  const next = async () => {
    const asked = bench.requests.length;
    held.shift()?.();
    await bench.until(() => bench.requests.length > asked);
    return bench.requests.at(-1);
  };
  return { bench, held, id, fill, next };
}

describe("certificate_store: order", () => {
  test("certificate_store: who waits for it goes before who may need it, and first come is first served", async () => {
    const { bench, id, fill, next } = heldBench();
    fill();
    bench.store.prefetch(id("warm"));
    const later = [bench.store.acquire(id("one")), bench.store.acquire(id("two"))];
    bench.store.prefetch(id("warm2"));
    assert.equal(bench.requests.length, 8);
    assert.equal(await next(), id("one"));
    assert.equal(await next(), id("two"));
    assert.equal(await next(), id("warm"));
    assert.equal(await next(), id("warm2"));
    bench.store.close();
    await Promise.allSettled(later);
  });

  test("certificate_store: the first demand lifts a prefetch that waits, and asks only once", async () => {
    const { bench, id, fill, next } = heldBench();
    fill();
    bench.store.prefetch(id("a"));
    bench.store.prefetch(id("b"));
    const wanted = bench.store.acquire(id("b"));
    assert.equal(await next(), id("b"));
    assert.equal(await next(), id("a"));
    assert.equal(bench.requests.filter((identity) => identity === id("b")).length, 1);
    bench.store.close();
    await assert.rejects(wanted);
  });

  test("certificate_store: a renewal is the last in the queue", async () => {
    const { bench, held, id, fill, next } = heldBench();
    const first = bench.store.acquire(ID);
    held.shift()?.();
    await first;
    await bench.until(() => true);
    bench.time.advance((DAY_MS - BACKDATE_MS) / 2 - 1_000);
    fill();
    assert.equal(bench.requests.length, 9);
    bench.time.advance(1_000);
    assert.equal(bench.requests.length, 9, "eight are in flight");
    bench.store.prefetch(id("warm"));
    assert.equal(await next(), id("warm"));
    assert.equal(await next(), ID);
    bench.store.close();
  });

  test("certificate_store: what is forgotten while it waits is never asked for", async () => {
    const { bench, id, fill, next } = heldBench();
    fill();
    bench.store.prefetch(id("gone"));
    const gone = bench.store.acquire(id("gone too"));
    bench.store.prefetch(id("stays"));
    bench.store.forget(id("gone"));
    bench.store.release(id("gone too"));
    await assert.rejects(gone, /nobody wants it any more/);
    assert.equal(await next(), id("stays"));
    bench.store.close();
    assert.ok(!bench.requests.some((identity) => identity.includes("gone")));
  });

  test("certificate_store: a thousand users of two hundred identities ask two hundred times, eight at a time", async () => {
    const bench = new Bench();
    let inFlight = 0;
    let most = 0;
    bench.answer = async (identity, csr) => {
      most = Math.max(most, ++inFlight);
      const answer = await ca.sign(identity, csr);
      inFlight--;
      return answer;
    };
    const ids = Array.from({ length: 200 }, (_, i) => `${ID}-${i}`);
    const materials = await Promise.all(
      Array.from({ length: 1_000 }, (_, i) => bench.store.acquire(ids[(i * 7) % ids.length])),
    );
    assert.equal(bench.requests.length, 200);
    assert.equal(most, 8);
    assert.equal(new Set(materials).size, 200);
    for (let i = 0; i < 1_000; i++) bench.store.release(ids[(i * 7) % ids.length]);
    assert.deepEqual(bench.store.list(), []);
  });
});

describe("certificate_store: prefetch", () => {
  test("certificate_store: an identity is kept while anybody uses or expects it", async () => {
    const bench = new Bench();
    bench.store.prefetch(ID);
    bench.store.prefetch(ID);
    await bench.until(() => bench.changes.length === 1);
    const material = await bench.store.acquire(ID);
    assert.equal(bench.requests.length, 1);
    bench.store.forget(ID);
    bench.store.forget(ID);
    bench.store.forget(ID); // One too many is nothing.
    assert.equal(await bench.store.acquire(ID), material, "its users keep it");
    bench.store.release(ID);
    bench.store.prefetch(ID);
    bench.store.release(ID);
    bench.store.release(ID);
    assert.equal(bench.store.list().length, 1, "it is expected");
    bench.store.forget(ID);
    assert.deepEqual(bench.store.list(), []);
    assert.equal(bench.time.pending, 0);
  });

  test("certificate_store: a pod that comes back does not begin anew with a CA that refuses", async () => {
    const bench = new Bench();
    bench.refuse("no");
    const delays: number[] = [];
    for (let i = 0; i < 5; i++) {
      await assert.rejects(bench.store.acquire(ID), /no$/);
      bench.store.release(ID);
      await assert.rejects(bench.store.acquire(ID), /asked again in/);
      bench.store.release(ID);
      bench.store.prefetch(ID);
      bench.store.forget(ID);
      assert.equal(bench.requests.length, i + 1);
      delays.push(1_000 * 2 ** i);
      bench.time.advance(1_000 * 2 ** i);
    }
    assert.equal(bench.time.pending, 0, "and nothing is asked for nobody");
  });
});

describe("certificate_store: clocks", () => {
  test("certificate_store: a certificate of the future is used, with a warning about the clock", async () => {
    const bench = new Bench();
    const ahead = await createCa(DAY_MS, 3_600_000);
    bench.answer = (identity, csr) => ahead.sign(identity, csr);
    await bench.store.acquire(ID);
    assert.equal(bench.warnings.length, 1);
    assert.match(
      bench.warnings[0],
      /becomes valid at 2026-01-01T00:58:00Z only, by this node's clock \(2026-01-01T00:00:00Z\)/,
    );
    assert.ok(bench.time.nextInMs() > DAY_MS / 2);
  });

  test("certificate_store: a certificate that has expired is a failure that names both times, with a backoff", async () => {
    const bench = new Bench();
    const behind = await createCa(DAY_MS, -3 * DAY_MS);
    bench.answer = (identity, csr) => behind.sign(identity, csr);
    await assert.rejects(
      bench.store.acquire(ID),
      /expired at 2025-12-30T00:00:00Z, by this node's clock \(2026-01-01T00:00:00Z\): compare it/,
    );
    assert.equal(bench.time.nextInMs(), 1_000);
    bench.time.advanceToNext();
    await bench.until(() => bench.failures.length === 2);
    assert.equal(bench.time.nextInMs(), 2_000);
  });

  test("certificate_store: renewals that come half spent are not asked for ever faster", async () => {
    const bench = new Bench();
    // Five minutes behind: each certificate is past its half when it comes.
    const behind = await createCa(600_000, -300_000);
    bench.answer = (identity, csr) => behind.sign(identity, csr);
    await bench.store.acquire(ID);
    for (let i = 2; i < 6; i++) {
      bench.time.advanceToNext();
      await bench.until(() => bench.changes.length === i);
      assert.equal(bench.time.nextInMs(), 150_000);
    }
  });

  test("certificate_store: a user does not wait for a queue that does not move", async () => {
    const bench = new Bench();
    bench.answer = () => new Promise(() => {});
    const all = Array.from({ length: 40 }, (_, i) => bench.store.acquire(`${ID}-${i}`));
    const outcomes = Promise.allSettled(all);
    // Two rounds of eight have failed by then.
    for (let second = 0; second < 30; second++) {
      bench.time.advance(1_000);
      await bench.until(() => true);
    }
    const texts = (await outcomes).map((outcome) => (outcome as PromiseRejectedResult).reason.message as string);
    assert.equal(texts.filter((text) => text.includes("did not answer within 10 s")).length, 16);
    assert.equal(texts.filter((text) => /did not come within 30 s; \d+ requests wait$/.test(text)).length, 24);
    bench.store.close();
  });
});

describe("backoff", () => {
  test("backoff: what failed long ago is forgotten, so that old pods leave nothing behind", () => {
    const backoff = new Backoff(() => 0.5);
    for (let i = 0; i < 1_000; i++) backoff.fail(`old-${i}`, "no", 0);
    assert.equal(backoff.fail("old-1", "no", 0), 2_000);
    backoff.fail("new", "no", 10 * 60_000);
    assert.equal(backoff.fail("old-1", "no", 10 * 60_000), 1_000, "it begins anew");
    assert.equal(backoff.waiting("new", 10 * 60_000)?.leftMs, 1_000);
    assert.equal(backoff.waiting("new", 10 * 60_000 + 1_000), undefined);
  });
});

describe("request_queue", () => {
  test("request_queue: a lower wish never takes a higher one back, and what runs cannot be taken out", async () => {
    const queue = new RequestQueue();
    const order: string[] = [];
    const releases: (() => void)[] = [];
    const blockers = Array.from(
      { length: 8 },
      () => queue.add("background", () => new Promise<void>((r) => releases.push(r))),
    );
    const add = (name: string, priority: "realtime" | "background") =>
      queue.add(priority, () => {
        order.push(name);
        return Promise.resolve();
      });
    const a = add("a", "realtime");
    const b = add("b", "background");
    const c = add("c", "background");
    queue.raise(a, "background");
    queue.raise(c, "warmup");
    assert.equal(queue.waiting, 3);
    assert.equal(queue.remove(blockers[0]), false);
    assert.equal(queue.remove(b), true);
    assert.equal(queue.remove(b), false);
    releases.forEach((release) => release());
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(order, ["a", "c"]);
    assert.equal(queue.waiting, 0);
  });
});
