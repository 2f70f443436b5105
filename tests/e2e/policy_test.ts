/** Authorization between real pods: who gets through, what a refused client sees, what both proxies say of it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ECONNRESET } from "../../src/platform/errno.ts";
import { APP_PORT, socketAddress } from "./support/exchange.ts";
import { acceptOne, type Family, TestMesh, type TestPod } from "./support/mesh.ts";
import { minus, type Traffic } from "./support/metrics.ts";
import { eventually } from "./support/wait.ts";
import { Stopwatch } from "../support/stopwatch.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: other, namespace: town, serviceAccount: other, node: a }
  - { name: stranger, namespace: wild, serviceAccount: stranger, node: a, captured: false }
  - { name: server, namespace: city, serviceAccount: server, node: b, labels: { app: server } }
  - { name: sibling, namespace: city, serviceAccount: sibling, node: b, labels: { app: sibling } }
  - name: waiting
    namespace: port
    serviceAccount: waiting
    node: b
    authorizationPolicies: [port/late]
`;
const OTHER_PORT = 9090;
const CLIENT = "cluster.local/ns/town/sa/client";

/** One policy of the file's vocabulary, as YAML's own JSON. */
function withPolicy(...policies: readonly Readonly<Record<string, unknown>>[]): string {
  return `${FILE}policies: ${JSON.stringify(policies)}\n`;
}

let mesh: TestMesh;
before(async () => {
  mesh = await TestMesh.start(FILE, { env: { AUTHZ_POLICY_INFO_LOGGING: "true" } });
  for (const name of ["server", "sibling", "waiting"]) {
    for (const port of [APP_PORT, OTHER_PORT]) {
      mesh.pod(name).listen(port, (peer) => {
        peer.write("welcome");
        peer.finish();
        void peer.ended(60_000).then(() => peer.close(), () => {});
      });
    }
  }
});
after(() => mesh?.stop());

type Verdict = "allowed" | "denied";

async function ask(client: TestPod, ip: string, port: number, timeoutMs?: number): Promise<Verdict> {
  const end = await client.refusal(ip, port, timeoutMs);
  if (end === "eof") return "allowed";
  assert.equal(end, ECONNRESET);
  return "denied";
}

type Question = readonly [client: string, server: string, port: number, Verdict];
const CASES: readonly (readonly [name: string, policy: Readonly<Record<string, unknown>>, Question[]])[] = [
  ["DENY by principal: only that client is refused", {
    name: "not-client",
    namespace: "city",
    selector: { app: "server" },
    action: "Deny",
    rules: [[[{ principals: [{ Exact: CLIENT }] }]]],
  }, [
    ["client", "server", APP_PORT, "denied"],
    ["other", "server", APP_PORT, "allowed"],
    ["stranger", "server", APP_PORT, "allowed"],
    ["client", "sibling", APP_PORT, "allowed"],
  ]],
  ["ALLOW: everybody else is refused, without an identity too", {
    name: "only-client",
    namespace: "city",
    selector: { app: "server" },
    action: "Allow",
    rules: [[[{ principals: [{ Exact: CLIENT }] }]]],
  }, [
    ["client", "server", APP_PORT, "allowed"],
    ["other", "server", APP_PORT, "denied"],
    ["stranger", "server", APP_PORT, "denied"],
    ["other", "sibling", APP_PORT, "allowed"],
  ]],
  ["namespace scope: all workloads of the namespace, no other", {
    name: "no-town",
    namespace: "city",
    scope: "Namespace",
    action: "Deny",
    rules: [[[{ namespaces: [{ Exact: "town" }] }]]],
  }, [
    ["client", "server", APP_PORT, "denied"],
    ["client", "sibling", APP_PORT, "denied"],
    ["stranger", "server", APP_PORT, "allowed"],
  ]],
  ["global scope: every workload", {
    name: "no-client",
    namespace: "istio-system",
    scope: "Global",
    action: "Deny",
    rules: [[[{ serviceAccounts: [{ namespace: "town", serviceAccount: "client" }] }]]],
  }, [
    ["client", "server", APP_PORT, "denied"],
    ["client", "sibling", APP_PORT, "denied"],
    ["other", "server", APP_PORT, "allowed"],
  ]],
  ["port: the other ports stay open", {
    name: "no-app-port",
    namespace: "city",
    selector: { app: "server" },
    action: "Deny",
    rules: [[[{ destinationPorts: [APP_PORT] }]]],
  }, [
    ["client", "server", APP_PORT, "denied"],
    ["client", "server", OTHER_PORT, "allowed"],
    ["stranger", "server", APP_PORT, "denied"],
  ]],
  ["STRICT: plaintext is refused, mTLS is not", {
    name: "strict",
    namespace: "city",
    selector: { app: "server" },
    action: "Deny",
    rules: [[[{ notPrincipals: [{ Presence: [] }] }]]],
  }, [
    ["stranger", "server", APP_PORT, "denied"],
    ["client", "server", APP_PORT, "allowed"],
    ["stranger", "sibling", APP_PORT, "allowed"],
  ]],
  ["dry run: nobody is refused", {
    name: "trial",
    namespace: "city",
    selector: { app: "server" },
    action: "Deny",
    dryRun: true,
    rules: [[[{ principals: [{ Exact: CLIENT }] }]]],
  }, [["client", "server", APP_PORT, "allowed"]]],
];

