/** Connections to istiod over real TLS: who is trusted, and how a connection ends. */
import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { CONNECTION_LIMITS, IstiodError, openSession, type Session } from "../../../src/control/istiod/mod.ts";
import { runtime } from "../../../src/platform/runtime.ts";
import { type KeyAndChain, TestAuthority } from "../../platform/authority.ts";
import { FakeIstiod } from "./fake_istiod.ts";

let authority: TestAuthority;
let other: TestAuthority;
let material: KeyAndChain;
let istiod: FakeIstiod;

before(async () => {
  authority = await TestAuthority.create("mesh");
  other = await TestAuthority.create("other");
  material = await authority.leaf({ dnsNames: ["localhost", "istiod.istio-system.svc"] });
  istiod = await FakeIstiod.start({ material });
});

after(() => istiod.close());

const XDS_PATH = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const GRPC_HEADERS = { "content-type": "application/grpc", "te": "trailers" };

const roots = (...certificates: string[]) => ({ certificates, origin: "the test's roots" });

async function failure(promise: Promise<Session>): Promise<IstiodError> {
  const result = await promise.then((session) => session, (error: unknown) => error);
  if (result instanceof IstiodError) return result;
  if (result instanceof Error) throw result;
  (result as Session).close();
  throw new assert.AssertionError({ message: "the connection was made" });
}

test("session: connects to a server whose certificate chains to the root and bears its name", async () => {
  const session = await openSession(istiod.endpoint({ root: { kind: "system" } }), roots(authority.pem));
  assert.equal(session.usable, true);
  session.close();
  assert.equal(session.usable, false);
  assert.match((await session.closed).message, /given up/);
});

test("session: takes any of several roots", async () => {
  const session = await openSession(istiod.endpoint({ root: { kind: "system" } }), roots(other.pem, authority.pem));
  session.close();
});

