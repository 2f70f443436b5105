/** What a pod's port 15008 answers to a client that is no ztunnel: who may come in, what may be asked, what is told. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createLocalCa } from "../../src/control/local/ca.ts";
import type { TlsMaterial } from "../../src/platform/tls_context.ts";
import { ALERT, clientHello, readAlert } from "./support/client_hello.ts";
import { APP_PORT, socketAddress } from "./support/exchange.ts";
import { issue, TestMesh, type TestPod } from "./support/mesh.ts";
import { RawTunnel } from "./support/raw_hbone.ts";
import type { AccessLine } from "./support/ztunnel_process.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: prober, namespace: wild, node: a, captured: false }
  - { name: server, namespace: city, serviceAccount: server, node: b, labels: { app: server } }
  - { name: neighbour, namespace: city, serviceAccount: neighbour, node: b }
services:
  - { name: shop, namespace: city, selector: { app: server }, ports: { 80: ${APP_PORT} } }
policies:
  - name: no-villain
    namespace: city
    selector: { app: server }
    action: Deny
    rules: [[[{ principals: [{ Exact: cluster.local/ns/town/sa/villain }] }]]]
`;
const CLIENT = "spiffe://cluster.local/ns/town/sa/client";

let mesh: TestMesh;
let prober: TestPod;
let server: TestPod;
let material: TlsMaterial;
before(async () => {
  mesh = await TestMesh.start(FILE);
  prober = mesh.pod("prober");
  server = mesh.pod("server");
  material = await issue(mesh.ca, CLIENT);
  server.listen(APP_PORT, (peer) => {
    peer.write("welcome");
    void peer.ended(60_000).then((end) => {
      if (end === "eof") peer.write(" goodbye");
      peer.finish();
      peer.close();
    }, () => {});
  });
});
after(() => mesh?.stop());

/** What the server's ztunnel says of the prober after the mark. */
function told(mark: number, test: (line: AccessLine) => boolean = () => true): Promise<AccessLine> {
  return mesh.node("b").ztunnel.access((line) => line.fields["src.addr"]!.includes(prober.ip()) && test(line), mark);
}

for (const family of ["ipv4", "ipv6"] as const) {
  test(`tunnel, CONNECT to the pod's own address, ${family}: 200 with the destination's baggage, bytes both ways, half-close`, async () => {
    const mark = mesh.node("b").ztunnel.mark;
    const tunnel = await RawTunnel.connect(prober, server.ip(family), material);
    assert.deepEqual(tunnel.serverUris, [server.identity]);
    const stream = await tunnel.connect(socketAddress(server.ip(family), APP_PORT)).response();
    assert.equal(stream.status, "200");
    const baggage = stream.fields!.baggage!.split(",");
    for (
      const item of [
        "k8s.cluster.name=Kubernetes",
        "k8s.namespace.name=city",
        "k8s.pod.name=server",
        "service.name=server",
      ]
    ) {
      assert.ok(baggage.includes(item), `${item} is not in ${baggage}`);
    }
    await stream.read("welcome");
    stream.send("hello", true);
    await stream.read("welcome goodbye");
    assert.equal(await stream.ended(), "end");
    tunnel.close();
    const { fields, level } = await mesh.node("b").ztunnel.access(
      (line) => line.fields["src.addr"]!.includes(prober.ip(family)),
      mark,
    );
    assert.equal(level, "info");
    assert.equal(fields["src.identity"], CLIENT, "the certificate counts, not the address");
    assert.equal(fields["dst.addr"], socketAddress(server.ip(family), 15008));
    assert.equal(fields["dst.hbone_addr"], socketAddress(server.ip(family), APP_PORT));
    assert.equal(fields.bytes_recv, "5");
    assert.equal(fields.bytes_sent, "15");
  });
}

test("tunnel, CONNECT to a service's name: 200, at the pod's own port for it", async () => {
  const tunnel = await RawTunnel.connect(prober, server.ip(), material);
  const mark = mesh.node("b").ztunnel.mark;
  const stream = await tunnel.connect("shop.city.svc.cluster.local:80").response();
  assert.equal(stream.status, "200");
  await stream.read("welcome");
  stream.send("", true);
  await stream.ended();
  tunnel.close();
  const { fields } = await told(mark, (line) => line.fields["dst.hbone_addr"]!.startsWith("shop."));
  assert.equal(fields["dst.hbone_addr"], "shop.city.svc.cluster.local:80");
  assert.equal(fields["dst.service"], "shop.city.svc.cluster.local");
});

const REFUSALS: readonly (readonly [what: string, authority: () => string, status: string, words: () => RegExp])[] = [
  ["CONNECT without a port", () => server.ip(), "400", () => /port/],
  ["CONNECT to port 0", () => `${server.ip()}:0`, "400", () => /port/],
  [
    "CONNECT to another pod's address",
    () => socketAddress(mesh.pod("neighbour").ip(), APP_PORT),
    "400",
    () => new RegExp(`ip mismatch: ${server.ip()} != ${mesh.pod("neighbour").ip()}`),
  ],
  ["CONNECT to port 15001", () => `${server.ip()}:15001`, "503", () => /attempted recursive call to ourselves/],
  ["CONNECT to port 15006", () => `${server.ip()}:15006`, "503", () => /attempted recursive call to ourselves/],
  ["CONNECT to port 15008", () => `${server.ip()}:15008`, "503", () => /attempted recursive call to ourselves/],
  ["CONNECT to a service that is not there", () => "none.city.svc.cluster.local:80", "503", () => /none\.city/],
  ["CONNECT to a port that the service does not have", () => "shop.city.svc.cluster.local:81", "503", () => /port/],
  [
    "CONNECT to a port where nothing listens",
    () => `${server.ip()}:9`,
    "503",
    () => /cannot reach the application at .*:9/,
  ],
];

