/**
 * Peers that say nothing: every wait has an end, and a line that says what was waited for. The waits run side by side, so
 * that this takes as long as the longest of them.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ECONNRESET } from "../../src/platform/errno.ts";
import type { TlsMaterial } from "../../src/platform/tls_context.ts";
import { clientHello } from "./support/client_hello.ts";
import { APP_PORT, socketAddress } from "./support/exchange.ts";
import { type Family, issue, TestMesh, type TestPod } from "./support/mesh.ts";
import type { PeerEnd } from "./support/peer.ts";
import { listenHbone } from "./support/raw_hbone.ts";
import type { AccessLine } from "./support/ztunnel_process.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b }
  - { name: prober, namespace: wild, node: a, captured: false }
  # Not captured, but said to speak HBONE: the test plays their proxies.
  - { name: dropped, namespace: city, serviceAccount: x, node: b, captured: false, protocol: HBONE }
  - { name: mute-tls, namespace: city, serviceAccount: x, node: b, captured: false, protocol: HBONE }
  - { name: mute-http, namespace: city, serviceAccount: x, node: b, captured: false, protocol: HBONE }
  - { name: dropped-tcp, namespace: city, node: b, captured: false }
`;
/** Of the server, where nothing answers. */
const DROPPED_PORT = 9999;
/** The limit of a test that waits; the longest wait of ztunnel is 20 s. */
const PATIENCE_MS = 30_000;

interface Outcome {
  readonly end: PeerEnd;
  readonly afterMs: number;
}

let mesh: TestMesh;
const outcomes = new Map<string, Promise<Outcome>>();
before(async () => {
  mesh = await TestMesh.start(FILE);
  await drop("dropped", 15008);
  await drop("dropped-tcp", APP_PORT);
  await drop("server", DROPPED_PORT);
  mesh.lab.listenRaw(mesh.pod("mute-tls").namespaceFd, 15008, () => {});
  const material: TlsMaterial = await issue(mesh.ca, mesh.pod("mute-http").identity);
  listenHbone(mesh.lab, mesh.pod("mute-http"), material, () => {});

  for (const family of ["ipv4", "ipv6"] as const) {
    start(`dropped ${family}`, () => mesh.pod("client").refusal(mesh.pod("dropped").ip(family), APP_PORT, PATIENCE_MS));
  }
  for (const name of ["mute-tls", "mute-http", "dropped-tcp"]) {
    start(name, () => mesh.pod("client").refusal(mesh.pod(name).ip(), APP_PORT, PATIENCE_MS));
  }
  start("application", () => mesh.pod("client").refusal(mesh.pod("server").ip(), DROPPED_PORT, PATIENCE_MS));
  start("plaintext", () => mesh.pod("prober").refusal(mesh.pod("server").ip("ipv6"), DROPPED_PORT, PATIENCE_MS));
  start("silent client", () => endOf(mesh.pod("prober"), new Uint8Array(0)));
  start("half a hello", () => endOf(mesh.pod("prober"), clientHello("1.3", ["h2"]).subarray(0, 50)));
  start("after hello", () => endOf(mesh.pod("prober"), clientHello("1.3", ["h2"])));
});
after(() => mesh?.stop());

function start(name: string, act: () => Promise<PeerEnd>): void {
  const startedMs = performance.now();
  const outcome = act().then((end) => ({ end, afterMs: performance.now() - startedMs }));
  outcome.catch(() => {});
  outcomes.set(name, outcome);
}

async function drop(name: string, port: number): Promise<void> {
  const { spec } = mesh.pod(name);
  const rules = `add table inet silence
add chain inet silence input { type filter hook input priority 0; }
add rule inet silence input tcp dport ${port} drop
`;
  await mesh.run({ pod: name, namespace: spec.namespace }, ["nft", "-f", "-"], rules);
}

/** Sends `bytes` to the server's 15008 and nothing more. */
async function endOf(pod: TestPod, bytes: Uint8Array): Promise<PeerEnd> {
  const peer = await pod.connect(mesh.pod("server").ip(), 15008);
  if (bytes.length > 0) peer.write(bytes);
  const end = await peer.ended(PATIENCE_MS);
  peer.close();
  return end;
}