test("session: refuses a certificate of another root", async () => {
  const error = await failure(openSession(istiod.endpoint({ root: { kind: "system" } }), roots(other.pem)));
  assert.equal(error.kind, "connect");
  assert.match(error.message, /does not chain to a root in the test's roots/);
});

test("session: refuses a certificate for another name, unless the second name fits", async () => {
  const elsewhere = { ...istiod.endpoint({ root: { kind: "system" } }), address: `https://127.0.0.1:${istiod.port}` };
  const error = await failure(openSession(elsewhere, roots(authority.pem)));
  assert.match(error.message, /is for another name/);
  assert.match(error.message, /ALT_XDS_HOSTNAME/);
  await failure(openSession({ ...elsewhere, altHostname: "istiod.elsewhere.svc" }, roots(authority.pem)));
  const session = await openSession({ ...elsewhere, altHostname: "istiod.istio-system.svc" }, roots(authority.pem));
  session.close();
});

test("session: refuses a certificate that names nobody but its common name", async () => {
  const unnamed = await FakeIstiod.start({ material: await authority.leaf({ uris: [], subject: "CN=localhost" }) });
  try {
    const error = await failure(openSession(unnamed.endpoint({ root: { kind: "system" } }), roots(authority.pem)));
    assert.match(error.message, /no subject alternative names/);
  } finally {
    await unnamed.close();
  }
});

test("session: refuses an expired certificate", async () => {
  const expired = await FakeIstiod.start({
    material: await authority.leaf({ dnsNames: ["localhost"], notAfterMs: -60_000 }),
  });
  try {
    const error = await failure(openSession(expired.endpoint({ root: { kind: "system" } }), roots(authority.pem)));
    assert.match(error.message, /expired.*check the clocks|not valid now/);
  } finally {
    await expired.close();
  }
});

test("session: speaks TLS 1.2 only when it may", async () => {
  const old = await FakeIstiod.start({ material, maxVersion: "TLSv1.2" });
  try {
    const endpoint = old.endpoint({ root: { kind: "system" } });
    await failure(openSession(endpoint, roots(authority.pem)));
    (await openSession({ ...endpoint, tls12Enabled: true }, roots(authority.pem))).close();
  } finally {
    await old.close();
  }
});

test("session: keeps to the post-quantum key exchange where the runtime can, and refuses where it cannot", async () => {
  const classic = await FakeIstiod.start({ material, ecdhCurve: "P-256" });
  const hybrid = await FakeIstiod.start({ material, ecdhCurve: "X25519MLKEM768" });
  try {
    const open = (server: FakeIstiod) =>
      openSession({ ...server.endpoint({ root: { kind: "system" } }), pqc: true }, roots(authority.pem));
    const error = await failure(open(classic));
    if (runtime.name === "deno") assert.match(error.message, /COMPLIANCE_POLICY=pqc cannot be kept .* on Deno/);
    else (await open(hybrid)).close();
  } finally {
    await classic.close();
    await hybrid.close();
  }
});

test("session: says when nobody listens", async () => {
  const endpoint = { ...istiod.endpoint({ root: { kind: "system" } }), address: "https://localhost:1" };
  assert.match((await failure(openSession(endpoint, roots(authority.pem)))).message, /connection refused/);
});

test("session: gives up on a server that accepts and says nothing", async () => {
  const silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const { port } = silent.address() as AddressInfo;
  const endpoint = { ...istiod.endpoint({ root: { kind: "system" } }), address: `https://localhost:${port}` };
  const limits = { ...CONNECTION_LIMITS, connectMs: 100 };
  assert.match((await failure(openSession(endpoint, roots(authority.pem), limits))).message, /no .* within 0.1 s/);
  const abort = new AbortController();
  const given = failure(openSession(endpoint, roots(authority.pem), CONNECTION_LIMITS, abort.signal));
  abort.abort();
  assert.match((await given).message, /given up/);
  silent.close();
});

test("session: ends with the reason when the connection breaks", async () => {
  const own = await FakeIstiod.start({ material });
  const session = await openSession(own.endpoint({ root: { kind: "system" } }), roots(authority.pem));
  const stream = await session.request("POST", "/nothing", {}, {});
  stream.on("error", () => {});
  own.cut();
  assert.equal((await session.closed).kind, "stream");
  assert.equal(session.usable, false);
  await assert.rejects(session.request("POST", "/nothing", {}, {}));
  await own.close();
});

test("session: after a GOAWAY takes no more calls, lets the one under way finish, and ends", async () => {
  const own = await FakeIstiod.start({ material });
  const session = await openSession(own.endpoint({ root: { kind: "system" } }), roots(authority.pem));
  const stream = await session.request("POST", XDS_PATH, GRPC_HEADERS, {});
  stream.on("error", () => {});
  stream.resume();
  const server = await own.streams.take();
  own.goAway();
  while (session.usable) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(session.openCalls, 1);
  stream.end();
  server.end();
  await session.closed;
  assert.equal(session.openCalls, 0);
  await own.close();
});

test("session: ends when a keepalive PING is not answered", async () => {
  const own = await FakeIstiod.start({ material });
  // A relay that stops passing bytes on, as a network does that drops packets.
  let pass = true;
  const relay = createServer((client) => {
    const server = connect(own.port, "127.0.0.1");
    client.on("data", (chunk) => pass && server.write(chunk));
    server.on("data", (chunk) => pass && client.write(chunk));
    for (const socket of [client, server]) socket.on("error", () => {});
    client.on("close", () => server.destroy());
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  const { port } = relay.address() as AddressInfo;
  const endpoint = { ...istiod.endpoint({ root: { kind: "system" } }), address: `https://localhost:${port}` };
  const limits = { connectMs: 5_000, pingIntervalMs: 50, pingTimeoutMs: 200 };
  const session = await openSession(endpoint, roots(authority.pem), limits);
  const stream = await session.request("POST", XDS_PATH, GRPC_HEADERS, {});
  stream.on("error", () => {});
  await own.streams.take();
  const outcome = await Promise.race([
    session.closed.then(() => "ended"),
    new Promise((resolve) => setTimeout(resolve, 400, "alive")),
  ]);
  assert.equal(outcome, "alive");
  pass = false;
  assert.match((await session.closed).message, /did not answer a keepalive PING within 0.2 s/);
  relay.close();
  await own.close();
});
