/** Dedicated mode: one workload per process, listeners in the process' own network namespace (reference ztunnel 1.2). */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { acceptOne, TestMesh, type TestPod } from "./support/mesh.ts";
import { ZtunnelProcess } from "./support/ztunnel_process.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b }
`;

let mesh: TestMesh;
let client: TestPod;
let server: TestPod;
before(async () => {
  mesh = await TestMesh.create(FILE);
  client = mesh.pod("client");
  server = mesh.pod("server");
  // The client's node is served by a shared ztunnel; the server has one of its own, in its own namespace.
  await mesh.node("a").start();
});
after(() => mesh?.stop());

/** A ztunnel beside an application, in its pod. */
function dedicated(pod: TestPod, more: Readonly<Record<string, string>> = {}): Promise<ZtunnelProcess> {
  const { name, namespace, serviceAccount, node } = pod.spec;
  const env = {
    LOCAL_CONTROL: mesh.node(node).socket,
    NODE_NAME: node,
    PROXY_MODE: "dedicated",
    PROXY_WORKLOAD_INFO: `${namespace}/${name}/${serviceAccount}`,
    ZTUNNEL_WORKER_THREADS: "1",
    RUST_LOG: "info",
    // The pod's redirection rules let what has this mark pass; without it the proxy would meet itself.
    PACKET_MARK: "1337",
    ...more,
  };
  return ZtunnelProcess.start(mesh.sandbox, node, env, undefined, undefined, { pod: name, namespace });
}

test("dedicated, a ztunnel in the server's own namespace: mTLS from a shared one, both logs", async () => {
  const ztunnel = await dedicated(server);
  mesh.node("b").ztunnel = ztunnel;
  await ztunnel.line((line) => line.includes("pod served"));
  const [peer, app] = await acceptOne(server, 8080, () => client.connect(server.ip(), 8080));
  peer.write("hello");
  assert.equal(await app.read(5), "hello");
  peer.close();
  app.close();
  const { fields } = await ztunnel.access(({ fields }) => fields.direction === "inbound");
  assert.equal(fields["src.identity"], client.identity);
  assert.equal(fields["dst.identity"], server.identity);
  ztunnel.kill("SIGTERM");
  assert.deepEqual(await ztunnel.exit(), { code: 0, signal: null });
});

test("dedicated, a port that is taken ends the start, and says which", async () => {
  const taken = server.listen(15006, (peer) => peer.close());
  const ztunnel = await dedicated(server);
  const { code } = await ztunnel.exit();
  assert.equal(code, 1);
  assert.ok(ztunnel.lines.some((line) => /cannot listen on port 15006: address already in use/.test(line)));
  taken.close();
});

test("dedicated, without PROXY_WORKLOAD_INFO: refused, with the variable's name", async () => {
  const ztunnel = await dedicated(server, { PROXY_WORKLOAD_INFO: "" });
  assert.notEqual((await ztunnel.exit()).code, 0);
  assert.ok(ztunnel.lines.some((line) => line.includes("PROXY_WORKLOAD_INFO")));
});
