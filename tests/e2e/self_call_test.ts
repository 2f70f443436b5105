/** Connections to the proxy's own ports, from wherever they come: no recursion, no spinning, no way to the admin port. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ECONNREFUSED, ECONNRESET } from "../../src/platform/errno.ts";
import { NetworkError } from "./support/errors.ts";
import { socketAddress } from "./support/exchange.ts";
import { TestMesh } from "./support/mesh.ts";
import type { Peer, PeerEnd } from "./support/peer.ts";
import { pause } from "./support/wait.ts";
import { Stopwatch } from "../support/stopwatch.ts";

const FILE = `
nodes: [{ name: a }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: a }
  - { name: outside, namespace: wild, node: a, captured: false }
`;
const PROXY_PORTS = [15001, 15006, 15008, 15080];
const OWN_PORTS = [15000, 15020, 15021];
const HTTP = "GET /config_dump HTTP/1.0\r\n\r\n";

let mesh: TestMesh;
before(async () => {
  mesh = await TestMesh.start(FILE);
});
after(() => mesh?.stop());

/** Speaks HTTP to whatever answers: what came, and how it ended. */
async function probe(
  from: string,
  ip: string,
  port: number,
): Promise<{ readonly text: string; readonly end: PeerEnd }> {
  let peer: Peer;
  try {
    peer = await mesh.pod(from).connect(ip, port);
  } catch (error) {
    if (error instanceof NetworkError) return { text: "", end: error.code };
    throw error;
  }
  peer.write(HTTP);
  const { text, end } = await peer.readToEnd(5_000);
  peer.close();
  return { text, end };
}

/** Every address by which `from` can name a proxy. */
function targets(from: string): string[] {
  const pods = ["client", "server"].flatMap((name) => [mesh.pod(name).ip("ipv4"), mesh.pod(name).ip("ipv6")]);
  const node = mesh.file.nodes[0]!.addresses;
  return from === "outside" ? [...pods, ...node] : ["127.0.0.1", "127.0.0.2", "::1", ...pods, ...node];
}

for (const from of ["client", "outside"]) {
  test(`self-call, from ${from} to every port of every proxy: refused or reset at once, nothing runs in circles`, async () => {
    const { ztunnel } = mesh.node("a");
    const mark = ztunnel.mark;
    const descriptors = ztunnel.descriptors;
    const cpuMs = ztunnel.cpuMs;
    const probes = targets(from).flatMap((ip) => PROXY_PORTS.map((port) => ({ ip, port })));
    const watch = new Stopwatch();
    for (const { ip, port } of probes) {
      const { text, end } = await probe(from, ip, port);
      const where = `${socketAddress(ip, port)} from ${from}`;
      // Port 15008 may answer with a TLS alert; nothing else says anything.
      assert.ok(text.length <= 7, `${where} answered ${JSON.stringify(text)}`);
      assert.ok([ECONNREFUSED, ECONNRESET, "eof"].includes(end), `${where} ended with ${end}`);
    }
    const { ms } = watch.stop();
    assert.ok(ms < 5_000, `${probes.length} probes took ${Math.round(ms)} ms`);
    // Each probe makes a handful of connections at most; a loop would use all the time there is.
    const lines = ztunnel.accessSince(mark).length;
    assert.ok(lines <= probes.length * 2, `${lines} lines for ${probes.length} probes`);
    const spentMs = ztunnel.cpuMs - cpuMs;
    assert.ok(spentMs < 500 + probes.length * 20, `${spentMs} ms of CPU for ${probes.length} probes`);
    const idleFromMs = ztunnel.cpuMs;
    await pause(500);
    assert.ok(ztunnel.cpuMs - idleFromMs < 150, `${ztunnel.cpuMs - idleFromMs} ms of CPU in 500 ms without work`);
    assert.ok(ztunnel.descriptors <= descriptors + 20, `${descriptors} descriptors became ${ztunnel.descriptors}`);
    assert.ok(ztunnel.running);
  });
}

test("self-call, the loopback and the own address: denied as what it is", async () => {
  const { ztunnel } = mesh.node("a");
  for (const [ip, port] of [["127.0.0.1", 15001], ["::1", 15001], ["127.0.0.1", 15006]] as const) {
    const mark = ztunnel.mark;
    assert.ok([ECONNRESET, ECONNREFUSED].includes((await probe("client", ip, port)).end as number));
    const { fields } = await ztunnel.access(({ fields }) => fields["dst.addr"] === socketAddress(ip, port), mark);
    assert.equal(fields.error, "attempted recursive call to ourselves");
  }
  const own = mesh.pod("client").ip();
  const mark = ztunnel.mark;
  assert.equal((await probe("client", own, 15001)).end, ECONNRESET);
  await ztunnel.access(({ fields }) => fields.error?.includes("attempted recursive call to ourselves") === true, mark);
});

test("self-call, from a captured pod: the admin port is nowhere, readiness and metrics are only on the node's address", async () => {
  const node = mesh.file.nodes[0]!.addresses;
  for (const ip of [...targets("client"), ...targets("outside")]) {
    for (const port of OWN_PORTS) {
      const { text } = await probe("client", ip, port);
      if (port !== 15000 && node.includes(ip)) assert.match(text, /^HTTP\/1\.1 \d+/);
      else assert.equal(text, "", `${socketAddress(ip, port)} answered`);
    }
  }
});

test("self-call, afterwards: traffic flows", async () => {
  mesh.pod("server").listen(8080, (peer) => {
    peer.write("welcome");
    peer.finish();
  });
  const peer = await mesh.pod("client").connect(mesh.pod("server").ip(), 8080);
  assert.equal((await peer.readToEnd()).text, "welcome");
});
