/** Workloads that have a hostname and no address, as ServiceEntries with DNS resolution make them: looked up when a connection needs one. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ECONNRESET } from "../../src/platform/errno.ts";
import { RCODE, TYPE } from "../../src/protocol/dns/mod.ts";
import { a, NameServer } from "./support/dns_peer.ts";
import { APP_PORT } from "./support/exchange.ts";
import { acceptOne, TestMesh, type TestPod } from "./support/mesh.ts";
import { eventually } from "./support/wait.ts";

const entry = (name: string, protocol: "TCP" | "HBONE") => `
  - uid: cluster/networking.istio.io/ServiceEntry/city/${name}
    name: ${name}
    namespace: city
    hostname: ${name}.example
    workloadIps: []
    protocol: ${protocol}
    serviceAccount: server
    services: { city/${name}.city.svc.cluster.local: {} }`;
const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b }
  - { name: resolver, namespace: wild, node: b, captured: false }
workloads:${["plain", "meshed", "gone"].map((name) => entry(name, name === "meshed" ? "HBONE" : "TCP")).join("")}
services:
${
  ["plain", "meshed", "gone"].map((name) => `  - { name: ${name}, namespace: city, ports: { 80: ${APP_PORT} } }`).join(
    "\n",
  )
}
`;

let mesh: TestMesh;
let client: TestPod;
let server: TestPod;
let names: NameServer;
before(async () => {
  mesh = await TestMesh.create(FILE);
  client = mesh.pod("client");
  server = mesh.pod("server");
  // ztunnel's own name servers are those of its own container: here the sandbox, whose mounts are its own.
  const file = join(mesh.directory, "resolv.conf");
  await writeFile(file, `nameserver ${mesh.pod("resolver").ip()}\noptions timeout:1 attempts:1\n`);
  await mesh.run({ node: "a" }, ["mount", "--bind", file, "/etc/resolv.conf"]);
  names = new NameServer(mesh.pod("resolver"), ({ question: { name, type } }) => {
    if (name === "gone.example") return { rcode: RCODE.NXDomain };
    return { answers: type === TYPE.A ? [a(name, server.ip())] : [] };
  });
  await Promise.all(mesh.nodes.map((node) => node.start()));
});
after(async () => {
  names?.close();
  await mesh?.stop();
});

for (const [name, address] of [["plain", "dst.addr"], ["meshed", "dst.hbone_addr"]] as const) {
  test(`hostname, ${name}: looked up by ztunnel, then the way of every destination; counted for each connection`, async () => {
    for (let i = 1; i <= 2; i++) {
      const { ztunnel } = mesh.node("a");
      const mark = ztunnel.mark;
      const [peer, application] = await acceptOne(server, APP_PORT, () => client.connect(mesh.vip(name), 80));
      peer.write("hello");
      assert.equal(await application.read(5), "hello");
      peer.finish();
      application.finish();
      assert.equal(await application.ended(), "eof");
      peer.close();
      application.close();
      const { fields } = await ztunnel.access(({ fields }) => fields.direction === "outbound", mark);
      assert.equal(fields[address], `${server.ip()}:${APP_PORT}`);
      assert.equal(fields["dst.service"], `${name}.city.svc.cluster.local`);
      await eventually(async () => {
        const counted = (await mesh.node("a").metrics()).find((sample) =>
          sample.name === "istio_on_demand_dns_total" && sample.labels.hostname === `${name}.example`
        );
        assert.equal(counted?.value, i);
        assert.equal(counted?.labels.source_workload, "client");
      });
    }
    const asked = names.asked.filter(({ question }) => question.name === `${name}.example` && question.type === TYPE.A);
    assert.equal(asked.length, 1, "the second connection has its address from the cache");
  });
}

test("hostname that nobody has: a reset, and the log says which name", async () => {
  const { ztunnel } = mesh.node("a");
  const mark = ztunnel.mark;
  assert.equal(await client.refusal(mesh.vip("gone"), 80), ECONNRESET);
  const { fields, message } = await ztunnel.access(({ fields }) => fields.error !== undefined, mark);
  assert.equal(message, "connection failed");
  assert.match(fields.error!, /gone\.example/);
});
