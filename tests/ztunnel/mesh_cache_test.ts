import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { MeshResources, MeshStore, WorkloadUid } from "../../src/mesh/mod.ts";
import { Reactor } from "../../src/net/reactor.ts";
import { MeshCache, type MeshWaiter } from "../../src/ztunnel/mesh_cache.ts";
import type { MeshQuery } from "../../src/ztunnel/messages.ts";
import { pod } from "../mesh/builders.ts";

const EMPTY: MeshResources = { workloads: [], services: [], policies: [] };
const MINUTE_MS = 60_000;

let nowMs: number;
let reactor: Reactor;
let cache: MeshCache;
let asked: string[];
let forgotten: string[];

beforeEach(() => {
  nowMs = 1_000;
  asked = [];
  forgotten = [];
  reactor = new Reactor(() => nowMs, () => {});
  cache = new MeshCache({
    reactor,
    ask: (key) => asked.push(key),
    forget: (keys) => forgotten.push(...keys),
  });
});

afterEach(() => reactor.dispose());

/** Lets time pass as the reactor sees it. */
function pass(milliseconds: number): void {
  for (const end = nowMs + milliseconds; nowMs < end;) {
    nowMs = Math.min(end, nowMs + 500);
    reactor.turn(0);
  }
}

class Waiter implements MeshWaiter {
  readonly answers: (MeshStore | undefined)[] = [];
  meshAnswered(mesh: MeshStore | undefined): void {
    this.answers.push(mesh);
  }
}

function address(ip: string, namespace = "default"): MeshQuery {
  return { kind: "address", network: "", ip, namespace };
}

/** Looks up and answers, so that the entry is there. */
function fill(ip: string): void {
  cache.lookup(address(ip), new Waiter());
  cache.answer(asked[asked.length - 1], EMPTY);
}

