import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { createKubeClient, type KubeClient } from "../../../src/control/kube/client.ts";
import { type Informer, type InformerQuery, startInformer } from "../../../src/control/kube/informer.ts";
import { METADATA_ONLY } from "../../../src/control/kube/list.ts";
import type { KubeObject } from "../../../src/control/kube/types.ts";
import { VirtualTime } from "../../ztunnel/virtual_time.ts";
import { ApiServer, type Handler, sendJson, sendStatus } from "./api_server.ts";
import { until } from "./until.ts";

const PODS = "/api/v1/pods";

let api: ApiServer;
let bench: Bench;

let benches = 0;
/** The newest bench. */
let current = "";

/** An informer in virtual time, and what it told. */
class Bench {
  /** Of its pauses. */
  readonly time = new VirtualTime();
  /** Of the client's limits. */
  readonly wire = new VirtualTime();
  readonly client: KubeClient;
  readonly told: string[] = [];
  readonly problems: string[] = [];
  /** What the events say is there. */
  readonly known = new Map<string, string>();
  random = 0;
  /** What the client calls itself: a request of the test before may arrive late. */
  readonly agent = `bench-${++benches}`;
  informer!: Informer<KubeObject>;
  onAdded: (object: KubeObject) => void = () => {};

  constructor(readonly server: ApiServer) {
    current = this.agent;
    this.client = createKubeClient({
      userAgent: this.agent,
      server: server.url,
      ca: server.ca,
      token: () => "t",
      schedule: this.wire.schedule,
    });
  }

  start(query: InformerQuery = {}): this {
    const version = ({ metadata }: KubeObject) => `${metadata.uid}@${metadata.resourceVersion}`;
    const name = ({ metadata }: KubeObject) => metadata.name ?? "";
    this.informer = startInformer<KubeObject>(this.client, PODS, query, {
      added: (object) => {
        assert.ok(!this.known.has(name(object)), "added once");
        this.known.set(name(object), version(object));
        this.told.push(`+${name(object)}`);
        this.onAdded(object);
      },
      updated: (before, after) => {
        assert.equal(this.known.get(name(after)), version(before), "updated from what was told");
        assert.equal(before.metadata.uid, after.metadata.uid);
        this.known.set(name(after), version(after));
        this.told.push(`~${name(after)}`);
      },
      deleted: (last) => {
        assert.equal(this.known.get(name(last))?.split("@")[0], last.metadata.uid, "what was there is deleted");
        this.known.delete(name(last));
        this.told.push(`-${name(last)}`);
      },
      synced: () => this.told.push("synced"),
      problem: (text) => this.problems.push(text),
    }, { schedule: this.time.schedule, nowMs: () => this.time.nowMs, random: () => this.random });
    return this;
  }

  /** It follows the server, by its `count`th watch. */
  async watching(count = 1): Promise<void> {
    await until(() => watches().length === count && this.server.watchCount === 1, `watch ${count}`);
  }

  /** What was told since the last time. */
  take(): string[] {
    return this.told.splice(0);
  }

  async tells(...expected: string[]): Promise<void> {
    await until(() => this.told.length >= expected.length, expected.join(" "));
    assert.deepEqual(this.take(), expected);
  }

  /** Milliseconds of the back-off that began with the next problem. */
  async backoff(count: number): Promise<number> {
    await until(() => this.problems.length >= count, `problem ${count}`);
    await until(() => this.time.pending === 1, "it waits");
    return this.time.nextInMs();
  }

  stop(): void {
    this.informer.stop();
    this.client.close();
  }
}

before(async () => {
  api = await ApiServer.start();
});

after(() => api.stop());

beforeEach(async () => {
  await api.reset();
  bench = new Bench(api);
});

afterEach(() => bench.stop());

const failing: Handler = (_, response) => sendStatus(response, 500, "InternalError", "etcd is away");
const own = () => api.requests.filter(({ headers }) => headers["user-agent"] === current);
const watches = () => own().filter(({ query }) => query.has("watch"));
const lists = () => own().filter(({ query }) => !query.has("watch"));

