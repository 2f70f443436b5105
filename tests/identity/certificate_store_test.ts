import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Answer, BACKDATE_MS, Bench, ca, createCa, DAY_MS, ID, START_MS } from "./bench.ts";

describe("certificate_store: fetching", () => {
  test("certificate_store: fetches once for all users of an identity", async () => {
    const bench = new Bench();
    const materials = await Promise.all([bench.store.acquire(ID), bench.store.acquire(ID), bench.store.acquire(ID)]);
    assert.equal(bench.requests.length, 1);
    assert.equal(new Set(materials).size, 1);
    assert.equal(await bench.store.acquire(ID), materials[0]);
    assert.equal(bench.requests.length, 1);
    assert.deepEqual(bench.changes, [{ identity: ID, material: materials[0] }]);
    assert.match(materials[0].privateKey, /PRIVATE KEY/);
    assert.deepEqual(materials[0].roots, ca.roots);
  });

  test("certificate_store: lists what it has, sorted, in each state", async () => {
    const bench = new Bench();
    const other = ID.replace("web", "api");
    bench.answer = (identity, csr) => identity === other ? Promise.reject(new Error("no")) : ca.sign(identity, csr);
    await bench.store.acquire(ID);
    await assert.rejects(bench.store.acquire(other));
    bench.answer = () => new Promise(() => {});
    const third = ID.replace("web", "aaa");
    void bench.store.acquire(third);
    const list = bench.store.list();
    assert.deepEqual(list.map(({ identity }) => identity), [third, other, ID]);
    assert.equal(list[0].state.kind, "initializing");
    assert.deepEqual(list[1].state, { kind: "unavailable", error: "no" });
    const { state } = list[2];
    assert.ok(state.kind === "available");
    assert.deepEqual(state.chain[0].uris, [ID]);
    assert.equal(state.roots.length, 1);
    assert.equal(state.chain[0].notAfterMs, START_MS + DAY_MS);
  });

  test("certificate_store: at most eight requests are in flight", async () => {
    const bench = new Bench();
    const open: (() => void)[] = [];
    bench.answer = (identity, csr) => new Promise((resolve) => open.push(() => resolve(ca.sign(identity, csr))));
    const ids = Array.from({ length: 20 }, (_, i) => ID + i);
    const all = Promise.all(ids.map((id) => bench.store.acquire(id)));
    await bench.until(() => bench.requests.length === 8);
    assert.equal(bench.requests.length, 8);
    open[0]();
    await bench.until(() => bench.requests.length === 9);
    assert.equal(bench.requests.length, 9);
    for (let i = 1; i < 20; i++) {
      await bench.until(() => open.length > i);
      assert.ok(bench.requests.length - i <= 8);
      open[i]();
    }
    await all;
    assert.deepEqual([...bench.requests].sort(), [...ids].sort());
  });

  test("certificate_store: a failed request gives its place in the queue on", async () => {
    const bench = new Bench();
    bench.refuse("no");
    const ids = Array.from({ length: 30 }, (_, i) => ID + i);
    const results = await Promise.allSettled(ids.map((id) => bench.store.acquire(id)));
    assert.ok(results.every(({ status }) => status === "rejected"));
    assert.equal(bench.requests.length, 30);
  });
});