describe("mesh_cache", () => {
  test("mesh_cache: asks once for all who wait, and answers from then on by itself", () => {
    const waiters = [new Waiter(), new Waiter()];
    for (const waiter of waiters) assert.equal(cache.lookup(address("10.0.0.1"), waiter), undefined);
    assert.equal(asked.length, 1);
    cache.answer(asked[0], { ...EMPTY, workloads: [pod("web", ["10.0.0.1"])] });
    const mesh = waiters[0].answers[0];
    assert.equal(mesh?.findWorkload("", "10.0.0.1")?.name, "web");
    assert.deepEqual(waiters.map(({ answers }) => answers), [[mesh], [mesh]]);
    assert.equal(cache.lookup(address("10.0.0.1"), new Waiter()), mesh);
    assert.equal(asked.length, 1);
  });

  test("mesh_cache: questions that differ in anything are different questions", () => {
    const uid = "uid" as WorkloadUid;
    const queries: readonly MeshQuery[] = [
      address("10.0.0.1"),
      address("10.0.0.2"),
      address("10.0.0.1", "other"),
      { kind: "address", network: "", ip: "10.0.0.1", namespace: undefined },
      { kind: "address", network: "net", ip: "10.0.0.1", namespace: "default" },
      { kind: "hostname", hostname: "a.b", uid },
      { kind: "hostname", hostname: "a.c", uid },
      { kind: "hostname", hostname: "a.b", uid: "other" as WorkloadUid },
      { kind: "workload", uid },
    ];
    for (const query of queries) cache.lookup(query, new Waiter());
    assert.equal(new Set(asked).size, queries.length);
  });

  test("mesh_cache: an answer that may have changed is asked for again", () => {
    fill("10.0.0.1");
    cache.invalidate([asked[0], "no such key"]);
    assert.equal(cache.size, 0);
    const waiter = new Waiter();
    assert.equal(cache.lookup(address("10.0.0.1"), waiter), undefined);
    assert.equal(asked.length, 2);
    cache.answer(asked[1], EMPTY);
    assert.equal(waiter.answers.length, 1);
  });

  test("mesh_cache: who waits while the answer is invalidated gets the one that is on its way", () => {
    const waiter = new Waiter();
    cache.lookup(address("10.0.0.1"), waiter);
    // Meant for an earlier answer of the same name: the new one comes behind it on the ordered channel.
    cache.invalidate([asked[0]]);
    assert.equal(asked.length, 1);
    cache.answer(asked[0], EMPTY);
    assert.equal(waiter.answers.length, 1);
    assert.notEqual(cache.lookup(address("10.0.0.1"), new Waiter()), undefined);
  });

  test("mesh_cache: an answer that nobody asked for, or not any more, is dropped", () => {
    cache.answer("a|default||10.0.0.9", EMPTY);
    assert.equal(cache.size, 0);
  });

  test("mesh_cache: silence of the main thread is told to each waiter, after 5 s to 10 s", () => {
    const first = new Waiter();
    cache.lookup(address("10.0.0.1"), first);
    pass(4_900);
    assert.equal(first.answers.length, 0);
    const second = new Waiter();
    cache.lookup(address("10.0.0.2"), second);
    pass(200);
    assert.deepEqual(first.answers, [undefined]);
    assert.equal(second.answers.length, 0);
    pass(9_900);
    assert.deepEqual(second.answers, [undefined]);
    assert.deepEqual(first.answers, [undefined], "each is told once");
  });

  test("mesh_cache: who comes after a timeout has a time of his own, and gets a late answer", () => {
    cache.lookup(address("10.0.0.1"), new Waiter());
    pass(14_000);
    cache.lookup(address("10.0.0.2"), new Waiter());
    pass(3_000);
    const late = new Waiter();
    cache.lookup(address("10.0.0.1"), late);
    pass(4_000); // The other one's time is over within these.
    assert.equal(late.answers.length, 0);
    cache.answer(asked[0], EMPTY);
    assert.equal(late.answers.length, 1);
    assert.notEqual(late.answers[0], undefined);
  });

  test("mesh_cache: an answer without use for five minutes is forgotten, here and on the main thread", () => {
    fill("10.0.0.1");
    fill("10.0.0.2");
    for (let i = 0; i < 6; i++) {
      pass(MINUTE_MS);
      assert.notEqual(cache.lookup(address("10.0.0.2"), new Waiter()), undefined);
    }
    assert.deepEqual(forgotten, [asked[0]]);
    assert.equal(cache.size, 1);
    cache.lookup(address("10.0.0.1"), new Waiter());
    assert.equal(asked.length, 3);
  });

  test("mesh_cache: some endpoints of a large service are replaced by others after a minute, though they are in use", () => {
    cache.lookup(address("10.0.0.1"), new Waiter());
    cache.answer(asked[0], EMPTY, true);
    fill("10.0.0.2");
    for (let i = 0; i < 4; i++) {
      assert.notEqual(cache.lookup(address("10.0.0.1"), new Waiter()), undefined);
      pass(MINUTE_MS / 4);
    }
    pass(MINUTE_MS / 2);
    assert.deepEqual(forgotten, [asked[0]]);
    assert.equal(cache.lookup(address("10.0.0.1"), new Waiter()), undefined);
    assert.equal(asked.length, 3);
    cache.answer(asked[2], EMPTY);
    for (let i = 0; i < 8; i++) {
      pass(MINUTE_MS / 2);
      assert.notEqual(cache.lookup(address("10.0.0.1"), new Waiter()), undefined, "a whole answer stays");
    }
  });

  test("mesh_cache: nothing that somebody waits for is dropped to make room", () => {
    const waiting = new Waiter();
    cache.lookup(address("10.0.0.1"), waiting);
    const [key] = asked;
    for (let i = 0; i < 20_000; i++) fill(`10.1.${i >> 8}.${i & 255}`);
    assert.ok(cache.size <= 16_384);
    assert.ok(!forgotten.includes(key));
    cache.answer(key, EMPTY);
    assert.equal(waiting.answers.length, 1);
  });

  test("mesh_cache: a waiter may ask again from within its answer", () => {
    const inner = new Waiter();
    const waiter: MeshWaiter = {
      meshAnswered: () => {
        assert.notEqual(cache.lookup(address("10.0.0.1"), inner), undefined);
        cache.lookup(address("10.0.0.2"), inner);
      },
    };
    cache.lookup(address("10.0.0.1"), waiter);
    cache.answer(asked[0], EMPTY);
    cache.answer(asked[1], EMPTY);
    assert.equal(inner.answers.length, 1);
  });
});
