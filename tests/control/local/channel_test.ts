/** Both ends of the channel, over a real unix socket. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { encodeMessage, type LocalPod, type MeshSnapshot } from "../../../src/control/local/channel_messages.ts";
import type { ChannelEvent } from "../../../src/control/local/channel_server.ts";
import { type NodeChannel, type NodeChannelOptions, serveNode } from "../../../src/control/local/node_channel.ts";
import {
  connectLocalControl,
  type LocalControl,
  type LocalControlOptions,
} from "../../../src/control/local/node_client.ts";

const POD: LocalPod = {
  uid: "Kubernetes//Pod/bookstore/reviews",
  netns: "/proc/1/ns/net",
  name: "reviews",
  namespace: "bookstore",
  serviceAccount: "reviews",
};

function mesh(...uids: string[]): MeshSnapshot {
  return { workloads: uids.map((uid) => ({ uid, name: uid, namespace: "test" })), services: [], policies: [] };
}

/** Events in the order they came; `until` waits for one. */
class Recorder {
  readonly seen: string[] = [];
  #waiting: (() => void)[] = [];

  add(event: string): void {
    this.seen.push(event);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async until(event: string, from = 0): Promise<void> {
    while (!this.seen.slice(from).includes(event)) await this.change();
  }
}

interface Setup {
  readonly path: string;
  readonly events: Recorder;
  serve(options?: Partial<NodeChannelOptions>): Promise<NodeChannel>;
  join(options?: Partial<LocalControlOptions>): LocalControl;
  dial(): Socket;
}

async function withChannel(body: (setup: Setup) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "ambit-channel-"));
  const path = join(directory, "node-a.sock");
  const events = new Recorder();
  const undo: (() => void | Promise<void>)[] = [];
  const setup: Setup = {
    path,
    events,
    async serve(options) {
      const channel = await serveNode({
        path,
        node: "node-a",
        sign: (identity, csr) => Promise.resolve({ chain: [`${identity} ${csr}`], roots: ["root"] }),
        onEvent: (event) => events.add(describe(event)),
        ...options,
      });
      undo.push(() => channel.close());
      return channel;
    },
    join(options) {
      const control = connectLocalControl({
        path,
        node: "node-a",
        onMesh: (resources) => events.add(`mesh ${resources.workloads.map((workload) => workload.uid).join()}`),
        onPodAdd: (pod) => events.add(`add ${pod.name}`),
        onPodDel: (uid) => events.add(`del ${uid}`),
        onPodsDone: () => events.add("done"),
        onDisconnect: () => events.add("disconnected"),
        backoffMs: { first: 5, max: 20 },
        ...options,
      });
      undo.push(() => control.close());
      return control;
    },
    dial() {
      const socket = connect(path);
      socket.on("error", () => {});
      undo.push(() => void socket.destroy());
      return socket;
    },
  };
  try {
    await body(setup);
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

test("channel: a ztunnel is told mesh, pods and the end of the snapshot, then every change, in order", async () => {
  await withChannel(async ({ events, serve, join }) => {
    const channel = await serve();
    assert.deepEqual(await channel.setMesh(mesh("one")), { kind: "offline" });
    await channel.addPod(POD);
    join();
    await channel.ready;
    assert.deepEqual(await channel.setMesh(mesh("two")), { kind: "acknowledged" });
    assert.deepEqual(await channel.removePod(POD.uid), { kind: "acknowledged" });
    assert.deepEqual(events.seen, [
      "connected",
      "mesh one",
      "add reviews",
      "done",
      "mesh two",
      `del ${POD.uid}`,
    ]);
  });
});

test("channel: the next message waits until the one before is handled", async () => {
  await withChannel(async ({ events, serve, join }) => {
    let release = () => {};
    const channel = await serve();
    await channel.addPod(POD);
    join({
      onMesh: () => {
        events.add("mesh begins");
        return new Promise((resolve) => release = resolve);
      },
    });
    await events.until("mesh begins");
    assert.ok(!events.seen.includes("add reviews"));
    release();
    await channel.ready;
    assert.deepEqual(events.seen.slice(1), ["mesh begins", "add reviews", "done"]);
  });
});

test("channel: what the ztunnel refuses comes back with its words", async () => {
  await withChannel(async ({ events, serve, join }) => {
    const channel = await serve();
    join({
      onMesh: (resources) => {
        if (resources.workloads.length > 0) throw new Error("no such thing");
      },
    });
    await channel.ready;
    assert.deepEqual(await channel.setMesh(mesh("bad")), { kind: "refused", error: "no such thing" });
    assert.ok(events.seen.includes("refused mesh: no such thing"));
    assert.deepEqual(await channel.setMesh(mesh()), { kind: "acknowledged" });
    const unreadable = await channel.setMesh({ ...mesh(), services: [{ nonsense: true }] });
    assert.match(unreadable.kind === "refused" ? unreadable.error : "", /the mesh cannot be read: services\.0/);
  });
});

test("channel: a ztunnel that does not answer in time is reported, and the channel lives on", async () => {
  await withChannel(async ({ events, serve, join }) => {
    let hang = true;
    const channel = await serve({ ackTimeoutMs: 20 });
    join({ onPodAdd: () => hang ? new Promise(() => {}) : undefined });
    await channel.ready;
    assert.deepEqual(await channel.addPod(POD), { kind: "unanswered" });
    assert.ok(events.seen.includes("unanswered pod_add"));
    hang = false;
  });
});

test("channel: after a loss the client comes back and is told everything again", async () => {
  await withChannel(async ({ events, serve, join }) => {
    const first = await serve();
    await first.setMesh(mesh("one"));
    join();
    await first.ready;
    await first.close();
    await events.until("disconnected");

    const mark = events.seen.length;
    const second = await serve();
    await second.setMesh(mesh("two"));
    await second.addPod(POD);
    await second.ready;
    assert.deepEqual(events.seen.slice(mark).filter((event) => event !== "disconnected"), [
      "connected",
      "mesh two",
      "add reviews",
      "done",
    ]);
  });
});

test("channel: certificates are asked and answered while a mesh message is being handled", async () => {
  await withChannel(async ({ serve, join }) => {
    const channel = await serve();
    const control: LocalControl = join({
      onMesh: async () => {
        const { chain, roots } = await control.requestCertificate("spiffe://a/ns/b/sa/c", "CSR");
        assert.deepEqual(chain, ["spiffe://a/ns/b/sa/c CSR"]);
        assert.deepEqual(roots, ["root"]);
      },
    });
    await channel.ready;
    assert.deepEqual(await channel.setMesh(mesh()), { kind: "acknowledged" });
  });
});

test("channel: a refused certificate, and one that is pending when the channel goes, reject", async () => {
  await withChannel(async ({ serve, join }) => {
    let asked = () => {};
    const pending = new Promise<void>((resolve) => asked = resolve);
    const channel = await serve({
      sign: (identity) => {
        if (identity === "refuse") return Promise.reject(new Error("not on this node"));
        asked();
        return new Promise(() => {});
      },
    });
    const control = join();
    await assert.rejects(control.requestCertificate("early", "CSR"), /not connected/);
    await channel.ready;
    await assert.rejects(control.requestCertificate("refuse", "CSR"), /not on this node/);
    const lost = assert.rejects(control.requestCertificate("hang", "CSR"), /channel was lost/);
    await pending;
    await channel.close();
    await lost;
  });
});

test("channel: a certificate that never comes rejects after the timeout", async () => {
  await withChannel(async ({ serve, join }) => {
    const channel = await serve({ sign: () => new Promise(() => {}) });
    const control = join({ requestTimeoutMs: 20 });
    await channel.ready;
    await assert.rejects(control.requestCertificate("hang", "CSR"), /did not sign hang within 20 ms/);
  });
});

test("channel: more requests than the limit at once are turned away, not queued", async () => {
  await withChannel(async ({ serve, join }) => {
    const channel = await serve({ sign: () => new Promise(() => {}) });
    const control = join();
    await channel.ready;
    const hanging = Array.from({ length: 64 }, () => control.requestCertificate("hang", "CSR").catch(() => {}));
    await assert.rejects(control.requestCertificate("one too many", "CSR"), /more than 64 requests at once/);
    control.close();
    await Promise.all(hanging);
  });
});

test("channel: a peer that breaks the protocol is cut off with a reason, and others are still served", async () => {
  await withChannel(async ({ events, serve, join, dial }) => {
    const channel = await serve();
    const hello = { type: "hello", role: "ztunnel", name: "node-a", version: 2, pid: 1 } as const;
    const attempts: [string | Uint8Array, RegExp][] = [
      ["nonsense\n", /not JSON/],
      [Uint8Array.of(0xff, 0x0a), /protocol error/],
      [encodeMessage({ type: "ack", id: 1 }), /"ack" before hello/],
      [encodeMessage({ ...hello, name: "node-b" }), /ztunnel "node-b" on the channel of ztunnel "node-a"/],
      [encodeMessage({ ...hello, role: "waypoint" }), /waypoint "node-a" on the channel of ztunnel "node-a"/],
      [encodeMessage({ ...hello, version: 1 }), /version 1/],
      [encodeMessage(hello) + encodeMessage(hello), /second hello/],
      ["x".repeat(300_000), /longer than/],
    ];
    for (const [bytes, reason] of attempts) {
      const mark = events.seen.length;
      const socket = dial();
      const closed = new Promise((resolve) => socket.on("close", resolve));
      socket.write(bytes);
      socket.resume();
      await closed;
      while (!events.seen.slice(mark).some((event) => event.startsWith("lost"))) await events.change();
      assert.match(events.seen.slice(mark).find((event) => event.startsWith("lost"))!, reason);
    }
    join();
    await channel.ready;
  });
});

test("channel: a second ztunnel of the node takes the place of the first", async () => {
  await withChannel(async ({ events, serve, join }) => {
    const channel = await serve();
    const first = join({
      onMesh: () => {},
      onDisconnect: () => {
        first.close();
        events.add("first gone");
      },
    });
    await channel.ready;
    const mark = events.seen.length;
    join();
    await events.until("first gone", mark);
    await events.until("done", mark);
    assert.deepEqual(await channel.setMesh(mesh("for the second")), { kind: "acknowledged" });
    assert.ok(events.seen.includes("mesh for the second"));
  });
});