for (const [name, policy, questions] of CASES) {
  test(`policy, ${name}`, async () => {
    await mesh.apply(withPolicy(policy));
    const mark = mesh.node("b").ztunnel.mark;
    for (const family of ["ipv4", "ipv6"] as const) {
      for (const [client, server, port, verdict] of questions) {
        const answer = await ask(mesh.pod(client), mesh.pod(server).ip(family), port);
        assert.equal(answer, verdict, `${client} to ${server}:${port} over ${family}`);
      }
    }
    if (policy.dryRun === true) {
      const line = await mesh.node("b").ztunnel.line((text) => text.includes("dry-run"), mark);
      assert.match(line, /city\/trial/);
    }
  });
}

for (const family of ["ipv4", "ipv6"] as const) {
  test(`policy, what is told of a refusal, ${family}: the server's side names policy and rule, the client's side the status`, async () => {
    await mesh.apply(withPolicy(CASES[0]![1]));
    const [client, server] = [mesh.pod("client"), mesh.pod("server")];
    const [a, b] = [mesh.node("a"), mesh.node("b")];
    const labels = { source_workload: "client", destination_workload: "server" };
    const count = async (): Promise<[source: Traffic, destination: Traffic]> => [
      await a.traffic({ ...labels, reporter: "source", response_flags: "CONNECT" }),
      await b.traffic({ ...labels, reporter: "destination", response_flags: "DENY" }),
    ];
    const marks = [a.ztunnel.mark, b.ztunnel.mark];
    const before = await count();

    assert.equal(await ask(client, server.ip(family), APP_PORT), "denied");

    const isThis = ({ fields }: { readonly fields: Readonly<Record<string, string>> }) =>
      fields["dst.hbone_addr"] === socketAddress(server.ip(family), APP_PORT);
    const outbound = await a.ztunnel.access(isThis, marks[0]!);
    const inbound = await b.ztunnel.access(isThis, marks[1]!);
    assert.equal(inbound.level, "error");
    assert.match(
      inbound.fields.error!,
      /connection closed due to policy rejection: explicitly denied by: city\/not-client/,
    );
    assert.match(
      inbound.fields.error!,
      /rule 1 of the DENY policy city\/not-client matches spiffe:\/\/cluster.local\/ns\/town/,
    );
    assert.equal(inbound.fields["src.identity"], client.identity);
    assert.equal(inbound.fields.bytes_recv, "0");
    assert.equal(outbound.level, "error");
    assert.match(outbound.fields.error!, /^http status: 401 Unauthorized/);
    await eventually(async () => {
      const now = await count();
      assert.equal(minus(now[0], before[0]).closed, 1);
      assert.equal(minus(now[1], before[1]).closed, 1);
    });
  });
}

