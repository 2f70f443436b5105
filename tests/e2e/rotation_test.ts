/** Certificates that live for seconds: renewed under traffic, which does not notice. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createLocalCa, type LocalCa } from "../../src/control/local/ca.ts";
import { APP_PORT, socketAddress } from "./support/exchange.ts";
import { complete, Load, serveLoad } from "./support/load.ts";
import { acceptOne, issue, TestMesh, type TestPod } from "./support/mesh.ts";
import { RawTunnel } from "./support/raw_hbone.ts";
import { eventually, pause } from "./support/wait.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b }
  - { name: later, namespace: city, serviceAccount: later, node: b }
  - { name: prober, namespace: wild, node: a, captured: false }
`;
/** The CA dates certificates two minutes back, so half of their life is over at once: they are renewed when half of the rest is. */
const LEAF_TTL_MS = 4_000;
const ROUND_MS = 250;

let mesh: TestMesh;
let client: TestPod;
let server: TestPod;
before(async () => {
  mesh = await TestMesh.start(FILE, { leafTtlMs: LEAF_TTL_MS });
  client = mesh.pod("client");
  server = mesh.pod("server");
});
after(() => mesh?.stop());

async function serials(node: string): Promise<Record<string, string>> {
  const { certificates } = await mesh.node(node).configDump();
  return Object.fromEntries(certificates.map(({ identity, certChain }) => [identity, certChain[0]!.serialNumber]));
}

/** A new handshake with the server, which must present a certificate that is valid now. */
async function checkHandshake(): Promise<void> {
  const material = await issue(mesh.ca, "spiffe://cluster.local/ns/wild/sa/default");
  const tunnel = await RawTunnel.connect(mesh.pod("prober"), server.ip(), material);
  const stream = await tunnel.connect(socketAddress(server.ip(), APP_PORT)).response();
  assert.equal(stream.status, "200", `${tunnel.over}`);
  stream.cancel();
  tunnel.close();
}

test("rotation, under traffic: no request fails, live connections outlive their certificate, new handshakes use the new one", async () => {
  const application = serveLoad(server, APP_PORT);
  const load = new Load(2, () => client.connect(server.ip(), APP_PORT));
  const [peer, live] = await acceptOne(server, 7000, () => client.connect(server.ip(), 7000));
  const before = [await serials("a"), await serials("b")];
  const startedMs = performance.now();
  while (performance.now() - startedMs < LEAF_TTL_MS + 2_000) {
    peer.write("tick");
    assert.equal(await live.read(4), "tick");
    live.write("tock");
    assert.equal(await peer.read(4), "tock");
    await checkHandshake();
    await pause(ROUND_MS);
  }
  await load.stop();
  assert.deepEqual(load.attempts.filter((attempt) => !complete(attempt)), [], `of ${load.attempts.length}`);
  assert.ok(load.completed > 50);
  const now = [await serials("a"), await serials("b")];
  for (const i of [0, 1]) {
    for (const [identity, serial] of Object.entries(before[i]!)) assert.notEqual(now[i]![identity], serial, identity);
  }
  // Nobody has dialled this one yet: the client's proxy presents its current certificate, the first has expired.
  const [fresh, accepted] = await acceptOne(
    mesh.pod("later"),
    7000,
    () => client.connect(mesh.pod("later").ip(), 7000),
  );
  fresh.write("hello");
  assert.equal(await accepted.read(5), "hello");
  for (const end of [peer, live, fresh, accepted]) end.close();
  application.close();
});

test("rotation, another root: under traffic no request fails, while pods trust both and then the new one alone", async () => {
  const application = serveLoad(server, APP_PORT);
  const old = mesh.ca;
  const next = await createLocalCa({ leafTtlMs: LEAF_TTL_MS });
  const [oldRoot, newRoot] = [old.roots[0]!, next.roots[0]!];
  const trusting = (ca: LocalCa, roots: readonly string[]): LocalCa => ({
    roots,
    sign: async (identity, csr) => ({ ...await ca.sign(identity, csr), roots }),
  });
  const [peer, live] = await acceptOne(server, 7000, () => client.connect(server.ip(), 7000));
  const load = new Load(2, () => client.connect(server.ip(), APP_PORT));
  // Trust both, then sign with the new one, then trust that alone: pods are renewed at different times in each.
  const phases = [trusting(old, [oldRoot, newRoot]), trusting(next, [oldRoot, newRoot]), trusting(next, [newRoot])];
  for (const phase of phases) {
    const before = [await serials("a"), await serials("b")];
    mesh.ca = phase;
    await eventually(async () => {
      for (const [i, node] of ["a", "b"].entries()) {
        for (const [identity, serial] of Object.entries(await serials(node))) {
          assert.notEqual(serial, before[i]![identity], identity);
        }
      }
    });
    // One of the prober's own goes to a fresh handshake, whatever tunnels the load has.
    await checkHandshake();
    peer.write("tick");
    assert.equal(await live.read(4), "tick");
  }
  await load.stop();
  assert.deepEqual(load.attempts.filter((attempt) => !complete(attempt)), [], `of ${load.attempts.length}`);
  assert.ok(load.completed > 50);
  const stranger = await issue(old, "spiffe://cluster.local/ns/wild/sa/default");
  const refused = await RawTunnel.connect(mesh.pod("prober"), server.ip(), { ...stranger, roots: [newRoot] });
  await refused.ended();
  await mesh.node("b").ztunnel.line((line) => line.includes("certificate verification failed"));
  for (const end of [peer, live]) end.close();
  application.close();
});

test("rotation, the CA refuses for a while: the certificate at hand is used up to its end, and renewed as soon as it can be", async () => {
  const application = serveLoad(server, APP_PORT);
  const good = mesh.ca;
  const mark = mesh.node("b").ztunnel.mark;
  const refusing: LocalCa = { roots: good.roots, sign: () => Promise.reject(new Error("the CA is closed today")) };
  mesh.ca = refusing;
  const refusal = await mesh.node("b").ztunnel.line((line) => line.includes("the CA is closed today"), mark);
  assert.match(refusal, /warn.*cannot get a certificate for spiffe:\/\/cluster\.local\/ns\/city\/sa\//);
  const load = new Load(1, () => client.connect(server.ip(), APP_PORT));
  await eventually(() => assert.ok(load.completed > 20));
  const held = await serials("b");
  mesh.ca = good;
  await eventually(async () => assert.notEqual((await serials("b"))[server.identity], held[server.identity]));
  await checkHandshake();
  await load.stop();
  assert.deepEqual(load.attempts.filter((attempt) => !complete(attempt)), []);
  application.close();
});