describe("certificate_store: answers that are no good", () => {
  const cases: readonly [string, () => Promise<Answer>, RegExp][] = [
    ["a refusal", () => Promise.reject(new Error("forbidden")), /forbidden$/],
    ["a refusal that is no error", () => Promise.reject("plain text"), /plain text$/],
    ["an empty chain", () => Promise.resolve({ chain: [], roots: ca.roots }), /empty chain/],
    ["no PEM", () => Promise.resolve({ chain: ["x"], roots: ca.roots }), /read a certificate from PEM/],
    ["another's identity", async () => {
      const { createKeyAndRequest } = await import("../../src/identity/csr.ts");
      return ca.sign(`${ID}2`, createKeyAndRequest(`${ID}2`).csrPem);
    }, new RegExp(`certificate for ${ID}2`)],
    ["a certificate of another key", async () => {
      const { createKeyAndRequest } = await import("../../src/identity/csr.ts");
      return ca.sign(ID, createKeyAndRequest(ID).csrPem);
    }, /private key/],
  ];

  for (const [what, answer, message] of cases) {
    test(`certificate_store: ${what} is a failure that names the identity, and is not used`, async () => {
      const bench = new Bench();
      bench.answer = answer;
      await assert.rejects(bench.store.acquire(ID), (error: Error) => {
        assert.match(error.message, new RegExp(`^cannot get a certificate for ${ID}: `));
        assert.match(error.message, message);
        return true;
      });
      assert.deepEqual(bench.changes, []);
      assert.equal(bench.failures.length, 1);
      assert.equal(bench.store.list()[0].state.kind, "unavailable");
    });
  }

  test("certificate_store: an answer without a root is a failure", async () => {
    const bench = new Bench();
    bench.answer = async (identity, csr) => ({ ...await ca.sign(identity, csr), roots: [] });
    await assert.rejects(bench.store.acquire(ID), /no root certificate/);
    assert.deepEqual(bench.changes, []);
  });

  test("certificate_store: no answer within 10 s is a failure", async () => {
    const bench = new Bench();
    bench.answer = () => new Promise(() => {});
    const acquired = bench.store.acquire(ID);
    await bench.until(() => bench.requests.length === 1);
    bench.time.advance(9_999);
    assert.equal(bench.failures.length, 0);
    bench.time.advance(1);
    await assert.rejects(acquired, /cannot get a certificate for .*: the CA did not answer within 10 s/);
    assert.equal(bench.failures[0].timedOut, true);
  });

  test("certificate_store: an answer in time leaves no timeout behind", async () => {
    const bench = new Bench();
    await bench.store.acquire(ID);
    await bench.until(() => true);
    assert.equal(bench.time.pending, 1, "the renewal alone");
  });
});

describe("certificate_store: renewal", () => {
  test("certificate_store: renews at half of the life, with a new key, again and again", async () => {
    const bench = new Bench();
    let last = await bench.store.acquire(ID);
    for (let round = 1; round <= 3; round++) {
      await bench.until(() => true);
      const half = (DAY_MS - BACKDATE_MS) / 2;
      bench.time.advance(half - 1_000);
      assert.equal(bench.requests.length, round);
      bench.time.advance(1_000);
      await bench.until(() => bench.changes.length === round + 1);
      const { material } = bench.changes[round];
      assert.notEqual(material.privateKey, last.privateKey);
      assert.equal(await bench.store.acquire(ID), material);
      last = material;
    }
  });

  test("certificate_store: a renewal that fails keeps the valid certificate, and tries again", async () => {
    const bench = new Bench();
    const material = await bench.store.acquire(ID);
    await bench.until(() => true);
    bench.refuse("the CA is down");
    bench.time.advance(DAY_MS / 2);
    await bench.until(() => bench.failures.length === 1);
    assert.equal(bench.store.list()[0].state.kind, "available");
    assert.equal(await bench.store.acquire(ID), material);
    bench.answer = (identity, csr) => ca.sign(identity, csr);
    bench.time.advance(1_000);
    await bench.until(() => bench.changes.length === 2);
    assert.notEqual(await bench.store.acquire(ID), material);
  });

  test("certificate_store: a certificate that expires unrenewed is unavailable, until the CA is back", async () => {
    const bench = new Bench();
    await bench.store.acquire(ID);
    await bench.until(() => true);
    bench.refuse("the CA is down");
    for (let failures = 0; bench.store.list()[0].state.kind === "available"; failures++) {
      assert.ok(failures < 1_000, "it never expires");
      bench.time.advanceToNext();
      const seen = bench.failures.length;
      await bench.until(() => bench.failures.length > seen || bench.time.pending > 0);
    }
    assert.ok(bench.time.nowMs >= START_MS + DAY_MS);
    assert.ok(bench.time.nowMs < START_MS + DAY_MS + 200_000, "the end of the life is not slept through");
    const asked = bench.requests.length;
    await assert.rejects(bench.store.acquire(ID), /the CA is down \(asked again in [0-9]+ s\)$/);
    assert.equal(bench.requests.length, asked, "a CA that is down is left alone, whoever wants something");
    bench.answer = (identity, csr) => ca.sign(identity, csr);
    bench.time.advanceToNext();
    await bench.until(() => bench.changes.length === 2);
    await bench.store.acquire(ID);
    assert.equal(bench.store.list()[0].state.kind, "available");
  });

  test("certificate_store: retries grow from 1 s to 150 s, and a success begins anew", async () => {
    const bench = new Bench();
    bench.refuse("no");
    await assert.rejects(bench.store.acquire(ID));
    for (let i = 1; i < 10; i++) {
      bench.time.advanceToNext();
      await bench.until(() => bench.failures.length === i + 1);
    }
    assert.deepEqual(
      bench.failures.map(({ retryMs }) => retryMs / 1_000),
      [1, 2, 4, 8, 16, 32, 64, 128, 150, 150],
    );
    bench.answer = (identity, csr) => ca.sign(identity, csr);
    bench.time.advanceToNext();
    await bench.until(() => bench.changes.length === 1);
    bench.refuse("no");
    bench.time.advanceToNext();
    await bench.until(() => bench.failures.length === 11);
    assert.equal(bench.failures[10].retryMs, 1_000);
  });

  test("certificate_store: retries are spread by a fifth either way", async () => {
    for (const [random, expected] of [[0, 800], [0.5, 1_000], [0.999999, 1_200]] as const) {
      const bench = new Bench();
      bench.random = random;
      bench.refuse("no");
      await assert.rejects(bench.store.acquire(ID));
      assert.ok(Math.abs(bench.failures[0].retryMs - expected) < 1, `${bench.failures[0].retryMs}`);
    }
  });

  test("certificate_store: a certificate past half of its life at birth is not renewed in a hot loop", async () => {
    const bench = new Bench();
    const old = await createCa(60_000);
    bench.answer = (identity, csr) => old.sign(identity, csr);
    await bench.store.acquire(ID); // Two minutes back, one ahead.
    await bench.until(() => true);
    assert.equal(bench.time.nextInMs(), 30_000, "half of what is left");
  });

  test("certificate_store: a life of many years is renewed early rather than at once", async () => {
    const bench = new Bench();
    const long = await createCa(3_000 * DAY_MS);
    bench.answer = (identity, csr) => long.sign(identity, csr);
    await bench.store.acquire(ID);
    await bench.until(() => true);
    assert.equal(bench.time.nextInMs(), 2 ** 31 - 1);
  });
});

