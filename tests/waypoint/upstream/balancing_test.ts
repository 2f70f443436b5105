import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { hash53, xxhash64 } from "../../../src/waypoint/router/xxhash64.ts";
import { EdfSchedule } from "../../../src/waypoint/upstream/balancing/edf.ts";
import { buildMaglevTable, maglev } from "../../../src/waypoint/upstream/balancing/maglev.ts";
import { type PriorityHosts, priorityLoads, retryLoads } from "../../../src/waypoint/upstream/balancing/priorities.ts";
import { ringHash } from "../../../src/waypoint/upstream/balancing/ring_hash.ts";
import { leastRequest, roundRobin } from "../../../src/waypoint/upstream/balancing/simple.ts";
import type { Share } from "../../../src/waypoint/upstream/balancing/picker.ts";
import { Host } from "../../../src/waypoint/upstream/host.ts";
import type { Cluster } from "../../../src/waypoint/upstream/upstream.ts";
import { endpoint, endpoints, hbone, locality, PICK, TestUpstream } from "./support.ts";

const OWNER = {} as Cluster;

function host(id: string, weight = 1): Host {
  return new Host(OWNER, endpoint(id, { weight }), 0);
}

function hosts(count: number): Host[] {
  return Array.from({ length: count }, (_, i) => host(`10.0.0.${i + 1}:80`));
}

function shares(list: readonly Host[]): Share[] {
  const total = list.reduce((sum, { weight }) => sum + weight, 0);
  return list.map((host) => ({ host, weight: host.weight / total }));
}

const byId = ({ endpoint }: Host): string => endpoint.id;

function draw(seed = 1): () => number {
  let state = seed;
  return () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
}

function tally(picks: number, pick: (i: number) => Host | undefined): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i < picks; i++) {
    const id = pick(i)?.endpoint.id ?? "none";
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}

describe("edf", () => {
  test("edf: each item comes up by its weight, spread evenly", () => {
    const items = [{ name: "a", weight: 5 }, { name: "b", weight: 1 }, { name: "c", weight: 2 }];
    const schedule = new EdfSchedule(items, ({ weight }) => weight, draw());
    const order = Array.from({ length: 800 }, () => schedule.next()?.name ?? "");
    assert.deepEqual(["a", "b", "c"].map((name) => order.filter((each) => each === name).length), [500, 100, 200]);
    // No run of the heavy one is longer than its share asks for.
    assert.ok(!order.join("").includes("aaaaa"), "five of the heaviest in a row");
  });

  test("edf: a weight that changes counts from the next time on", () => {
    let weight = 1;
    const schedule = new EdfSchedule(["a", "b"], (item) => item === "a" ? weight : 1, draw());
    for (let i = 0; i < 20; i++) schedule.next();
    weight = 3;
    const order = Array.from({ length: 400 }, () => schedule.next());
    const ofA = order.filter((item) => item === "a").length;
    assert.ok(Math.abs(ofA - 300) <= 3, `${ofA} of 400`);
  });
});

describe("simple", () => {
  const context = { random: draw(), nowMs: () => 1_000_000 };

  test("round robin: everybody in turn, by weight where weights differ", () => {
    const alike = roundRobin(hosts(3), undefined, context);
    const first = Array.from({ length: 3 }, () => alike.pick(0, 0)?.endpoint.id);
    assert.equal(new Set(first).size, 3);
    assert.deepEqual(Array.from({ length: 3 }, () => alike.pick(0, 0)?.endpoint.id), first);
    const weighted = roundRobin([host("a:1", 1), host("b:1", 3)], undefined, context);
    assert.deepEqual(tally(400, () => weighted.pick(0, 0)), new Map([["b:1", 300], ["a:1", 100]]));
  });

  test("least request: the less busy of two, never the busiest of all", () => {
    const list = hosts(3);
    list[0].rqActive = 10;
    const picker = leastRequest(list, 64, undefined, context);
    const counts = tally(300, () => picker.pick(0, 0));
    assert.equal(counts.get("10.0.0.1:80"), undefined);
    const two = tally(3000, () => leastRequest(list, 2, undefined, context).pick(0, 0));
    // Chosen only when drawn twice: one in nine.
    assert.ok(Math.abs((two.get("10.0.0.1:80") ?? 0) - 333) < 80, String(two.get("10.0.0.1:80")));
  });

  test("least request: with weights, weight over what is under way", () => {
    const [heavy, light] = [host("a:1", 4), host("b:1", 1)];
    const picker = leastRequest([heavy, light], 2, undefined, context);
    const idle = tally(500, () => picker.pick(0, 0));
    assert.ok(Math.abs((idle.get("a:1") ?? 0) - 400) <= 2);
    heavy.rqActive = 3;
    picker.pick(0, 0);
    picker.pick(0, 0);
    const busy = tally(500, () => picker.pick(0, 0));
    assert.ok(Math.abs((busy.get("a:1") ?? 0) - 250) <= 5, String(busy.get("a:1")));
  });

  test("slow start: a new host gets more as it grows older, and its share in the end", () => {
    let nowMs = 100_000;
    const [old, fresh] = [new Host(OWNER, endpoint("a:1"), 0), new Host(OWNER, endpoint("b:1"), 100_000)];
    const slowStart = { windowMs: 10_000, aggression: 1, minWeightPercent: 10 };
    const share = (): number => {
      const picker = roundRobin([old, fresh], slowStart, { random: draw(), nowMs: () => nowMs });
      return (tally(1100, () => picker.pick(0, 0)).get("b:1") ?? 0) / 1100;
    };
    assert.ok(Math.abs(share() - 0.1 / 1.1) < 0.01, `at its start ${share()}`);
    nowMs += 5_000;
    assert.ok(Math.abs(share() - 0.5 / 1.5) < 0.01, `half way ${share()}`);
    nowMs += 5_001;
    assert.ok(Math.abs(share() - 0.5) < 0.01, `in the end ${share()}`);
  });
});