for (const [what, authority, status, words] of REFUSALS) {
  test(`tunnel, ${what}: ${status}, and the tunnel goes on`, async () => {
    const mark = mesh.node("b").ztunnel.mark;
    const tunnel = await RawTunnel.connect(prober, server.ip(), material);
    const stream = await tunnel.connect(authority()).response();
    assert.equal(stream.status, status);
    assert.equal(stream.fields!.baggage, undefined);
    assert.equal(await stream.ended(), "end");
    // The tunnels of tests before may still be ending.
    assert.match((await told(mark, ({ fields }) => fields.error !== undefined)).fields.error!, words());
    const next = await tunnel.connect(socketAddress(server.ip(), APP_PORT)).response();
    assert.equal(next.status, "200");
    next.cancel();
    tunnel.close();
  });
}

test("tunnel, a request that is no CONNECT: 400", async () => {
  const mark = mesh.node("b").ztunnel.mark;
  const tunnel = await RawTunnel.connect(prober, server.ip(), material);
  const stream = await tunnel.ask([":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x"], true)
    .response();
  assert.equal(stream.status, "400");
  tunnel.close();
  assert.match((await told(mark, ({ fields }) => fields.error !== undefined)).fields.error!, /only CONNECT/);
});

test("tunnel, an identity that a policy denies: 401, named in the log", async () => {
  const mark = mesh.node("b").ztunnel.mark;
  const villain = await issue(mesh.ca, "spiffe://cluster.local/ns/town/sa/villain");
  const tunnel = await RawTunnel.connect(prober, server.ip(), villain);
  const stream = await tunnel.connect(socketAddress(server.ip(), APP_PORT)).response();
  assert.equal(stream.status, "401");
  assert.equal(stream.fields!.baggage, undefined);
  tunnel.close();
  const { fields } = await told(mark, (line) => line.fields.error !== undefined);
  assert.match(fields.error!, /explicitly denied by: city\/no-villain/);
  assert.equal(fields["src.identity"], "spiffe://cluster.local/ns/town/sa/villain");
});

test("tunnel, the policy is asked before the application is: 401 also where nothing listens", async () => {
  const villain = await issue(mesh.ca, "spiffe://cluster.local/ns/town/sa/villain");
  const tunnel = await RawTunnel.connect(prober, server.ip(), villain);
  assert.equal((await tunnel.connect(`${server.ip()}:9`).response()).status, "401");
  tunnel.close();
});

test("tunnel, a client of another network: known by its baggage, not by its address", async () => {
  const mark = mesh.node("b").ztunnel.mark;
  const tunnel = await RawTunnel.connect(prober, server.ip(), material);
  const baggage = "k8s.cluster.name=elsewhere,k8s.namespace.name=distant,k8s.deployment.name=cart,service.name=cart";
  const stream = await tunnel.connect(
    socketAddress(server.ip(), APP_PORT),
    "x-forwarded-network",
    "other",
    "baggage",
    baggage,
  ).response();
  assert.equal(stream.status, "200");
  stream.send("", true);
  await stream.ended();
  tunnel.close();
  const { fields } = await told(mark, (line) => line.fields["src.namespace"] !== "wild");
  assert.equal(fields["src.namespace"], "distant");
  assert.equal(fields["src.cluster"], "elsewhere");
  assert.equal(fields["src.identity"], CLIENT);
});

const STRANGERS: readonly (readonly [
  who: string,
  make: () => Promise<TlsMaterial>,
  presents: "identity" | "nothing",
  words: RegExp,
])[] = [
  ["without a certificate", () => Promise.resolve(material), "nothing", /did not return a certificate|no certificate/],
  [
    "of a foreign root",
    async () => {
      const foreign = await issue(await createLocalCa(), CLIENT);
      return { ...foreign, roots: material.roots };
    },
    "identity",
    /certificate verification failed/,
  ],
  ["with an expired certificate", async () => issue(await mesh.createCa(-1_000), CLIENT), "identity", /expired/],
  [
    "of another trust domain",
    () => issue(mesh.ca, "spiffe://elsewhere.example/ns/town/sa/client"),
    "identity",
    /not of the trust domain cluster\.local.*elsewhere\.example/,
  ],
];

for (const [who, make, presents, words] of STRANGERS) {
  test(`tunnel, a client ${who}: refused in the handshake, with a line in the log`, async () => {
    const mark = mesh.node("b").ztunnel.mark;
    const tunnel = await RawTunnel.connect(prober, server.ip(), await make(), presents);
    // In TLS 1.3 the client is done before the server has seen its certificate: it is told after that.
    await tunnel.ended();
    const { fields, level, message } = await told(mark, (line) => line.fields.error !== undefined);
    assert.equal(level, "warn");
    assert.equal(message, "connection failed");
    assert.equal(fields.direction, "inbound");
    assert.match(fields.error!, words);
  });
}

for (
  const [what, hello, alert] of [
    ["TLS 1.2", clientHello("1.2", ["h2"]), ALERT.protocolVersion],
    ["a protocol other than h2", clientHello("1.3", ["http/1.1"]), ALERT.noApplicationProtocol],
  ] as const
) {
  test(`tunnel, a client that offers ${what}: refused with the alert for it`, async () => {
    const mark = mesh.node("b").ztunnel.mark;
    const peer = await prober.connect(server.ip(), 15008);
    peer.write(hello);
    assert.deepEqual(readAlert(await peer.readBytes(7)), alert);
    await peer.ended();
    peer.close();
    assert.match((await told(mark, ({ fields }) => fields.error !== undefined)).fields.error!, /^tls error: /);
  });
}
