/** What an authenticated but unfriendly client may cost a pod, and what a change of policy does to its connections. */
import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import type { TunnelStream, TunnelUser } from "../../src/hbone/connection.ts";
import { Listener } from "../../src/net/listener.ts";
import { closeDescriptor } from "../../src/platform/socket.ts";
import { Peer } from "../net/support.ts";
import { policy } from "../mesh/builders.ts";
import { TestAuthority } from "../platform/authority.ts";
import { listenOnLoopback } from "../platform/support.ts";
import { PodHarness } from "./pod_harness.ts";

const authority = await TestAuthority.create();

class User implements TunnelUser {
  status = "";
  over: string | undefined;
  headers(_stream: TunnelStream, fields: readonly string[]): void {
    this.status = fields[1];
  }
  data(stream: TunnelStream, _bytes: Uint8Array, start: number, end: number): void {
    stream.consume(end - start);
  }
  writable(): void {}
  reset(_stream: TunnelStream, code: number): void {
    this.over ??= `reset ${code}`;
  }
  closed(): void {
    this.over ??= "closed";
  }
}

/** An application of the pod. */
function application(harness: PodHarness) {
  const { fd, port } = listenOnLoopback();
  const peers: Peer[] = [];
  const listener = new Listener(harness.loop.reactor, fd, {
    accepted: (accepted) => void peers.push(new Peer(accepted)),
    acceptFailed: (code) => assert.fail(`accept: ${code}`),
  });
  return {
    port,
    peers,
    close() {
      listener.close();
      closeDescriptor(fd);
      for (const peer of peers) peer.close();
    },
  };
}

test("inbound: early data in tiny frames costs about its bytes, and reaches the application in order", async () => {
  const BYTES = 600_000;
  const harness = await PodHarness.create(authority, [], ["default/not-yet"]);
  const app = application(harness);
  const user = new User();
  const { connection, stream } = await harness.connect(app.port, user);
  const used = () => {
    const { heapUsed, external, arrayBuffers } = process.memoryUsage();
    return heapUsed + external + arrayBuffers;
  };
  const one = new Uint8Array(1);
  const before = used();
  for (let sent = 0; sent < BYTES;) {
    one[0] = sent & 0xff;
    const n = connection.h2.sendData(stream, one, 0, 1, false);
    connection.touch();
    if (n === 0) await harness.until(() => connection.h2.output.end === 0, "room");
    sent += n;
  }
  await harness.until(() => connection.h2.output.end === 0, "the last frame on its way");
  harness.loop.turnFor(50);
  const grown = used() - before;

  assert.equal(user.status, "", "the policy is still awaited");
  harness.proxy.applyState(harness.state([], []));
  await harness.until(
    () => app.peers.length === 1 && app.peers[0].read() >= 0 && app.peers[0].receivedBytes >= BYTES,
    "the bytes",
  );
  let at = 0;
  for (const chunk of app.peers[0].received) {
    for (const byte of chunk) assert.equal(byte, at++ & 0xff);
  }
  assert.ok(grown < 30 * 1024 * 1024, `${BYTES} bytes of early data took ${grown} bytes of memory`);
  app.close();
  harness.close();
});

test("inbound: the end of stream that came early reaches the application", async () => {
  const harness = await PodHarness.create(authority, [], ["default/not-yet"]);
  const app = application(harness);
  const { connection, stream } = await harness.connect(app.port, new User());
  connection.h2.sendData(stream, new TextEncoder().encode("hello"), 0, 5, true);
  connection.touch();
  harness.loop.turnFor(50);
  harness.proxy.applyState(harness.state([], []));
  await harness.until(() => app.peers.length === 1 && app.peers[0].read() >= 0 && app.peers[0].ended, "the end");
  assert.equal(app.peers[0].text(), "hello");
  app.close();
  harness.close();
});

test("inbound: an open connection that no ALLOW policy allows any more is cut though another policy is still awaited", async () => {
  const harness = await PodHarness.create(authority);
  const app = application(harness);
  const user = new User();
  await harness.connect(app.port, user);
  await harness.until(() => user.status === "200", "the answer");
  const others = policy({
    name: "others",
    namespace: "default",
    action: "Allow",
    scope: "Namespace",
    rules: [[[{ principals: [{ Exact: "cluster.local/ns/default/sa/other" }] }]]],
  });
  harness.proxy.applyState(harness.state([others], ["default/not-yet"]));
  await harness.until(() => user.over !== undefined, "the cut");
  app.close();
  harness.close();
});