describe("ring hash", () => {
  test("ring hash: places are at the hashes of address and number, and a request goes to the first one behind", () => {
    const list = hosts(3);
    const picker = ringHash(shares(list), 6, 1000, byId);
    const places = list.flatMap(({ endpoint: { id } }) => [0, 1].map((i) => ({ at: hash53(`${id}_${i}`), id })));
    places.sort((a, b) => a.at - b.at);
    for (let i = 0; i < 500; i++) {
      const hash = hash53(`request ${i}`);
      const expected = places.find(({ at }) => at >= hash) ?? places[0];
      assert.equal(picker.pick(hash, 0)?.endpoint.id, expected.id);
    }
  });

  test("ring hash: only requests of a host that leaves move", () => {
    const list = hosts(10);
    const whole = ringHash(shares(list), 1024, 8192, byId);
    const left = ringHash(shares(list.slice(0, 9)), 1024, 8192, byId);
    let moved = 0;
    for (let i = 0; i < 5000; i++) {
      const hash = hash53(`user-${i}`);
      const before = whole.pick(hash, 0), after = left.pick(hash, 0);
      if (before === after) continue;
      // Ring sizes differ a little, as Envoy's do: places that one host more or less adds.
      if (before !== list[9]) moved++;
    }
    assert.ok(moved < 5000 * 0.12, `${moved} others moved`);
  });

  test("ring hash: with the same number of places a host that leaves moves its own requests alone", () => {
    const list = hosts(8);
    // 8 hosts of 64 places, then 7 of 64.
    const whole = ringHash(shares(list), 512, 512, byId);
    const left = ringHash(shares(list.slice(0, 7)), 448, 448, byId);
    for (let i = 0; i < 3000; i++) {
      const hash = hash53(`user-${i}`);
      const before = whole.pick(hash, 0);
      if (before !== list[7]) assert.equal(left.pick(hash, 0), before);
    }
  });

  test("ring hash: weights are places", () => {
    const list = [host("a:1", 1), host("b:1", 4)];
    const picker = ringHash(shares(list), 2000, 8000, byId);
    const counts = tally(20_000, (i) => picker.pick(hash53(`key ${i}`), 0));
    const ofB = (counts.get("b:1") ?? 0) / 20_000;
    assert.ok(Math.abs(ofB - 0.8) < 0.05, String(ofB));
  });
});

