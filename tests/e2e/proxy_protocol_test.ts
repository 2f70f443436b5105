/** Waypoints that stand behind a ztunnel of their own (application tunnels): with a PROXY header, and with a port alone. */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { formatIp } from "../../src/mesh/ip.ts";
import { decodeProxyHeader, type ProxyAddress, TLV_SOURCE_IDENTITY } from "../../src/protocol/proxy_protocol.ts";
import { APP_PORT } from "./support/exchange.ts";
import { acceptOne, type Family, TestMesh, type TestPod } from "./support/mesh.ts";
import type { Peer } from "./support/peer.ts";

const TUNNEL_PORT = 15088;
const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b, labels: { app: server } }
  - name: proxied
    namespace: city
    serviceAccount: proxied
    node: b
    labels: { app: proxied }
    applicationTunnel: { protocol: PROXY, port: ${TUNNEL_PORT} }
  - name: plain
    namespace: city
    serviceAccount: plain
    node: b
    labels: { app: plain }
    applicationTunnel: { protocol: NONE, port: ${TUNNEL_PORT} }
services:
  # A waypoint's service has no ports of its own: all traffic comes by the tunnel.
  - { name: proxied, namespace: city, selector: { app: proxied }, ports: {} }
  - { name: plain, namespace: city, selector: { app: plain }, ports: {} }
  - name: by-proxied
    namespace: city
    selector: { app: server }
    ports: { 80: ${APP_PORT} }
    waypoint: { destination: city/proxied.city.svc.cluster.local, hboneMtlsPort: 15008 }
  - name: by-plain
    namespace: city
    selector: { app: server }
    ports: { 80: ${APP_PORT} }
    waypoint: { destination: city/plain.city.svc.cluster.local, hboneMtlsPort: 15008 }
policies:
  - { name: only-client, namespace: city, selector: { app: proxied }, action: Allow, rules: [[[{ principals: [{ Exact: cluster.local/ns/town/sa/client }] }]]] }
`;

let mesh: TestMesh;
let client: TestPod;
const open: Peer[] = [];
before(async () => {
  mesh = await TestMesh.start(FILE);
  client = mesh.pod("client");
});
after(() => mesh?.stop());
afterEach(() => {
  for (const peer of open.splice(0)) peer.close();
});

async function connect(waypoint: string, service: string, family: Family = "ipv4"): Promise<readonly [Peer, Peer]> {
  const pair = await acceptOne(
    mesh.pod(waypoint),
    TUNNEL_PORT,
    () => client.connect(mesh.vip(service, family), 80),
  );
  open.push(...pair);
  return pair;
}

const shown = (address: ProxyAddress | undefined) => address && formatIp(address.ip);

/** Takes the header off the front of what the application gets. */
async function readHeader(application: Peer) {
  const prefix = await application.readBytes(16);
  const rest = await application.readBytes(prefix[14] << 8 | prefix[15]);
  const header = decodeProxyHeader(new Uint8Array([...prefix, ...rest]));
  assert.ok(header.kind === "header");
  return header;
}

for (const family of ["ipv4", "ipv6"] as const) {
  test(`PROXY tunnel, ${family}: over loopback, with the client, the service and the client's identity before the bytes`, async () => {
    const [peer, application] = await connect("proxied", "by-proxied", family);
    assert.equal(application.remote.ip, family === "ipv4" ? "127.0.0.1" : "::1");
    peer.write("hello");
    const header = await readHeader(application);
    assert.equal(shown(header.source), client.ip(family));
    assert.equal(shown(header.destination), mesh.vip("by-proxied", family));
    assert.equal(header.destination?.port, 80);
    assert.deepEqual(header.tlvs.map(({ type, value }) => [type, new TextDecoder().decode(value)]), [
      [TLV_SOURCE_IDENTITY, client.identity],
    ]);
    assert.equal(await application.read(5), "hello");
    application.write("hello back");
    application.finish();
    assert.deepEqual(await peer.readToEnd(), { text: "hello back", end: "eof" });
    peer.finish();
    assert.equal(await application.ended(), "eof");
  });
}

test("PROXY tunnel: the header comes before anything else, though the client says nothing", async () => {
  const [, application] = await connect("proxied", "by-proxied");
  assert.notEqual((await readHeader(application)).source, undefined);
});

test("PROXY tunnel, LOCALHOST_APP_TUNNEL=false: the client's own address, and the header all the same", async () => {
  const node = mesh.node("b");
  node.ztunnel.kill("SIGTERM");
  await node.ztunnel.exit();
  await node.start({ LOCALHOST_APP_TUNNEL: "false" });
  const [, application] = await connect("proxied", "by-proxied");
  assert.equal(application.remote.ip, client.ip());
  assert.equal(shown((await readHeader(application)).source), client.ip());
});

test("application tunnel without PROXY: the bytes alone, from the client's own address, at the tunnel's port", async () => {
  const [peer, application] = await connect("plain", "by-plain");
  assert.equal(application.remote.ip, client.ip());
  peer.write("hello");
  assert.equal(await application.read(5), "hello");
});