describe("informer: list and watch", () => {
  test("lists in pages, says that it is complete, then follows", async () => {
    for (let i = 0; i < 1_201; i++) api.put(`p${i}`);
    bench.start({ fieldSelector: "spec.nodeName=n" });
    await bench.informer.synced;
    assert.equal(bench.take().length, 1_202);
    assert.equal(bench.informer.list().length, 1_201);
    assert.equal(lists().length, 3);
    assert.deepEqual(lists().map(({ query }) => query.get("resourceVersion")), ["0", null, null]);
    for (const { query } of api.requests) assert.equal(query.get("fieldSelector"), "spec.nodeName=n");
    await bench.watching();
    assert.equal(watches()[0].query.get("resourceVersion"), api.version);
    assert.equal(watches()[0].query.get("allowWatchBookmarks"), "true");
    api.put("p7", { a: 1 });
    api.put("new");
    api.remove("p7");
    await bench.tells("~p7", "+new", "-p7");
    assert.equal(bench.informer.get("default/new")?.metadata.uid, "uid-new");
    assert.equal(bench.informer.get("default/p7"), undefined);
    assert.deepEqual(bench.problems, []);
  });

  test("who changed which field is not kept", async () => {
    api.faults.push((_, response) =>
      sendJson(response, 200, {
        metadata: { resourceVersion: "1" },
        items: [{ metadata: { name: "a", resourceVersion: "1", managedFields: [{}] } }],
      })
    );
    bench.start();
    await bench.informer.synced;
    assert.deepEqual(bench.informer.get("a")?.metadata, { name: "a", resourceVersion: "1" });
  });

  test("can ask for metadata only", async () => {
    bench.start({ accept: METADATA_ONLY });
    await bench.watching();
    assert.match(String(lists()[0].headers.accept), /as=PartialObjectMetadataList;/);
    assert.match(String(watches()[0].headers.accept), /as=PartialObjectMetadata;/);
  });

  test("an object made again under its name is deleted first, whoever saw it", async () => {
    api.put("a", {}, "one");
    bench.start();
    await bench.tells("+a", "synced");
    await bench.watching();
    api.put("a", {}, "two");
    await bench.tells("-a", "+a");
    api.cutWatches();
    await bench.backoff(1);
    api.put("a", {}, "three");
    api.compact();
    bench.time.advanceToNext();
    await until(() => bench.problems.length === 2, "the place is forgotten");
    bench.time.advanceToNext();
    await bench.tells("-a", "+a");
  });
});