test("policy, refusal of plaintext: the log names the policy, and no identity", async () => {
  await mesh.apply(withPolicy(CASES[5]![1]));
  const { ztunnel } = mesh.node("b");
  const mark = ztunnel.mark;
  assert.equal(await ask(mesh.pod("stranger"), mesh.pod("server").ip(), APP_PORT), "denied");
  const { fields, level } = await ztunnel.access(({ fields }) => fields["src.workload"] === "stranger", mark);
  assert.equal(level, "error");
  assert.match(fields.error!, /explicitly denied by: city\/strict/);
  assert.equal(fields["src.identity"], undefined);
  assert.equal(fields["dst.addr"], socketAddress(mesh.pod("server").ip(), APP_PORT));
});

for (const [client, how] of [["client", "HBONE"], ["stranger", "plaintext"]] as const) {
  test(`policy, change while a connection is open, ${how}: closed if it is not allowed any more, kept if it is`, async () => {
    await mesh.apply(FILE);
    const server = mesh.pod("server");
    const port = 7070;
    const open = () => acceptOne(server, port, () => mesh.pod(client).connect(server.ip(), port));
    const [peer, application] = await open();
    peer.write("before");
    assert.equal(await application.read(6), "before");
    const { ztunnel } = mesh.node("b");
    const mark = ztunnel.mark;

    // About another port: nothing happens to this one.
    await mesh.apply(withPolicy(CASES[4]![1]));
    application.write("still here");
    assert.equal(await peer.read(10), "still here");

    const deny = { ...CASES[4]![1], name: "no-late-port", rules: [[[{ destinationPorts: [port] }]]] };
    await mesh.apply(withPolicy(deny));
    assert.equal(await peer.ended(), ECONNRESET);
    assert.equal(await application.ended(), ECONNRESET);
    const { fields, level } = await ztunnel.access(({ fields }) => fields["src.workload"] === client, mark);
    assert.equal(level, "error");
    assert.match(fields.error!, /^connection closed due to policy change: explicitly denied by: city\/no-late-port/);
    assert.equal(fields.bytes_recv, "6");
    assert.equal(fields.bytes_sent, "10");
    assert.equal(await mesh.pod(client).refusal(server.ip(), port), ECONNRESET);

    await mesh.apply(FILE);
    const [again, accepted] = await open();
    again.write("after");
    assert.equal(await accepted.read(5), "after");
    for (const end of [again, accepted]) end.close();
  });
}

for (const [client, family] of [["client", "ipv4"], ["stranger", "ipv6"]] as readonly [string, Family][]) {
  test(`policy, named but unknown, ${family}: a connection from ${client} waits for it and gets in as soon as it arrives`, async () => {
    await mesh.apply(FILE);
    const server = mesh.pod("waiting");
    const node = mesh.node("b");
    const answer = ask(mesh.pod(client), server.ip(family), APP_PORT);
    // It is at the door: the server's proxy has it in its list.
    await eventually(async () => {
      const { workloadState } = await node.configDump();
      assert.equal(workloadState[server.spec.uid]!.connections.inbound.length, 1);
    });
    const startedMs = performance.now();
    await mesh.apply(
      withPolicy({ name: "late", namespace: "port", scope: "WorkloadSelector", action: "Deny", rules: [] }),
    );
    assert.equal(await answer, "allowed");
    assert.ok(performance.now() - startedMs < 3_000, "it waited on although the policy was there");
  });
}

test("policy, named but unknown: refused after 5 s, and the log says which policy is missing", async () => {
  await mesh.apply(FILE);
  const { ztunnel } = mesh.node("b");
  const mark = ztunnel.mark;
  const watch = new Stopwatch();
  assert.equal(await ask(mesh.pod("client"), mesh.pod("waiting").ip(), APP_PORT), "denied");
  const { ms, wallMs } = watch.stop();
  assert.ok(wallMs > 4_500 && ms < 8_000, `refused after ${Math.round(ms)} ms`);
  const { fields } = await ztunnel.access(({ fields }) => fields["dst.workload"] === "waiting", mark);
  assert.match(fields.error!, /port\/late/);
});
