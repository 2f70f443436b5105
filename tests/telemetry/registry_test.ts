import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { labelSet, NO_LABELS } from "../../src/telemetry/metric_family.ts";
import { renderOpenMetrics } from "../../src/telemetry/openmetrics.ts";
import { Registry } from "../../src/telemetry/registry.ts";

const COUNTER = { name: "hits", help: "Hits", type: "counter" } as const;
const GAUGE = { name: "open", help: "Open", type: "gauge", unstable: true } as const;
const HISTOGRAM = { name: "wait_seconds", help: "Wait", type: "histogram", buckets: [0.1, 1] } as const;

function open(retainMs = 0) {
  const clock = { ms: 0 };
  const registry = new Registry({ nowMs: () => clock.ms, retainMs });
  return {
    clock,
    registry,
    hits: registry.register(COUNTER),
    gauge: registry.register(GAUGE),
    wait: registry.register(HISTOGRAM),
  };
}

test("openmetrics: HELP, TYPE, _total, unstable marks, escaping and EOF", () => {
  const { registry, hits, gauge } = open();
  registry.add(registry.acquire(hits, labelSet({ path: 'a"b\\c\nd', x: "1" })), 3);
  registry.set(registry.acquire(gauge, NO_LABELS), -2);
  assert.equal(
    renderOpenMetrics(registry),
    "# HELP hits Hits.\n# TYPE hits counter\n" + 'hits_total{path="a\\"b\\\\c\\nd",x="1"} 3\n' +
      "# HELP open Open (unstable).\n# TYPE open gauge\nopen -2\n# EOF\n",
  );
});

test("openmetrics: a histogram's buckets are cumulative and end at +Inf", () => {
  const { registry, wait } = open();
  const slot = registry.acquire(wait, labelSet({ k: "v" }));
  for (const value of [0.1, 0.5, 1, 7]) registry.observe(wait, slot, value);
  assert.equal(
    renderOpenMetrics(registry),
    "# HELP wait_seconds Wait.\n# TYPE wait_seconds histogram\n" +
      'wait_seconds_sum{k="v"} 8.6\nwait_seconds_count{k="v"} 4\n' +
      'wait_seconds_bucket{k="v",le="0.1"} 1\nwait_seconds_bucket{k="v",le="1.0"} 3\n' +
      'wait_seconds_bucket{k="v",le="+Inf"} 4\n# EOF\n',
  );
});

test("registry: equal labels give the same slot, growth keeps values", () => {
  const { registry, hits } = open();
  const first = registry.acquire(hits, labelSet({ n: "0" }));
  registry.add(first, 1);
  for (let i = 1; i < 1000; i++) registry.add(registry.acquire(hits, labelSet({ n: String(i) })), i);
  assert.equal(registry.acquire(hits, labelSet({ n: "0" })), first);
  assert.equal(registry.value(first), 1);
  assert.match(renderOpenMetrics(registry), /hits_total\{n="999"\} 999\n/);
  assert.equal(registry.seriesCount, 1000);
});

test("registry: a name is registered once, a slot released as often as held", () => {
  const { registry, hits } = open();
  assert.throws(() => registry.register(COUNTER), /registered twice/);
  const slot = registry.acquire(hits, NO_LABELS);
  registry.release(slot);
  assert.throws(() => registry.release(slot), /not held/);
});

test("registry: the merge of workers' snapshots is the sum of their counts", () => {
  const main = open();
  const workers = [open(), open()];
  for (const [i, worker] of workers.entries()) {
    const both = worker.registry.acquire(worker.hits, labelSet({ who: "both" }));
    const own = worker.registry.acquire(worker.hits, labelSet({ who: `w${i}` }));
    const gauge = worker.registry.acquire(worker.gauge, NO_LABELS);
    const wait = worker.registry.acquire(worker.wait, NO_LABELS);
    worker.registry.add(both, 10);
    worker.registry.add(own, i + 1);
    worker.registry.add(gauge, 5);
    worker.registry.observe(worker.wait, wait, 0.5);
    main.registry.merge(structuredClone(worker.registry.snapshot(`w${i}`)));
    worker.registry.add(both, 1);
    worker.registry.add(gauge, -2);
    main.registry.merge(structuredClone(worker.registry.snapshot(`w${i}`)));
    main.registry.merge(structuredClone(worker.registry.snapshot(`w${i}`)));
  }
  const text = renderOpenMetrics(main.registry);
  assert.match(text, /hits_total\{who="both"\} 22\n/);
  assert.match(text, /hits_total\{who="w0"\} 1\n/);
  assert.match(text, /hits_total\{who="w1"\} 2\n/);
  assert.match(text, /\nopen 6\n/);
  assert.match(text, /wait_seconds_bucket\{le="1\.0"\} 2\n/);
  assert.match(text, /wait_seconds_sum 1\n/);
});

test("registry: an unchanged registry has an empty snapshot", () => {
  const { registry, hits } = open();
  registry.add(registry.acquire(hits, NO_LABELS), 1);
  registry.snapshot("w");
  const { defined, slots, removed } = registry.snapshot("w");
  assert.deepEqual([defined.length, slots.length, removed.length], [0, 0, 0]);
});

test("registry: a dead source keeps its counts and takes its gauges along", () => {
  const main = open();
  const worker = open();
  worker.registry.add(worker.registry.acquire(worker.hits, NO_LABELS), 4);
  worker.registry.add(worker.registry.acquire(worker.gauge, NO_LABELS), 3);
  main.registry.merge(worker.registry.snapshot("w"));
  main.registry.forget("w");
  const text = renderOpenMetrics(main.registry);
  assert.match(text, /hits_total 4\n/);
  assert.match(text, /\nopen 0\n/);
});