describe("informer: a watch that ends", () => {
  beforeEach(async () => {
    api.put("a");
    bench.start();
    await bench.tells("+a", "synced");
    await bench.watching();
  });

  test("cut in the middle of a line: goes on behind the last whole one, without a list", async () => {
    api.put("b");
    await bench.tells("+b");
    const place = api.version;
    api.sendToWatches('{"type":"ADDED","object":{"metadata":{"na');
    await new Promise<void>((resolve) => setTimeout(resolve, 5));
    api.cutWatches();
    assert.ok(await bench.backoff(1) >= 500);
    assert.match(bench.problems[0], /the watch of \/api\/v1\/pods broke: .*; trying again in 0\.5 s/);
    api.put("c");
    bench.time.advanceToNext();
    await bench.tells("+c");
    assert.equal(watches().at(-1)?.query.get("resourceVersion"), place);
    assert.equal(lists().length, 1);
  });

  test("ended in the middle of a line, as by a proxy: the same", async () => {
    api.sendToWatches('{"type":"ADDED"');
    await new Promise<void>((resolve) => setTimeout(resolve, 5));
    api.endWatches();
    await bench.backoff(1);
    assert.match(bench.problems[0], /middle of a line/);
    bench.time.advanceToNext();
    await bench.watching(2);
  });

  test("a bookmark moves the place", async () => {
    for (let i = 0; i < 3; i++) api.put("elsewhere");
    await bench.tells("+elsewhere", "~elsewhere", "~elsewhere");
    api.sendToWatches(`${JSON.stringify({ type: "BOOKMARK", object: { metadata: { resourceVersion: "4711" } } })}\n`);
    api.sendToWatches(
      `${JSON.stringify({ type: "DELETED", object: { metadata: { name: "unknown", resourceVersion: "4712" } } })}\n`,
    );
    await new Promise<void>((resolve) => setTimeout(resolve, 10));
    api.cutWatches();
    await bench.backoff(1);
    bench.time.advanceToNext();
    await until(() => watches().length === 2, "a second watch");
    assert.equal(watches()[1].query.get("resourceVersion"), "4712");
    assert.deepEqual(bench.take(), [], "nobody is told of the deletion of what nobody knew");
  });

  for (const how of ["status", "event"] as const) {
    test(`410 as ${how}: lists again and tells the difference`, async () => {
      api.put("b");
      await bench.tells("+b");
      api.cutWatches();
      await bench.backoff(1);
      api.put("a", { changed: true });
      api.remove("b");
      api.put("c");
      if (how === "status") api.compact();
      else {
        api.faults.push((_, response) => {
          const object = { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" };
          response.end(`${JSON.stringify({ type: "ERROR", object })}\n`);
        });
      }
      bench.time.advanceToNext();
      await bench.backoff(2);
      bench.time.advanceToNext();
      await bench.tells("-b", "~a", "+c");
      assert.deepEqual(Object.fromEntries(bench.known), api.state());
      assert.equal(lists()[1].query.get("resourceVersionMatch"), "NotOlderThan");
      await bench.watching(3);
    });
  }

  test("malformed, oversized, or not UTF-8: begun again from the same place", async () => {
    const bad = ["garbage\n", `${JSON.stringify({ type: "ADDED", object: {} })}\n`];
    for (const [index, text] of bad.entries()) {
      api.sendToWatches(text);
      await bench.backoff(index + 1);
      assert.match(bench.problems[index], /a line of the watch is/);
      bench.time.advanceToNext();
      await bench.watching(index + 2);
    }
    assert.equal(lists().length, 1);
    api.put("b");
    await bench.tells("+b");
  });

  test("that always breaks at one place: everything is listed again", async () => {
    for (let i = 1; i <= 4; i++) {
      api.sendToWatches("garbage\n");
      await bench.backoff(i);
      assert.equal(lists().length, 1);
      bench.time.advanceToNext();
      await bench.watching(i + 1);
    }
    assert.equal(lists().length, 2);
  });

  test("ended as asked after a while: the next begins at once", async () => {
    bench.time.advance(6_000);
    api.endWatches();
    await until(() => watches().length === 2, "the next watch");
    assert.deepEqual(bench.problems, []);
  });

  test("ended at once, again and again: with growing pauses", async () => {
    for (let i = 1; i <= 3; i++) {
      api.endWatches();
      const pause = await bench.backoff(i);
      assert.ok(pause >= 500 * 2 ** (i - 1), `pause ${i}: ${pause}`);
      bench.time.advanceToNext();
      await bench.watching(i + 1);
    }
  });

  test("silent beyond the time it was asked for: the peer is dead", async () => {
    const seconds = Number(watches()[0].query.get("timeoutSeconds"));
    assert.ok(seconds >= 240 && seconds <= 360);
    await until(() => bench.wire.nextInMs() === 45_000, "it watches for silence");
    bench.wire.advance(seconds * 1000 + 14_000);
    assert.equal(bench.problems.length, 0);
    bench.wire.advance(2_000);
    await bench.backoff(1);
    assert.match(bench.problems[0], /went silent/);
  });

  test("silent, where bookmarks came before: the peer is dead sooner", async () => {
    await until(() => bench.wire.pending === 2 && bench.wire.nextInMs() === 45_000, "it watches for silence");
    // The connection of the list is let go of.
    bench.wire.advance(60_000);
    api.bookmark();
    await until(() => bench.wire.nextInMs() === 150_000, "it watches for bookmarks");
    bench.wire.advance(150_000);
    await bench.backoff(1);
    assert.match(bench.problems[0], /went silent: nothing came within 150 s/);
    bench.time.advanceToNext();
    await bench.watching(2);
    await until(() => bench.wire.nextInMs() === 150_000, "also in the next watch");
  });
});

describe("informer: failures", () => {
  test("are told, and tried again after 0.5 s to 30 s for ever", async () => {
    for (const random of [0, 0.999]) {
      bench.random = random;
      for (let i = 0; i < 9; i++) api.faults.push(failing);
      bench.start();
      const pauses: number[] = [];
      for (let i = 1; i <= 9; i++) {
        pauses.push(await bench.backoff(i));
        bench.time.advanceToNext();
      }
      await bench.informer.synced;
      const upper = [1, 2, 4, 8, 16, 30, 30, 30, 30].map((seconds) => seconds * 1000);
      for (const [i, pause] of pauses.entries()) {
        assert.ok(pause >= upper[i] / 2 && pause <= upper[i], `${i}: ${pause}`);
        assert.ok(random === 0 ? pause === upper[i] / 2 : pause > upper[i] * 0.99, `jitter of ${pause}`);
      }
      assert.match(bench.problems[0], /cannot list \/api\/v1\/pods: GET .*etcd is away \(500\); trying again in/);
      bench.stop();
      await api.reset();
      bench = new Bench(api);
    }
    bench.start();
  });

  test("a server that asks for patience gets it", async () => {
    for (const seconds of ["40", "600"]) {
      api.faults.push((_, response) =>
        sendStatus(response, 429, "TooManyRequests", "busy", { "retry-after": seconds })
      );
    }
    bench.start();
    // The call itself is patient, as far as its time allows.
    await until(() => api.requests.length === 1 && bench.wire.nextInMs() === 40_000, "it waits");
    bench.wire.advance(40_000);
    await until(() => bench.time.pending === 1, "the call is given up");
    assert.equal(bench.time.nextInMs(), 60_000);
    bench.time.advanceToNext();
    await bench.informer.synced;
  });

  test("a list whose next page is forgotten begins anew, from what is true now", async () => {
    for (let i = 0; i < 600; i++) api.put(`p${i}`);
    api.faults.push((_, response) => {
      sendJson(response, 200, {
        metadata: { resourceVersion: "700", continue: "1/500" },
        items: [{ metadata: { name: "stale", resourceVersion: "1" } }],
      });
      api.compact();
    });
    bench.start();
    await bench.backoff(1);
    bench.time.advanceToNext();
    await bench.informer.synced;
    assert.equal(bench.informer.list().length, 600);
    assert.equal(lists()[2].query.get("resourceVersion"), null);
  });

  test("a server that is behind the one before is asked for what it has", async () => {
    bench.start();
    await bench.watching();
    api.faults.push(
      (_, response) => sendStatus(response, 410, "Expired", "too old"),
      (_, response) => sendStatus(response, 504, "Timeout", "Too large resource version: 9, current: 5"),
    );
    bench.time.advance(6_000);
    api.endWatches();
    await bench.backoff(1);
    bench.time.advanceToNext();
    await bench.backoff(2);
    bench.time.advanceToNext();
    await bench.watching(3);
    assert.equal(lists().at(-1)?.query.get("resourceVersion"), null);
  });

  test("lists that are none are refused", async () => {
    const bad = [
      { items: [] },
      { metadata: { resourceVersion: "1" }, items: [{}] },
      { metadata: { resourceVersion: 1 }, items: [] },
    ];
    for (const list of bad) api.faults.push((_, response) => sendJson(response, 200, list));
    bench.start();
    for (let i = 1; i <= bad.length; i++) {
      await bench.backoff(i);
      assert.match(bench.problems[i - 1], /is this an API server\?/);
      bench.time.advanceToNext();
    }
    await bench.informer.synced;
  });

  test("a handler that throws is told as a bug, and the others are still told", async () => {
    bench.onAdded = () => {
      throw new Error("oops");
    };
    api.put("a");
    api.put("b");
    bench.start();
    await bench.tells("+a", "+b", "synced");
    await until(() => bench.problems.length === 2, "both are told");
    assert.match(bench.problems[0], /bug in a handler of \/api\/v1\/pods: Error: oops/);
  });
});

describe("informer: stop", () => {
  test("leaves no connection, no timer, and tells nothing more", async () => {
    api.put("a");
    bench.start();
    await bench.watching();
    bench.take();
    bench.informer.stop();
    api.put("b");
    await until(() => api.watchCount === 0, "the watch is gone");
    bench.client.close();
    await until(() => api.sockets.size === 0, "the connections are gone");
    assert.deepEqual(bench.take(), []);
    assert.equal(bench.time.pending + bench.wire.pending, 0);
    assert.deepEqual(bench.problems, []);
  });

  test("before it was complete, or while it waits, it rejects who waits for it", async () => {
    api.faults.push(failing);
    bench.start();
    await bench.backoff(1);
    bench.informer.stop();
    await assert.rejects(bench.informer.synced, /was stopped/);
    assert.equal(bench.time.pending, 0);
  });

  test("within a handler, nothing follows", async () => {
    api.put("a");
    api.put("b");
    bench.onAdded = () => bench.informer.stop();
    bench.start();
    await assert.rejects(bench.informer.synced, /was stopped/);
    assert.deepEqual(bench.told, ["+a"]);
  });
});

describe("informer: any history", () => {
  const names = fc.constantFrom("a", "b", "c");
  const operation = fc.oneof(
    fc.record({ kind: fc.constant("put" as const), name: names, uid: fc.constantFrom("1", "2") }),
    fc.record({ kind: fc.constant("remove" as const), name: names }),
    fc.record({
      kind: fc.constantFrom(
        "cut" as const,
        "end" as const,
        "compact" as const,
        "bookmark" as const,
        "garbage" as const,
      ),
    }),
  );

  test("ends with what the server has, told in an order that makes sense", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 25 }), async (operations) => {
        await api.reset();
        const one = new Bench(api).start();
        try {
          await one.watching();
          for (const operation of operations) {
            if (operation.kind === "put") api.put(operation.name, {}, operation.uid);
            else if (operation.kind === "remove") api.remove(operation.name);
            else if (operation.kind === "cut") api.cutWatches();
            else if (operation.kind === "end") api.endWatches();
            else if (operation.kind === "compact") api.compact();
            else if (operation.kind === "bookmark") api.bookmark();
            else api.sendToWatches("garbage\n");
            if (operation.kind !== "put") await new Promise<void>((resolve) => setTimeout(resolve, 1));
          }
          const isSame = () =>
            JSON.stringify(Object.fromEntries([...one.known].sort())) === JSON.stringify(api.state());
          await until(() => {
            if (one.time.pending > 0) one.time.advanceToNext();
            return isSame() && api.watchCount === 1;
          }, JSON.stringify([...one.known, api.state()]));
        } finally {
          one.stop();
          await until(() => api.watchCount === 0, "the watch is gone");
        }
      }),
      { numRuns: 25 },
    );
    bench.start();
  });
});
