/** ztunnel's own listener: who scrapes it from a mesh pod comes by mTLS, and policies count (reference ztunnel 1.2, 11.1 "test_hbone_metrics_access"). */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { MeshResources, WorkloadUid } from "../../src/mesh/mod.ts";
import { createPolicy } from "../../src/mesh/mod.ts";
import { httpOver } from "./support/http.ts";
import { TestMesh, type TestPod } from "./support/mesh.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b }
`;
const SELF = { POD_NAME: "ztunnel-b", POD_NAMESPACE: "istio-system", SERVICE_ACCOUNT: "ztunnel" };
const IDENTITY = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";

let mesh: TestMesh;
let client: TestPod;
let ip: string;
before(async () => {
  mesh = await TestMesh.create(FILE, { agents: {} });
  client = mesh.pod("client");
  await Promise.all([mesh.node("a").start(), mesh.node("b").start(SELF)]);
  const addresses = await mesh.run({ node: "b" }, ["ip", "-4", "-o", "addr", "show", "scope", "global"]);
  ip = /inet ([0-9.]+)/.exec(addresses)![1]!;
  await setMesh([]);
});
after(() => mesh?.stop());

/** The file's mesh, and in it the ztunnel of node b as istiod would tell of it. */
async function setMesh(policies: MeshResources["policies"]): Promise<void> {
  const { resources } = mesh.file;
  const server = resources.workloads.find(({ name }) => name === "server")!;
  const self = {
    ...server,
    uid: "Kubernetes//Pod/istio-system/ztunnel-b" as WorkloadUid,
    name: "ztunnel-b",
    namespace: "istio-system",
    serviceAccount: "ztunnel",
    workloadName: "ztunnel",
    workloadIps: [ip],
  };
  const all = { ...resources, workloads: [...resources.workloads, self], policies };
  await Promise.all(mesh.nodes.map(({ channel }) => channel.setMesh(all)));
}

test("self listener, a scrape from a mesh pod: by mTLS, with an inbound line of ztunnel's own", async () => {
  const { ztunnel } = mesh.node("b");
  const mark = ztunnel.mark;
  const { status, body } = await httpOver(await client.connect(ip, 15020), "/metrics");
  assert.equal(status, 200);
  assert.match(body, /istio_build/);
  const { fields } = await ztunnel.access(({ fields }) => fields["dst.workload"] === "ztunnel-b", mark);
  assert.equal(fields.direction, "inbound");
  assert.equal(fields["src.identity"], client.identity);
  assert.equal(fields["dst.identity"], IDENTITY);
  assert.equal(fields["dst.hbone_addr"], `${ip}:15020`);
});

test("self listener, it is no pod of the agent: not counted, not listed, and it outlives a snapshot", async () => {
  const node = mesh.node("b");
  const metrics = await node.metrics();
  const active = metrics.find(({ name }) => name === "workload_manager_active_proxy_count");
  assert.equal(active?.value, 1);
  const { workloadState } = await node.configDump();
  assert.deepEqual(Object.keys(workloadState), [mesh.pod("server").spec.uid]);
});

test("self listener, a policy against the client: refused, and said in the log", async () => {
  const deny = createPolicy({
    name: "no-scrapes",
    namespace: "istio-system",
    scope: "Namespace",
    action: "Deny",
    rules: [[[{ destinationPorts: [15020] }]]],
  });
  await setMesh([deny]);
  const { ztunnel } = mesh.node("b");
  const mark = ztunnel.mark;
  assert.notEqual(await client.refusal(ip, 15020), "eof");
  const { fields } = await ztunnel.access(({ fields }) => fields["dst.workload"] === "ztunnel-b", mark);
  assert.match(fields.error ?? "", /explicitly denied by: istio-system\/no-scrapes/);
  await setMesh([]);
});

test("self listener, the proxy's own ports and the admin port are not reachable through it", async () => {
  for (const port of [15008, 15006, 15001, 15000]) assert.notEqual(await client.refusal(ip, port), "eof", `${port}`);
});