describe("certificate_store: release", () => {
  test("certificate_store: the last user's release forgets key and renewal", async () => {
    const bench = new Bench();
    const first = await bench.store.acquire(ID);
    await bench.store.acquire(ID);
    await bench.until(() => true);
    bench.store.release(ID);
    assert.equal(bench.store.list().length, 1);
    assert.equal(bench.time.pending, 1);
    bench.store.release(ID);
    assert.deepEqual(bench.store.list(), []);
    assert.equal(bench.time.pending, 0);
    bench.store.release(ID); // One too many is nothing.
    assert.notEqual(await bench.store.acquire(ID), first);
    assert.equal(bench.requests.length, 2);
  });

  test("certificate_store: an answer for an identity that was released meanwhile changes nothing", async () => {
    for (const good of [true, false]) {
      const bench = new Bench();
      let answer: () => void = () => {};
      bench.answer = (identity, csr) =>
        new Promise((resolve, reject) => {
          answer = () => good ? resolve(ca.sign(identity, csr)) : reject(new Error("no"));
        });
      const acquired = bench.store.acquire(ID);
      await bench.until(() => bench.requests.length === 1);
      bench.store.release(ID);
      await assert.rejects(acquired, /nobody wants it any more/);
      answer();
      while (bench.time.pending > 0) await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(bench.changes, []);
      assert.deepEqual(bench.failures, []);
      assert.deepEqual(bench.store.list(), []);
      assert.equal(bench.time.pending, 0);
    }
  });

  test("certificate_store: a user whose acquire failed stays counted, and is served by the retry", async () => {
    const bench = new Bench();
    bench.refuse("no");
    await assert.rejects(bench.store.acquire(ID));
    bench.answer = (identity, csr) => ca.sign(identity, csr);
    bench.time.advanceToNext();
    await bench.until(() => bench.changes.length === 1);
    bench.store.release(ID);
    assert.deepEqual(bench.store.list(), []);
  });

  test("certificate_store: close ends all renewals", async () => {
    const bench = new Bench();
    await bench.store.acquire(ID);
    await bench.store.acquire(`${ID}2`);
    await bench.until(() => true);
    bench.store.close();
    assert.equal(bench.time.pending, 0);
    assert.deepEqual(bench.store.list(), []);
  });
});
