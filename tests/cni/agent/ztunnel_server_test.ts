/** The socket of ztunnels is there before the agent knows its pods, and nobody is told half of them. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { serveZtunnels, type ZtunnelServer } from "../../../src/cni/agent/ztunnel_server.ts";
import { createNetnsCache, type NetnsCache } from "../../../src/cni/netns/cache.ts";
import { EAGAIN } from "../../../src/platform/errno.ts";
import { openNamespace } from "../../../src/platform/netns.ts";
import { connectSeqpacket, MessageReceiver, MessageSender } from "../../../src/platform/seqpacket.ts";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import { decodeRequest, encodeHello, encodeResponse, ZDS_MESSAGE_BYTES } from "../../../src/protocol/zds.ts";
import { makePod } from "./fakes.ts";

interface Place {
  readonly path: string;
  readonly cache: NetnsCache;
  readonly server: ZtunnelServer;
  readonly served: Promise<void>;
  readonly counts: readonly number[];
}

async function serving(use: (place: Place) => Promise<void>, patienceMs?: number): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "ambit-zt-"));
  const path = join(directory, "z.sock");
  const cache = createNetnsCache();
  const served = Promise.withResolvers<void>();
  const counts: number[] = [];
  const server = serveZtunnels({
    path,
    cache,
    workerEntry: new URL("../../../src/roles/cni_worker.ts", import.meta.url),
    log: () => {},
    connected: (count) => void counts.push(count),
    served: served.resolve,
    patienceMs,
  });
  try {
    await use({ path, cache, server, served: served.promise, counts });
  } finally {
    server.close();
    cache.clear();
    rmSync(directory, { recursive: true });
  }
}

/** A ztunnel that says yes to everything; what it is told, until `last`. */
class Ztunnel {
  readonly told: string[] = [];
  readonly #receiver = new MessageReceiver(ZDS_MESSAGE_BYTES);
  readonly #sender = new MessageSender(ZDS_MESSAGE_BYTES);
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = connectSeqpacket(path);
    assert.ok(this.#fd >= 0, "it is not refused");
    this.#sender.send(this.#fd, encodeHello());
  }

  /** False when there is nothing to be read. */
  answer(): boolean {
    const length = this.#receiver.receive(this.#fd);
    if (length === -EAGAIN) return false;
    this.#receiver.closeDescriptors();
    const request = decodeRequest(this.#receiver.copy(length));
    this.told.push("uid" in request ? `${request.kind} ${request.uid}` : request.kind);
    this.#sender.send(this.#fd, encodeResponse());
    return true;
  }

  async until(last: string): Promise<void> {
    while (this.told.at(-1) !== last) if (!this.answer()) await pause(5);
  }

  close(): void {
    closeDescriptor(this.#fd);
  }
}

test("ztunnel server: one that comes early waits, and is told of every pod that was found meanwhile", async () => {
  await serving(async ({ path, cache, server, served, counts }) => {
    const ztunnel = new Ztunnel(path);
    await pause(50);
    assert.equal(ztunnel.answer(), false, "it is told nothing");
    assert.deepEqual(server.connections(), []);
    cache.ensure("uid-1", { name: "cart", namespace: "shop", serviceAccount: "sa" });
    server.accept();
    await ztunnel.until("snapshot_sent");
    assert.deepEqual(ztunnel.told, ["keep uid-1", "snapshot_sent"]);
    await served;
    assert.ok(server.connections()[0].snapshotSent);
    assert.deepEqual(counts, [1]);
    ztunnel.close();
  });
});

test("ztunnel server: who waits for an answer waits a moment for a ztunnel, others are told at once", async () => {
  await serving(async ({ path, cache, server }) => {
    const pod = makePod();
    const netns = cache.upsert("uid-cart", openNamespace("/proc/self/ns/net"));
    await assert.rejects(server.add(pod, netns, undefined), /no ztunnel connection/);
    server.accept();
    const added = server.add(pod, netns, new AbortController().signal);
    await pause(20);
    const ztunnel = new Ztunnel(path);
    await ztunnel.until("add uid-cart");
    await Promise.race([added, ztunnel.until("never")]);
    assert.ok(server.connections()[0].acked("uid-cart"));
    ztunnel.close();
  });
});

test("ztunnel server: patience has an end, and ends with the caller", async () => {
  await serving(async ({ cache, server }) => {
    const netns = cache.upsert("uid-cart", openNamespace("/proc/self/ns/net"));
    server.accept();
    await assert.rejects(server.add(makePod(), netns, new AbortController().signal), /no ztunnel connection/);
  }, 20);
  await serving(async ({ cache, server }) => {
    const netns = cache.upsert("uid-cart", openNamespace("/proc/self/ns/net"));
    const caller = new AbortController();
    const added = server.add(makePod(), netns, caller.signal);
    caller.abort(new Error("the caller has gone away"));
    await assert.rejects(added, /gone away/);
  });
});
