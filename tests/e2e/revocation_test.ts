/** Certificate revocation lists in a file that is replaced as Kubernetes replaces it, under real ztunnels. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { TestAuthority } from "../platform/authority.ts";
import { ECONNRESET } from "../../src/platform/errno.ts";
import { acceptOne, TestMesh, type TestPod } from "./support/mesh.ts";
import { eventually } from "./support/wait.ts";
import { ZtunnelProcess } from "./support/ztunnel_process.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b }
`;
const PORT = 7000;

let mesh: TestMesh;
let client: TestPod;
let server: TestPod;
let root: TestAuthority;
let version = 0;

before(async () => {
  mesh = await TestMesh.create(FILE);
  client = mesh.pod("client");
  server = mesh.pod("server");
  const ca = join(mesh.directory, "ca");
  const read = (name: string) => readFileSync(join(ca, name), "utf8");
  root = await TestAuthority.load(read("root-cert.pem"), read("root-key.pem"));
  for (const node of mesh.nodes) {
    mkdirSync(crlDirectory(node.name));
    symlinkSync("..data/ca-crl.pem", crlPath(node.name));
  }
  publish("b", "");
  // Node a begins without the file: an optional volume that is still empty.
  await Promise.all(mesh.nodes.map((node) => node.start({ CRL_PATH: crlPath(node.name) })));
});
after(() => mesh?.stop());

function crlDirectory(node: string): string {
  return join(mesh.directory, `crl-${node}`);
}

function crlPath(node: string): string {
  return join(crlDirectory(node), "ca-crl.pem");
}

/** As the kubelet does it: a new directory, and a symbolic link that is moved to it. */
function publish(node: string, content: string): void {
  const directory = crlDirectory(node);
  const name = `..v${version++}`;
  mkdirSync(join(directory, name));
  writeFileSync(join(directory, name, "ca-crl.pem"), content);
  symlinkSync(name, join(directory, "..data_tmp"));
  renameSync(join(directory, "..data_tmp"), join(directory, "..data"));
}

/** The certificate that a node's ztunnel presents for a pod. */
async function leafOf(node: string, pod: TestPod): Promise<string> {
  const { certificates } = await mesh.node(node).configDump();
  const entry = certificates.find(({ identity }) => identity === pod.identity) as unknown as {
    readonly certChain: readonly { readonly pem: string }[];
  };
  return Buffer.from(entry.certChain[0]!.pem, "base64").toString("utf8");
}

async function rejections(node: string, reporter: string): Promise<number> {
  const samples = await mesh.node(node).metrics();
  return samples
    .filter(({ name, labels }) => name === "istio_crl_policy_rejections_total" && labels.reporter === reporter)
    .reduce((sum, { value }) => sum + value, 0);
}

const connect = () => client.connect(server.ip(), PORT);

/** A connection that works both ways. */
async function pair() {
  const [peer, application] = await acceptOne(server, PORT, connect);
  peer.write("tick");
  assert.equal(await application.read(4), "tick");
  application.write("tock");
  assert.equal(await peer.read(4), "tock");
  return [peer, application] as const;
}

/** Loads of the file since `mark`, as the log tells. */
function loaded(node: string, mark: number): Promise<string> {
  return mesh.node(node).ztunnel.line((line) => line.includes("revocation lists loaded"), mark);
}

for (
  const { node, reporter, other, revoked } of [
    { node: "a", reporter: "source", other: "b", revoked: () => server },
    { node: "b", reporter: "destination", other: "a", revoked: () => client },
  ] as const
) {
  test(`revocation, ${reporter}: a live tunnel ends, a new handshake is refused, and an empty file lifts it`, async () => {
    const { ztunnel } = mesh.node(node);
    const [peer, application] = await pair();
    const mark = ztunnel.mark;
    publish(node, await root.crl([await leafOf(other, revoked())]));
    assert.match(await loaded(node, mark), /lists=1 revoked=1/);
    assert.equal(await peer.ended(), ECONNRESET);
    assert.equal(await application.ended(), ECONNRESET);
    const line = await ztunnel.access((line) => line.fields.error?.includes("CERT_REVOKED") === true, mark);
    assert.equal(line.fields.direction, reporter === "source" ? "outbound" : "inbound");
    assert.equal(await rejections(node, reporter), 1);
    assert.equal(await client.refusal(server.ip(), PORT), ECONNRESET);
    await eventually(async () => assert.equal(await rejections(node, reporter), 2));
    const flagged = (await mesh.node(node).metrics()).some(({ name, labels }) =>
      name === "istio_tcp_connections_closed_total" && labels.response_flags === "CERT_REVOKED"
    );
    assert.ok(flagged);
    for (const end of [peer, application]) end.close();

    const lifted = ztunnel.mark;
    publish(node, "");
    await loaded(node, lifted);
    for (const end of await pair()) end.close();
  });
}

test("revocation, a broken file: what is in force stays, with an error in the log and in the metrics", async () => {
  const { ztunnel } = mesh.node("b");
  let mark = ztunnel.mark;
  publish("b", await root.crl([await leafOf("a", client)]));
  await loaded("b", mark);
  mark = ztunnel.mark;
  publish("b", "-----BEGIN X509 CRL-----\nhalf");
  await ztunnel.line((line) => line.includes("a PEM block is not complete; the last good lists stay in force"), mark);
  assert.equal(await client.refusal(server.ip(), PORT), ECONNRESET);
  const failures = (await mesh.node("b").metrics()).find(({ name }) => name === "ambit_crl_load_failures_total");
  assert.equal(failures?.value, 1);
});

test("revocation, a proxy that starts anew: the lists are in force for its first connection", async () => {
  const node = mesh.node("b");
  publish("b", await root.crl([await leafOf("a", client)]));
  node.ztunnel.kill("SIGKILL");
  await node.ztunnel.exit();
  await node.start({ CRL_PATH: crlPath("b") });
  assert.equal(await client.refusal(server.ip(), PORT), ECONNRESET);
  await eventually(async () => assert.equal(await rejections("b", "destination"), 1));
});

test("revocation, a broken file at the start: the proxy does not start, and says what to do", async () => {
  publish("a", "nonsense");
  const ztunnel = await ZtunnelProcess.start(mesh.sandbox, "a", {
    LOCAL_CONTROL: mesh.node("a").socket,
    NODE_NAME: "a",
    CRL_PATH: crlPath("a"),
    ZTUNNEL_WORKER_THREADS: "1",
  });
  const { code } = await ztunnel.exit();
  assert.notEqual(code, 0);
  assert.ok(ztunnel.lines.some((line) => /neither PEM .* nor DER; to revoke nothing, leave the file empty/.test(line)));
});
