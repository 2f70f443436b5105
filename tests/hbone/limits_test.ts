/** What the owner of tunnels is told when a peer reaches a limit, so that it can count and log it. */
import assert from "node:assert/strict";
import { afterEach, before, beforeEach, test } from "node:test";
import { HbonePool } from "../../src/hbone/pool.ts";
import type { ServerTunnel } from "../../src/hbone/server.ts";
import { ErrorCode } from "../../src/protocol/http2/mod.ts";
import { createLoop, type Loop } from "../net/support.ts";
import { frame, RawClient } from "./raw_client.ts";
import { createMaterial, type Material, settings, TestServer } from "./support.ts";

const HEADERS = 1;
const PING = 6;
const END_HEADERS = 4;

let material: Material;
let loop: Loop;
let server: TestServer & {
  streamRefused?(tunnel: ServerTunnel, code: number, fault: string): void;
  tunnelFailed?(tunnel: ServerTunnel, reason: string): void;
};
let told: string[];

before(async () => {
  material = await createMaterial();
});

beforeEach(() => {
  loop = createLoop();
  server = new TestServer(loop, material.server, settings("server"));
  told = [];
  server.streamRefused = (_tunnel, code, fault) => told.push(`refused ${code}: ${fault}`);
  server.tunnelFailed = (tunnel, reason) => told.push(`failed ${tunnel.connection.h2.failedWith}: ${reason}`);
});

afterEach(() => {
  server.close();
  loop.reactor.dispose();
});

/** `:method CONNECT` and `:authority a:1`, and a field of this size. */
function request(streamId: number, extraBytes = 0): Uint8Array {
  const text = new TextEncoder();
  const literal = (index: number, value: string) => [index, value.length, ...text.encode(value)];
  const block = [...literal(2, "CONNECT"), ...literal(1, "a:1")];
  for (let left = extraBytes; left > 0; left -= 100) block.push(0, 1, 120, 100, ...text.encode("y".repeat(100)));
  return frame(HEADERS, END_HEADERS, streamId, Uint8Array.from(block));
}

function connect(): RawClient {
  const client = new RawClient(loop, server.port, material.client);
  client.open();
  return client;
}

test("hbone limits: a stream above the limit is refused and told", () => {
  const client = connect();
  for (let i = 0; i < 201; i++) client.send(request(2 * i + 1));
  loop.until(() => told.length > 0, "the refusal");
  assert.deepEqual(told, [`refused ${ErrorCode.REFUSED_STREAM}: more streams than we announced`]);
  assert.equal(server.requests.length, 200);
  client.close();
});

test("hbone limits: a request with too many header bytes is refused and told", () => {
  const client = connect();
  client.send(request(1, 80 * 1024));
  loop.until(() => told.length > 0, "the refusal");
  assert.deepEqual(told, [`refused ${ErrorCode.NO_ERROR}: request: header list too large`]);
  client.close();
});

test("hbone limits: a flood ends the tunnel and is told", () => {
  const client = connect();
  const pings = new Uint8Array(17 * 1000);
  for (let i = 0; i < 1000; i++) pings.set(frame(PING, 0, 0, new Uint8Array(8)), i * 17);
  for (let i = 0; i < 20; i++) {
    client.send(pings);
    client.poll();
    loop.reactor.turn(1);
  }
  loop.until(() => told.length > 0, "the end");
  assert.match(told[0], new RegExp(`^failed ${ErrorCode.ENHANCE_YOUR_CALM}: `));
  client.close();
});

test("hbone limits: a client's pool is told of servers that break the rules", () => {
  const failed: string[] = [];
  const pool = new HbonePool(loop.io, {
    settings: settings("client"),
    maxStreamsPerConnection: 100,
    unusedReleaseMs: 60_000,
    connectTimeoutMs: 1_000,
    tunnelFailed: ({ port }, code, reason) => failed.push(`${port} ${code}: ${reason}`),
  });
  const destination = { tunnels: [] as unknown[], waiters: [], dial: undefined, key: "k" };
  const tunnel = {
    destination,
    plan: { ip: "127.0.0.1", port: 15_008 },
    connection: { h2: { failedWith: ErrorCode.ENHANCE_YOUR_CALM } },
  };
  destination.tunnels.push(tunnel);
  const closed = pool.closed.bind(pool) as unknown as (tunnel: unknown, reason: string, failure: undefined) => void;
  closed(tunnel, "flood of PING", undefined);
  assert.deepEqual(failed, [`15008 ${ErrorCode.ENHANCE_YOUR_CALM}: flood of PING`]);
  destination.tunnels.push({ ...tunnel, connection: { h2: { failedWith: ErrorCode.NO_ERROR } } });
  closed(destination.tunnels[0], "the peer left", undefined);
  assert.equal(failed.length, 1);
  pool.close("test over");
});
