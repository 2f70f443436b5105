/** Delta xDS over real TLS, against a gRPC server in this process: credentials, large and many messages, and every kind of end. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { type IstiodEndpoint, IstiodError } from "../../../src/control/istiod/mod.ts";
import { createXdsClient } from "../../../src/control/xds/client.ts";
import type { XdsPush } from "../../../src/control/xds/push.ts";
import { openXdsStream, type XdsResponse, type XdsStream } from "../../../src/control/xds/stream.ts";
import { type KeyAndChain, TestAuthority } from "../../platform/authority.ts";
import { FakeIstiod, Inbox } from "../istiod/fake_istiod.ts";

const ADDRESS = "type.googleapis.com/istio.workload.Address";
const never = new AbortController().signal;

let directory: string;
let authority: TestAuthority;
let material: KeyAndChain;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "ambit-xds-"));
  authority = await TestAuthority.create("mesh");
  material = await authority.leaf({ dnsNames: ["localhost"] });
  writeFileSync(join(directory, "root.pem"), authority.pem);
});

after(() => rmSync(directory, { recursive: true }));

function endpointOf(istiod: FakeIstiod, overrides: Partial<IstiodEndpoint> = {}): IstiodEndpoint {
  return istiod.endpoint({ root: { kind: "file", path: join(directory, "root.pem") }, ...overrides });
}

async function withIstiod(run: (istiod: FakeIstiod) => Promise<void>): Promise<void> {
  const istiod = await FakeIstiod.start({ material });
  try {
    await run(istiod);
  } finally {
    await istiod.close();
  }
}

/** The next response, or what the stream ended with. */
function reader(stream: XdsStream): () => Promise<XdsResponse | "end"> {
  const iterator = stream.responses[Symbol.asyncIterator]();
  return async () => {
    const { done, value } = await iterator.next();
    return done === true ? "end" : value as XdsResponse;
  };
}

test("xds stream: carries requests and responses both ways, in order", () =>
  withIstiod(async (istiod) => {
    const stream = await openXdsStream(endpointOf(istiod), never);
    const next = reader(stream);
    stream.send({
      typeUrl: ADDRESS,
      node: { id: "ztunnel~1", metadata: { NAME: "a", LABELS: { app: "z", n: 1, list: [true, null] } } },
      subscribe: ["*", "x"],
      unsubscribe: ["*"],
      initialVersions: new Map([["a", "1"], ["ümlaut; x: y", ""]]),
    });
    const first = next();
    const server = await istiod.streams.take();
    const request = await server.requests.take();
    assert.equal(request.node?.id, "ztunnel~1");
    assert.deepEqual(request.node?.metadata, { NAME: "a", LABELS: { app: "z", n: 1, list: [true, null] } });
    assert.deepEqual(request.resourceNamesSubscribe, ["*", "x"]);
    assert.deepEqual(request.resourceNamesUnsubscribe, ["*"]);
    assert.deepEqual(request.initialResourceVersions, { a: "1", "ümlaut; x: y": "" });
    assert.equal(request.responseNonce, "");
    assert.equal(request.errorDetail, undefined);
    const controlPlane = { identifier: "istiod-1" };
    server.send({
      typeUrl: ADDRESS,
      nonce: "n1",
      resources: [Uint8Array.of(1)],
      removedResources: ["r"],
      controlPlane,
    });
    server.send({ typeUrl: ADDRESS, nonce: "n2" });
    const removed = ["r"];
    const resources = [Uint8Array.of(1)];
    const response = await first as XdsResponse;
    assert.deepEqual({ ...response, resources: response.resources.map((bytes) => new Uint8Array(bytes)) }, {
      typeUrl: ADDRESS,
      nonce: "n1",
      resources,
      removed,
      controlPlane: "istiod-1",
    });
    assert.equal((await next() as XdsResponse).nonce, "n2");
    stream.send({ typeUrl: ADDRESS, nonce: "n1" });
    stream.send({ typeUrl: ADDRESS, nonce: "n2", error: "bad: no ip; worse: no name" });
    const ack = await server.requests.take();
    assert.deepEqual([ack.responseNonce, ack.node, ack.errorDetail], ["n1", undefined, undefined]);
    const nack = await server.requests.take();
    assert.deepEqual([nack.errorDetail?.code, nack.errorDetail?.message], [3, "bad: no ip; worse: no name"]);
    server.end();
    assert.equal(await next(), "end");
    stream.close();
  }));

test("xds stream: presents the token of the moment, the cluster and extra headers", () =>
  withIstiod(async (istiod) => {
    const path = join(directory, "token");
    const endpoint = endpointOf(istiod, {
      token: { kind: "file", path },
      clusterId: "c1",
      headers: [["x-tenant", "blue"], ["clusterid", "mine"]],
    });
    for (const token of ["first", "second"]) {
      writeFileSync(path, token);
      const stream = await openXdsStream(endpoint, never);
      const next = reader(stream)().catch(() => {});
      const { headers } = await istiod.streams.take();
      assert.equal(headers.get("authorization"), `Bearer ${token}`);
      assert.equal(headers.get("x-tenant"), "blue");
      assert.equal(headers.get("clusterid"), "mine");
      stream.close();
      await next;
    }
    assert.equal(istiod.connections, 2);
  }));

test("xds stream: an empty token, a token that is missing and one that no header can carry are refused without showing it", () =>
  withIstiod(async (istiod) => {
    const path = join(directory, "bad-token");
    const endpoint = endpointOf(istiod, { token: { kind: "file", path } });
    await assert.rejects(openXdsStream(endpoint, never), /cannot read the token .*bad-token/);
    writeFileSync(path, "");
    await assert.rejects(openXdsStream(endpoint, never), /bad-token is empty/);
    writeFileSync(path, "secret\u0000text");
    await assert.rejects(openXdsStream(endpoint, never), (error: Error) => {
      assert.match(error.message, /characters that a header cannot carry/);
      return !error.message.includes("secret");
    });
    assert.equal(istiod.connections, 0);
  }));