describe("maglev", () => {
  test("maglev: each slot is whose turn and permutation it is (listing 1 of the paper)", () => {
    const list = hosts(3);
    const size = 13;
    const { table, hosts: order } = buildMaglevTable(shares(list), size, byId);
    // The paper's procedure, step by step.
    const sorted = [...list].sort((a, b) => byId(a) < byId(b) ? -1 : 1);
    const permutations = sorted.map((each) => {
      const offset = Number(xxhash64(byId(each)) % 13n);
      const skip = Number(xxhash64(byId(each), 1n) % 12n) + 1;
      return Array.from({ length: size }, (_, j) => (offset + j * skip) % size);
    });
    const expected = new Array<number>(size).fill(-1);
    for (let filled = 0; filled < size;) {
      for (let i = 0; i < 3 && filled < size; i++) {
        const slot = permutations[i].find((at) => expected[at] === -1) as number;
        expected[slot] = i;
        filled++;
      }
    }
    assert.deepEqual([...table], expected);
    assert.deepEqual(order, sorted);
  });

  test("maglev: hosts share the table evenly, and by weight", () => {
    const { table } = buildMaglevTable(shares(hosts(7)), 65_537, byId);
    const counts = new Array<number>(7).fill(0);
    for (const owner of table) counts[owner]++;
    assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, counts.join());
    const weighted = buildMaglevTable(shares([host("a:1", 1), host("b:1", 3)]), 65_537, byId);
    const ofA = weighted.table.filter((owner) => weighted.hosts[owner].endpoint.id === "a:1").length;
    assert.ok(Math.abs(ofA / 65_537 - 0.25) < 0.001, String(ofA));
  });

  test("maglev: few requests of other hosts move when one leaves", () => {
    const list = hosts(10);
    const whole = maglev(shares(list), 65_537, byId);
    const left = maglev(shares(list.slice(0, 9)), 65_537, byId);
    let moved = 0;
    for (let i = 0; i < 5000; i++) {
      const hash = hash53(`user-${i}`);
      const before = whole.pick(hash, 0);
      if (before !== list[9] && left.pick(hash, 0) !== before) moved++;
    }
    assert.ok(moved < 5000 * 0.06, `${moved} moved`);
  });
});

describe("priorities", () => {
  const level = (healthy: number, total: number, degraded = 0): PriorityHosts => {
    const all = hosts(total);
    return { all, healthy: all.slice(0, healthy), degraded: all.slice(healthy, healthy + degraded), localities: [] };
  };

  /** From Envoy's documentation of priority levels: healthy hosts of P0 and P1, in per cent, and the loads that follow. */
  const DOCUMENTED: readonly (readonly [p0: number, p1: number, loads: readonly number[]])[] = [
    [100, 100, [100, 0]],
    [72, 72, [100, 0]],
    [71, 71, [99, 1]],
    [50, 50, [70, 30]],
    [25, 100, [35, 65]],
    [25, 25, [50, 50]],
    [0, 100, [0, 100]],
  ];
  for (const [p0, p1, expected] of DOCUMENTED) {
    test(`priorities: ${p0} % and ${p1} % healthy are loaded ${expected.join(" and ")}`, () => {
      assert.deepEqual(priorityLoads([level(p0, 100), level(p1, 100)], 140, 0).healthy, expected);
    });
  }

  test("priorities: panic below the threshold, and never while others have room", () => {
    const loads = priorityLoads([level(25, 100), level(25, 100)], 140, 50);
    assert.deepEqual(loads.panic, [true, true]);
    assert.deepEqual(loads.healthy, [50, 50]);
    assert.deepEqual(priorityLoads([level(25, 100), level(100, 100)], 140, 50).panic, [false, false]);
    assert.deepEqual(priorityLoads([level(0, 10)], 140, 50), { healthy: [100], degraded: [0], panic: [true] });
    assert.deepEqual(priorityLoads([level(0, 10)], 140, 0).panic, [false]);
  });

  test("priorities: what the healthy cannot take goes to the degraded", () => {
    const loads = priorityLoads([level(20, 100, 40), level(20, 100)], 140, 0);
    assert.equal([...loads.healthy, ...loads.degraded].reduce((sum, load) => sum + load, 0), 100);
    assert.deepEqual(loads.healthy, [28, 28]);
    assert.deepEqual(loads.degraded, [44, 0]);
  });

  test("priorities: another try leaves the tried priority out, unless there is no other", () => {
    const levels = [level(10, 10), level(10, 10)];
    assert.deepEqual(retryLoads(levels, 140, (priority) => priority === 0)?.healthy, [0, 100]);
    assert.equal(retryLoads(levels, 140, () => true), undefined);
  });
});

