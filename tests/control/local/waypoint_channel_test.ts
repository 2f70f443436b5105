/** The channel to a waypoint, over a real unix socket: what it is told, in which order, and after which loss. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { encodeMessage } from "../../../src/control/local/channel_messages.ts";
import type { ChannelEvent } from "../../../src/control/local/channel_server.ts";
import { serveWaypoint, type WaypointChannel } from "../../../src/control/local/waypoint_channel.ts";
import {
  connectWaypointControl,
  type WaypointControl,
  type WaypointControlOptions,
} from "../../../src/control/local/waypoint_client.ts";
import type { CompiledResource } from "../../../src/control/local/waypoint/world.ts";

const PREFIX = "type.googleapis.com/";
const TYPES = {
  cluster: `${PREFIX}envoy.config.cluster.v3.Cluster`,
  endpoints: `${PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment`,
  listener: `${PREFIX}envoy.config.listener.v3.Listener`,
  workload: `${PREFIX}istio.workload.Workload`,
} as const;
const NAMES = new Map<string, string>(Object.entries(TYPES).map(([name, url]) => [url, name]));

function resource(type: keyof typeof TYPES, name: string, version = "1"): CompiledResource {
  return { typeUrl: TYPES[type], name, version, bytes: new TextEncoder().encode(`${name}@${version}`) };
}

const SHOP = [
  resource("workload", "w"),
  resource("listener", "main"),
  resource("endpoints", "e"),
  resource("cluster", "c"),
];

interface Setup {
  readonly path: string;
  readonly events: string[];
  serve(): Promise<WaypointChannel>;
  join(options?: Partial<WaypointControlOptions>): WaypointControl;
}

async function withChannel(body: (setup: Setup) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "ambit-waypoint-"));
  const path = join(directory, "waypoint.sock");
  const events: string[] = [];
  const undo: (() => void | Promise<void>)[] = [];
  try {
    await body({
      path,
      events,
      async serve() {
        const channel = await serveWaypoint({
          path,
          name: "shop/waypoint",
          sign: (identity, csr) => Promise.resolve({ chain: [`${identity} ${csr}`], roots: ["root"] }),
          onEvent: (event) => events.push(describe(event)),
        });
        undo.push(() => channel.close());
        return channel;
      },
      join(options) {
        const control = connectWaypointControl({
          path,
          name: "shop/waypoint",
          async apply({ typeUrl, resources, removed }) {
            const texts = resources.map((bytes) => new TextDecoder().decode(bytes));
            events.push([NAMES.get(typeUrl), ...texts, ...removed.map((name) => `-${name}`)].join(" "));
            return [];
          },
          onDisconnect: () => events.push("disconnected"),
          backoffMs: { first: 5, max: 20 },
          ...options,
        });
        undo.push(() => control.close());
        return control;
      },
    });
  } finally {
    for (const step of undo.reverse()) await step();
    await rm(directory, { recursive: true });
  }
}

function describe(event: ChannelEvent): string {
  switch (event.kind) {
    case "connected":
      return "connected";
    case "lost":
      return `lost: ${event.reason}`;
    case "refused":
      return `refused ${event.message}: ${event.error}`;
    case "unanswered":
      return `unanswered ${event.message}`;
  }
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    assert.ok(performance.now() < deadline, "took too long");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

test("waypoint channel: what is named comes before what names it, and every type comes first, even an empty one", async () => {
  await withChannel(async ({ events, serve, join }) => {
    const channel = await serve();
    assert.deepEqual(await channel.setResources([resource("listener", "main")]), { kind: "offline" });
    join().ready();
    await channel.ready;
    assert.deepEqual(events, ["connected", "cluster", "endpoints", "listener main@1", "workload"]);
    events.length = 0;
    assert.deepEqual(await channel.setResources(SHOP), { kind: "acknowledged" });
    assert.deepEqual(events, ["cluster c@1", "endpoints e@1", "workload w@1"]);
  });
});

test("waypoint channel: only what differs is told, and what is removed goes after what named it", async () => {
  await withChannel(async ({ events, serve, join }) => {
    const channel = await serve();
    await channel.setResources([...SHOP, resource("listener", "second")]);
    join().ready();
    await channel.ready;
    events.length = 0;
    assert.deepEqual(await channel.setResources([...SHOP, resource("listener", "second")]), { kind: "acknowledged" });
    assert.deepEqual(events, []);
    await channel.setResources([
      resource("cluster", "d"),
      resource("listener", "main", "2"),
      resource("workload", "v"),
    ]);
    assert.deepEqual(events, [
      "cluster d@1",
      "listener main@2",
      "workload v@1 -w",
      "listener -second",
      "cluster -c",
      "endpoints -e",
    ]);
  });
});

test("waypoint channel: it is ready when all is in force and it says so, not before", async () => {
  await withChannel(async ({ serve, join }) => {
    const channel = await serve();
    let ready = false;
    let release = () => {};
    void channel.ready.then(() => ready = true);
    const control = join({
      apply: () => new Promise((resolve) => release = () => resolve([])),
    });
    await new Promise((resolve) => setTimeout(resolve, 30));
    control.ready();
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.equal(ready, false);
    for (let i = 0; i < 4; i++) {
      release();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await channel.ready;
  });
});

test("waypoint channel: what it refuses comes back with its words, and it is not ready with it", async () => {
  await withChannel(async ({ events, serve, join }) => {
    const channel = await serve();
    await channel.setResources(SHOP);
    let refuses = true;
    join({
      apply: ({ typeUrl }) =>
        Promise.resolve(
          refuses && NAMES.get(typeUrl) === "listener" ? [{ name: "main", reason: "a filter nobody knows" }] : [],
        ),
    }).ready();
    let ready = false;
    void channel.ready.then(() => ready = true);
    await until(() => events.includes("refused resources: main: a filter nobody knows"));
    const refused = await channel.setResources([...SHOP.slice(1), resource("listener", "main", "3")]);
    assert.deepEqual(refused, { kind: "refused", error: "main: a filter nobody knows" });
    assert.equal(ready, false);
    refuses = false;
    assert.deepEqual(await channel.setResources([resource("listener", "main", "2")]), { kind: "acknowledged" });
    await channel.ready;
  });
});

test("waypoint channel: after a loss the same process is told all again, and what it must forget", async () => {
  await withChannel(async ({ path, events, serve, join }) => {
    const channel = await serve();
    await channel.setResources(SHOP);
    const control = join({ backoffMs: { first: 300, max: 300 } });
    control.ready();
    await channel.ready;
    // Somebody else says hello in its place, and breaks the protocol.
    events.length = 0;
    const intruder = connect(path);
    intruder.on("error", () => {});
    const hello = { type: "hello", role: "waypoint", name: "shop/waypoint", version: 2, pid: process.pid } as const;
    intruder.write(encodeMessage(hello));
    await until(() => events.includes("disconnected"));
    const told = channel.setResources([resource("cluster", "c"), resource("listener", "main", "2")]);
    intruder.destroy();
    await until(() => events.includes("endpoints -e"));
    assert.ok(["unanswered", "offline", "acknowledged"].includes((await told).kind));
    const again = events.slice(events.lastIndexOf("connected") + 1).filter((event) =>
      !/^(lost|unanswered)/.test(event)
    );
    assert.deepEqual(again, [
      "cluster c@1",
      "endpoints",
      "listener main@2",
      "workload -w",
      "endpoints -e",
    ]);
  });
});

test("waypoint channel: a certificate that is asked for before the connection waits for it", async () => {
  await withChannel(async ({ serve, join }) => {
    const control = join();
    const asked = control.requestCertificate("spiffe://a/ns/shop/sa/waypoint", "CSR");
    await serve();
    assert.deepEqual(await asked, { chain: ["spiffe://a/ns/shop/sa/waypoint CSR"], roots: ["root"] });
  });
});

test("waypoint channel: a ztunnel, and another waypoint, are not let in", async () => {
  await withChannel(async ({ path, events, serve }) => {
    await serve();
    const hello = { type: "hello", version: 2, pid: 1 } as const;
    for (
      const peer of [{ role: "ztunnel", name: "shop/waypoint" }, { role: "waypoint", name: "shop/other" }] as const
    ) {
      const socket = connect(path);
      socket.on("error", () => {});
      const closed = new Promise((resolve) => socket.on("close", resolve));
      socket.write(encodeMessage({ ...hello, ...peer }));
      socket.resume();
      await closed;
    }
    await until(() => events.length === 2);
    assert.match(events[0]!, /ztunnel "shop\/waypoint" on the channel of waypoint "shop\/waypoint"/);
    assert.match(events[1]!, /waypoint "shop\/other" on the channel of waypoint "shop\/waypoint"/);
  });
});