async function check(name: string, ends: readonly PeerEnd[], seconds: number): Promise<void> {
  const { end, afterMs } = await outcomes.get(name)!;
  assert.ok(ends.includes(end), `it ended with ${end}`);
  assert.ok(afterMs > seconds * 1000 - 500 && afterMs < seconds * 1000 + 4_000, `after ${Math.round(afterMs)} ms`);
}

function line(node: string, test: (line: AccessLine) => boolean): Promise<AccessLine> {
  return mesh.node(node).ztunnel.access(test);
}

for (const family of ["ipv4", "ipv6"] as readonly Family[]) {
  test(`silence, nothing comes back from port 15008, ${family}: given up after 10 s, a NetworkPolicy is suspected`, async () => {
    await check(`dropped ${family}`, [ECONNRESET], 10);
    const address = socketAddress(mesh.pod("dropped").ip(family), 15008);
    const { fields } = await line("a", ({ fields }) => fields["dst.addr"] === address);
    assert.equal(fields.error, "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008");
    const labels = { destination_workload: "dropped", reporter: "source", response_flags: "NETWORK_POLICY" };
    assert.ok((await mesh.node("a").traffic(labels)).closed >= 1);
  });
}

test("silence, nothing comes back from a plain port: given up after 10 s", async () => {
  await check("dropped-tcp", [ECONNRESET], 10);
  const address = socketAddress(mesh.pod("dropped-tcp").ip(), APP_PORT);
  const { fields } = await line("a", ({ fields }) => fields["dst.addr"] === address);
  assert.match(fields.error!, /timed out.*NetworkPolicy or firewall/);
});

test("silence, a peer that takes the connection but no handshake: given up after 10 s", async () => {
  await check("mute-tls", [ECONNRESET], 10);
  const { fields } = await line("a", ({ fields }) => fields["dst.workload"] === "mute-tls");
  assert.match(fields.error!, /TLS handshake timed out/);
});

test("silence, an application that does not answer: 503 after 10 s, both sides say so", async () => {
  await check("application", [ECONNRESET], 10);
  const authority = socketAddress(mesh.pod("server").ip(), DROPPED_PORT);
  const inbound = await line("b", ({ fields }) => fields["dst.hbone_addr"] === authority);
  assert.match(inbound.fields.error!, /cannot reach the application at .*:9999: .*timed out/);
  const outbound = await line("a", ({ fields }) => fields["dst.hbone_addr"] === authority);
  assert.match(outbound.fields.error!, /^http status: 503/);
});

test("silence, an application that does not answer to plaintext: reset after 10 s", async () => {
  await check("plaintext", [ECONNRESET], 10);
  const address = socketAddress(mesh.pod("server").ip("ipv6"), DROPPED_PORT);
  const { fields } = await line("b", ({ fields }) => fields["dst.addr"] === address);
  assert.match(fields.error!, /cannot reach the application at .*:9999: .*timed out/);
});

for (const name of ["silent client", "half a hello", "after hello"]) {
  test(`silence, a client of port 15008, ${name}: sent away after 10 s, one line in the log`, async () => {
    await check(name, ["eof", ECONNRESET], 10);
  });
}

test("silence, a peer that takes a CONNECT but does not answer it: given up after 20 s", async () => {
  await check("mute-http", [ECONNRESET], 20);
  const { fields } = await line("a", ({ fields }) => fields["dst.workload"] === "mute-http");
  assert.match(fields.error!, /did not answer the CONNECT request within 20 s/);
  const lines = mesh.node("b").ztunnel.accessSince(0).filter(({ fields }) =>
    fields["src.addr"]?.includes(mesh.pod("prober").ip())
  );
  const handshakes = lines.filter(({ fields }) => fields.error?.includes("TLS handshake timed out"));
  assert.equal(handshakes.length, 3, "each of the three silent clients has its line, and only one");
});
