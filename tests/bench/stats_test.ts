import assert from "node:assert/strict";
import { test } from "node:test";
import { Histogram, median, medianRatio } from "../../scripts/bench/stats.ts";

test("histogram: percentiles are the nearest rank of the samples", () => {
  const histogram = new Histogram();
  for (let us = 1; us <= 100; us++) histogram.add(us);
  assert.equal(histogram.percentile(0.5), 50);
  assert.equal(histogram.percentile(0.99), 99);
  assert.equal(histogram.percentile(1), 100);
  assert.equal(histogram.count, 100);
});

test("histogram: a sample beyond the last bucket is kept in it", () => {
  const histogram = new Histogram();
  histogram.add(1e9);
  assert.equal(histogram.percentile(0.5), (1 << 20) - 1);
});

test("histogram: reset forgets the warm-up", () => {
  const histogram = new Histogram();
  histogram.add(5000);
  histogram.reset();
  histogram.add(7);
  assert.equal(histogram.percentile(0.99), 7);
  assert.ok(Number.isNaN(new Histogram().percentile(0.5)));
});

test("median: of odd, even and empty lists, without sorting the caller's", () => {
  const values = [3, 1, 2];
  assert.equal(median(values), 2);
  assert.deepEqual(values, [3, 1, 2]);
  assert.equal(median([4, 1]), 2.5);
  assert.ok(Number.isNaN(median([])));
});

test("medianRatio: a disturbance that doubles both sides of one round changes nothing", () => {
  assert.equal(medianRatio([10, 20, 10], [20, 40, 20]), 0.5);
  assert.equal(medianRatio([10, 30], [20]), 0.5);
});