test("xds stream: reads the root anew for each connection", () =>
  withIstiod(async (istiod) => {
    const path = join(directory, "rotating.pem");
    const endpoint = endpointOf(istiod, { root: { kind: "file", path } });
    await assert.rejects(openXdsStream(endpoint, never), /cannot read the root certificate/);
    writeFileSync(path, "nothing here");
    await assert.rejects(openXdsStream(endpoint, never), /there is no certificate in/);
    writeFileSync(path, (await TestAuthority.create("other")).pem);
    await assert.rejects(openXdsStream(endpoint, never), /does not chain to a root/);
    writeFileSync(path, authority.pem);
    (await openXdsStream(endpoint, never)).close();
  }));

test("xds stream: a status of the server is told as such", () =>
  withIstiod(async (istiod) => {
    const stream = await openXdsStream(endpointOf(istiod), never);
    const next = reader(stream);
    const first = next();
    const server = await istiod.streams.take();
    server.end(new ConnectError("token expired", Code.Unauthenticated));
    await assert.rejects(first, (error: IstiodError) => {
      assert.ok(error instanceof IstiodError);
      assert.deepEqual([error.kind, error.status], ["status", "unauthenticated"]);
      assert.match(
        error.message,
        /answered unauthenticated: token expired \(check that the token \(AUTH_TOKEN of a ztunnel\)/,
      );
      return true;
    });
  }));

test("xds stream: a cut connection is an error, not an end", () =>
  withIstiod(async (istiod) => {
    const stream = await openXdsStream(endpointOf(istiod), never);
    const next = reader(stream);
    const first = next();
    const server = await istiod.streams.take();
    server.send({ typeUrl: ADDRESS, nonce: "n1" });
    await first;
    const second = next();
    istiod.cut();
    await assert.rejects(second, (error: unknown) => error instanceof IstiodError && error.kind === "stream");
  }));

test("xds stream: a reset stream is an error that says so", () =>
  withIstiod(async (istiod) => {
    const stream = await openXdsStream(endpointOf(istiod), never);
    const next = reader(stream);
    const first = next();
    const server = await istiod.streams.take();
    server.send({ typeUrl: ADDRESS, nonce: "n1" });
    await first;
    const second = next();
    istiod.resetStreams();
    await assert.rejects(second, (error: unknown) => {
      assert.ok(error instanceof IstiodError);
      assert.equal(error.kind, "stream");
      // Bun tells of a reset as of an end; that the status is missing gives it away.
      assert.match(error.message, /INTERNAL_ERROR|missing status/);
      return true;
    });
  }));

test("xds stream: goes on after a GOAWAY until the server ends it", () =>
  withIstiod(async (istiod) => {
    const stream = await openXdsStream(endpointOf(istiod), never);
    const next = reader(stream);
    const first = next();
    const server = await istiod.streams.take();
    server.send({ typeUrl: ADDRESS, nonce: "n1" });
    await first;
    istiod.goAway();
    server.send({ typeUrl: ADDRESS, nonce: "n2" });
    assert.equal((await next() as XdsResponse).nonce, "n2");
    server.end();
    assert.equal(await next(), "end");
  }));

test("xds stream: is over on both sides when the client closes it", () =>
  withIstiod(async (istiod) => {
    const stream = await openXdsStream(endpointOf(istiod), never);
    const first = reader(stream)();
    const server = await istiod.streams.take();
    stream.close();
    stream.send({ typeUrl: ADDRESS });
    await assert.rejects(first);
    await server.over;
  }));

test("xds client: comes back to a restarted server and tells it what it holds", async () => {
  let istiod = await FakeIstiod.start({ material });
  const port = istiod.port;
  const pushes = new Inbox<XdsPush>();
  const client = createXdsClient({
    address: `https://localhost:${port}`,
    subscriptions: [{ typeUrl: ADDRESS, mode: "wildcard" }],
    node: { id: "node", metadata: {} },
    open: (signal) => openXdsStream(endpointOf(istiod), signal),
    sink: {
      apply(push, accepted) {
        pushes.put(push);
        if (push.resources.length > 0) accepted("good", "7");
        return Promise.resolve(push.resources.length > 1 ? [{ name: "bad", reason: "no ip" }] : []);
      },
    },
    log: { enabled: () => false, log: () => {} },
    limits: { reached() {} },
    metrics: { connectionTerminated() {}, message() {}, rejected() {}, setConnected() {}, applied() {} },
    synced: () => {},
    waiting: () => {},
    schedule(task, delayMs) {
      const timer = setTimeout(task, delayMs);
      return () => clearTimeout(timer);
    },
    nowMs: () => performance.now(),
    random: Math.random,
  });
  try {
    const before = await istiod.streams.take();
    assert.deepEqual((await before.requests.take()).initialResourceVersions, {});
    before.send({ typeUrl: ADDRESS, nonce: "n1", resources: [Uint8Array.of(1), Uint8Array.of(2)] });
    assert.equal((await before.requests.take()).errorDetail?.message, "bad: no ip");
    await istiod.close();
    istiod = await FakeIstiod.start({ material, port });
    const after = await istiod.streams.take();
    const request = await after.requests.take();
    assert.deepEqual(request.initialResourceVersions, { good: "7" });
    assert.equal(request.node?.id, "node");
  } finally {
    client.close();
    await istiod.close();
  }
});
