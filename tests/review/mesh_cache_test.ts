import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import { MeshCache } from "../../src/ztunnel/mesh_cache.ts";
import { createLoop } from "../net/support.ts";

const NOTHING = { workloads: [], services: [], policies: [] };

test("mesh cache: a client that asks for ever new destinations does not make it grow, nor each lookup walk through it", () => {
  const LIMIT = 16_384;
  const loop = createLoop();
  const forgotten = new Set<string>();
  const asked: string[] = [];
  const cache = new MeshCache({
    reactor: loop.reactor,
    ask: (key) => void asked.push(key),
    forget: (keys) => keys.forEach((key) => forgotten.add(key)),
  });
  const waiter = { meshAnswered: () => {} };
  const ipOf = (i: number) => `10.${i >> 16}.${i >> 8 & 255}.${i & 255}`;
  const lookup = (i: number) =>
    cache.lookup({ kind: "address", network: "", ip: ipOf(i), namespace: undefined }, waiter);
  const started = process.cpuUsage();
  for (let i = 0; i < 4 * LIMIT; i++) {
    lookup(i);
    cache.answer(asked[asked.length - 1], NOTHING);
  }
  const tookMs = process.cpuUsage(started).user / 1000;
  assert.ok(cache.size <= LIMIT, `${cache.size} entries`);
  assert.equal(forgotten.size, 4 * LIMIT - cache.size, "the main thread is told of each that was dropped");
  assert.ok(tookMs < 5_000, `${tookMs} ms`);
  const before = asked.length;
  assert.notEqual(lookup(4 * LIMIT - 1), undefined, "the latest is still known");
  assert.equal(asked.length, before);
});