describe("balancer", () => {
  const pickMany = (upstream: TestUpstream, count: number, pick = {}): Map<string, number> => {
    upstream.dialer.onDial = (dial) => dial.fail();
    const cluster = upstream.clusters.get("c" as never)!;
    return tally(count, () => upstream.request(cluster, pick).failedHost as Host | undefined);
  };

  test("balancer: the next priority gets requests when hosts of the first are unwell, in Envoy's measure", () => {
    const upstream = new TestUpstream();
    const list = (from: number, unhealthy: number) =>
      Array.from(
        { length: 10 },
        (_, i) => endpoint(`10.0.${from}.${i}:80`, { health: i < unhealthy ? "unhealthy" : "healthy" }),
      );
    upstream.cluster({}, {
      name: "c",
      overprovisioning: 140,
      localities: [locality(list(0, 5)), locality(list(1, 0), { priority: 1 })],
    });
    const counts = pickMany(upstream, 4000);
    const first = [...counts].filter(([id]) => id.startsWith("10.0.0")).reduce((sum, [, count]) => sum + count, 0);
    assert.ok(Math.abs(first / 4000 - 0.7) < 0.04, String(first));
    assert.ok(![...counts.keys()].some((id) => /^10\.0\.0\.[0-4]:/.test(id)), "an unhealthy host was chosen");
  });

  test("balancer: localities share by weight, less where hosts are missing", () => {
    const upstream = new TestUpstream();
    const spec = {
      balancing: {
        policy: { kind: "round robin", slowStart: undefined },
        panicPercent: 0,
        localityWeighted: true,
      },
    } as const;
    upstream.cluster(spec, {
      name: "c",
      overprovisioning: 140,
      localities: [
        locality([endpoint("10.0.0.1:80")], { weight: 80 }),
        locality([endpoint("10.0.1.1:80"), endpoint("10.0.1.2:80")], { weight: 20, region: "s" }),
      ],
    });
    const counts = pickMany(upstream, 1000);
    assert.ok(Math.abs((counts.get("10.0.0.1:80") ?? 0) - 800) <= 2, JSON.stringify([...counts]));
    // One of two is gone: 70 % of its weight.
    upstream.cluster(spec, {
      name: "c",
      overprovisioning: 140,
      localities: [
        locality([endpoint("10.0.0.1:80")], { weight: 80 }),
        locality([endpoint("10.0.1.1:80"), endpoint("10.0.1.2:80", { health: "unhealthy" })], { weight: 20 }),
      ],
    });
    const later = pickMany(upstream, 1000);
    assert.ok(Math.abs((later.get("10.0.1.1:80") ?? 0) - 149) <= 3, JSON.stringify([...later]));
  });

  test("balancer: an unhealthy cluster without panic refuses, with panic uses everybody", () => {
    const upstream = new TestUpstream();
    const sick = [endpoint("10.0.0.1:80", { health: "unhealthy" }), endpoint("10.0.0.2:80", { health: "draining" })];
    const cluster = upstream.cluster({}, sick);
    assert.equal(upstream.request(cluster).failure?.flag, "UH");
    const { balancing } = cluster.spec;
    upstream.cluster({ balancing: { ...balancing, panicPercent: 50 } });
    assert.deepEqual([...pickMany(upstream, 50).keys()].sort(), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert.ok(cluster.counters.lb_healthy_panic > 0);
  });

  test("balancer: avoids hosts that were tried, as long as it draws another one in its attempts", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster({}, [endpoint("10.0.0.1:80"), endpoint("10.0.0.2:80")]);
    const [one] = [...cluster.hosts.all()];
    const counts = pickMany(upstream, 500, { tried: [one], avoidTried: true, hostAttempts: 30 });
    assert.deepEqual([...counts.keys()], ["10.0.0.2:80"]);
    assert.equal(pickMany(upstream, 500, { tried: [one], avoidTried: false }).size, 2);
  });

  test("balancer: after so many tries other priorities are preferred", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster({}, {
      name: "c",
      overprovisioning: 140,
      localities: [locality([endpoint("10.0.0.1:80")]), locality([endpoint("10.0.1.1:80")], { priority: 1 })],
    });
    const [first] = [...cluster.hosts.all()];
    assert.deepEqual([...pickMany(upstream, 20, { tried: [first], priorityUpdateFrequency: 2 }).keys()], [
      "10.0.0.1:80",
    ]);
    assert.deepEqual([...pickMany(upstream, 20, { tried: [first, first], priorityUpdateFrequency: 2 }).keys()], [
      "10.0.1.1:80",
    ]);
  });

  test("balancer: requests of one hash meet one host, whatever order endpoints come in and however they are tunnelled", () => {
    const policy = { kind: "maglev", tableSize: 65_537, hostnames: false } as const;
    const spec = { balancing: { policy, panicPercent: 0, localityWeighted: false } };
    const list = [1, 2, 3, 4, 5].map((i) => hbone(`10.0.0.${i}:8080`));
    const [one, two] = [new TestUpstream(), new TestUpstream()];
    one.cluster(spec, endpoints(list));
    two.cluster(spec, endpoints([...list].reverse()));
    for (let i = 0; i < 50; i++) {
      const pick = { ...PICK, hash: hash53(`user ${i}`) };
      const [a] = pickMany(one, 1, pick).keys();
      const [b] = pickMany(two, 1, pick).keys();
      assert.equal(a, b);
    }
  });
});