test("registry: an unknown family in a snapshot is an error", () => {
  const main = new Registry({ nowMs: () => 0, retainMs: 0 });
  const worker = open();
  worker.registry.acquire(worker.hits, NO_LABELS);
  assert.throws(() => main.merge(worker.registry.snapshot("w")), /unknown metric hits/);
});

test("eviction: a held series stays, a released one goes after its last count was exported", () => {
  const { registry, hits } = open();
  const slot = registry.acquire(hits, labelSet({ pod: "a" }, ["a"]));
  registry.add(slot, 1);
  registry.evict("a");
  assert.match(renderOpenMetrics(registry), /pod="a"\} 1/);
  assert.match(renderOpenMetrics(registry), /pod="a"\} 1/);
  registry.add(slot, 1);
  registry.release(slot);
  assert.match(renderOpenMetrics(registry), /pod="a"\} 2/);
  // This rendering saw the same value as the one before: the series may go.
  assert.match(renderOpenMetrics(registry), /pod="a"\} 2/);
  assert.equal(renderOpenMetrics(registry), "# EOF\n");
  assert.equal(registry.seriesCount, 0);
});

test("eviction: a rendered registry keeps the series for the time of retention", () => {
  const { registry, hits, clock } = open(300_000);
  const slot = registry.acquire(hits, labelSet({ pod: "a" }, ["a"]));
  registry.release(slot);
  registry.evict("a");
  for (let i = 0; i < 3; i++) assert.match(renderOpenMetrics(registry), /pod="a"/);
  clock.ms = 300_000;
  renderOpenMetrics(registry);
  assert.equal(registry.seriesCount, 0);
});

test("eviction: what is used again stays", () => {
  const { registry, hits } = open();
  registry.release(registry.acquire(hits, labelSet({ pod: "a" }, ["a"])));
  registry.evict("a");
  const slot = registry.acquire(hits, labelSet({ pod: "a" }, ["a"]));
  registry.release(slot);
  for (let i = 0; i < 3; i++) renderOpenMetrics(registry);
  assert.equal(registry.seriesCount, 1);
});

test("eviction: in a worker removes the series of the merged registry too, after its counts", () => {
  const main = open();
  const workers = [open(), open()];
  for (const [i, { registry, hits }] of workers.entries()) {
    const slot = registry.acquire(hits, labelSet({ pod: "a" }, ["a"]));
    registry.add(slot, 1);
    main.registry.merge(registry.snapshot(`w${i}`));
    registry.add(slot, 10);
    registry.release(slot);
  }
  workers[0].registry.evict("a");
  main.registry.merge(workers[0].registry.snapshot("w0"));
  assert.match(renderOpenMetrics(main.registry), /pod="a"\} 12/);
  workers[1].registry.evict("a");
  main.registry.merge(workers[1].registry.snapshot("w1"));
  assert.equal(workers[1].registry.seriesCount, 0);
  assert.match(renderOpenMetrics(main.registry), /pod="a"\} 22/);
  renderOpenMetrics(main.registry);
  assert.equal(renderOpenMetrics(main.registry), "# EOF\n");
  // The slot is free and clean for the next series.
  const { registry, hits } = workers[1];
  registry.add(registry.acquire(hits, labelSet({ pod: "b" })), 7);
  main.registry.merge(registry.snapshot("w1"));
  assert.match(renderOpenMetrics(main.registry), /pod="b"\} 7/);
});

test("registry: under any order of use, eviction, snapshots and deaths no count is lost or doubled", () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant("use" as const),
      worker: fc.integer({ min: 0, max: 2 }),
      pod: fc.integer({ min: 0, max: 3 }),
      n: fc.integer({ min: 1, max: 9 }),
    }),
    fc.record({
      kind: fc.constant("evict" as const),
      worker: fc.integer({ min: 0, max: 2 }),
      pod: fc.integer({ min: 0, max: 3 }),
    }),
    fc.record({ kind: fc.constant("merge" as const), worker: fc.integer({ min: 0, max: 2 }) }),
    fc.record({ kind: fc.constant("render" as const) }),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const main = open();
    const workers = [open(), open(), open()];
    let total = 0;
    let seen = 0;
    const last = new Map<string, number>();
    const scrape = () => {
      const now = new Map<string, number>();
      for (const [, labels, value] of renderOpenMetrics(main.registry).matchAll(/hits_total\{(.*?)\} ([0-9]+)/g)) {
        now.set(labels, Number(value));
      }
      // As Prometheus does: an increase, or from zero after a reset.
      for (const [labels, value] of now) {
        const before = last.get(labels) ?? 0;
        seen += value >= before ? value - before : value;
      }
      last.clear();
      for (const [labels, value] of now) last.set(labels, value);
    };
    for (const s of steps) {
      if (s.kind === "render") scrape();
      else {
        const { registry, hits } = workers[s.worker];
        if (s.kind === "use") {
          const slot = registry.acquire(hits, labelSet({ pod: String(s.pod) }, [String(s.pod)]));
          registry.add(slot, s.n);
          registry.release(slot);
          total += s.n;
        } else if (s.kind === "evict") registry.evict(String(s.pod));
        else main.registry.merge(registry.snapshot(`w${s.worker}`));
      }
    }
    for (const [i, { registry }] of workers.entries()) main.registry.merge(registry.snapshot(`w${i}`));
    scrape();
    assert.equal(seen, total);
  }));
});
