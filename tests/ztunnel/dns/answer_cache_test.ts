import assert from "node:assert/strict";
import { test } from "node:test";
import { mergeNames } from "../../../src/protocol/dns/encode.ts";
import { addressRecord, cnameRecord, RCODE, type ResourceRecord, TYPE } from "../../../src/protocol/dns/mod.ts";
import { type Answer, AnswerCache, CacheBudget, lifetimeSeconds } from "../../../src/ztunnel/dns/answer_cache.ts";

const NOTHING: Answer = { rcode: 0, authenticData: false, answers: [], authorities: [], additionals: [] };
const address = (ttl: number) => addressRecord("www.example", Uint8Array.of(192, 0, 2, 1), ttl);

function soa(ttl: number, minimum: number): ResourceRecord {
  const numbers = new Uint8Array(20);
  new DataView(numbers.buffer).setUint32(16, minimum);
  return {
    name: "example",
    type: TYPE.SOA,
    class: 1,
    ttl,
    data: mergeNames(new Uint8Array(0), ["ns", "admin"], numbers),
  };
}

function cache(maxEntries?: number, maxBytes?: number, budget = new CacheBudget(1 << 20)): AnswerCache {
  return new AnswerCache(budget, maxEntries, maxBytes);
}

test("dns cache: an answer is kept for as long as its shortest record, counted down", () => {
  const subject = cache();
  subject.put("k", { ...NOTHING, answers: [address(60), cnameRecord("a", "b", 10)] }, 1_000);
  assert.deepEqual(subject.get("k", 1_000)!.answers.map(({ ttl }) => ttl), [60, 10]);
  assert.deepEqual(subject.get("k", 5_999)!.answers.map(({ ttl }) => ttl), [56, 6]);
  assert.equal(subject.get("k", 11_000), undefined);
  assert.equal(subject.size, 0);
});

test("dns cache: lifetimes", () => {
  assert.equal(lifetimeSeconds({ ...NOTHING, answers: [address(0)] }), 0);
  assert.equal(lifetimeSeconds({ ...NOTHING, answers: [address(2_000_000)] }), 86_400);
  assert.equal(lifetimeSeconds({ ...NOTHING, rcode: RCODE.NXDomain }), 0, "without an SOA nothing says how long");
  assert.equal(lifetimeSeconds({ ...NOTHING, rcode: RCODE.NXDomain, authorities: [soa(900, 60)] }), 60);
  assert.equal(lifetimeSeconds({ ...NOTHING, rcode: RCODE.NXDomain, authorities: [soa(30, 60)] }), 30);
  assert.equal(lifetimeSeconds({ ...NOTHING, authorities: [soa(900_000, 900_000)] }), 3 * 3600);
  assert.equal(lifetimeSeconds({ ...NOTHING, rcode: RCODE.ServFail, answers: [address(60)] }), 0);
});

test("dns cache: what was not used for longest makes room", () => {
  const subject = cache(2);
  for (const key of ["a", "b"]) subject.put(key, { ...NOTHING, answers: [address(60)] }, 0);
  subject.get("a", 1);
  subject.put("c", { ...NOTHING, answers: [address(60)] }, 2);
  assert.deepEqual(["a", "b", "c"].map((key) => subject.get(key, 3) !== undefined), [true, false, true]);
});

test("dns cache: bounded by bytes, and an answer that is larger than all of it is not kept", () => {
  const subject = cache(undefined, 2_000);
  const large = (bytes: number): Answer => ({
    ...NOTHING,
    answers: [{ ...address(60), type: TYPE.TXT, data: new Uint8Array(bytes) }],
  });
  subject.put("a", large(1_000), 0);
  subject.put("b", large(1_000), 0);
  assert.deepEqual(["a", "b"].map((key) => subject.get(key, 1) !== undefined), [false, true]);
  subject.put("c", large(5_000), 0);
  assert.equal(subject.get("c", 1), undefined);
  assert.equal(subject.size, 1);
});

test("dns cache: all pods together stay within the budget, and give it back", () => {
  const budget = new CacheBudget(1_000);
  const [first, second] = [cache(undefined, undefined, budget), cache(undefined, undefined, budget)];
  const answer: Answer = { ...NOTHING, answers: [address(60)] };
  first.put("a", answer, 0);
  first.put("b", answer, 0);
  second.put("c", answer, 0);
  assert.equal(second.get("c", 0), undefined, "the other pod's entries are not this one's to drop");
  assert.ok(budget.used > 0 && budget.used <= 1_000);
  first.clear();
  assert.equal(budget.used, 0);
  second.put("c", answer, 0);
  assert.notEqual(second.get("c", 0), undefined);
  second.put("c", { ...NOTHING, answers: [address(0)] }, 0);
  assert.deepEqual([second.size, budget.used], [0, 0], "a newer answer that may not be kept replaces the older");
});
