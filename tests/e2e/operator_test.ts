/** What an operator sees of denials, and the tools for looking into a running ztunnel: metrics, explain, CPU profile. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gunzipSync } from "node:zlib";
import type { Explanation } from "../../src/mesh/explanation.ts";
import { APP_PORT } from "./support/exchange.ts";
import { acceptOne, TestMesh } from "./support/mesh.ts";
import { eventually } from "./support/wait.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b, labels: { app: server } }
services:
  - { name: shop, namespace: city, selector: { app: server }, ports: { 80: ${APP_PORT} } }
`;
const ADMIN = 15000;
const RULES = [
  [[{ principals: [{ Exact: "cluster.local/ns/town/sa/nobody" }] }]],
  [[{ namespaces: [{ Exact: "town" }] }], [{ destinationPorts: [APP_PORT] }]],
];
const withPolicies = (...policies: readonly Readonly<Record<string, unknown>>[]) =>
  `${FILE}policies: ${JSON.stringify(policies)}\n`;
const policy = (name: string, fields: Readonly<Record<string, unknown>>) => ({
  name,
  namespace: "city",
  scope: "Namespace",
  rules: RULES,
  ...fields,
});

let mesh: TestMesh;
before(async () => {
  mesh = await TestMesh.start(FILE);
  mesh.pod("server").listen(APP_PORT, (peer) => void peer.ended(60_000).then(() => peer.close(), () => {}));
});
after(() => mesh?.stop());

async function explain(node: string, to: string): Promise<Explanation> {
  const { status, body } = await mesh.node(node).http(
    ADMIN,
    `/debug/explain?from=town/client&to=${encodeURIComponent(to)}`,
  );
  assert.equal(status, 200, body);
  return JSON.parse(body);
}

/** The counts of one family at the server's node, by the labels that matter. */
async function counts(name: string): Promise<Record<string, number>> {
  const samples = (await mesh.node("b").metrics()).filter((sample) => sample.name === name);
  return Object.fromEntries(samples.map(({ labels, value }) => {
    const { reason, action, phase, policy, rule, destination_workload, destination_workload_namespace } = labels;
    return [
      [reason ?? action, phase ?? "", policy, rule, `${destination_workload_namespace}/${destination_workload}`]
        .join(" "),
      value,
    ];
  }));
}

const client = () => mesh.pod("client");
const server = () => mesh.pod("server");

test("operator: once it has settled, a ztunnel keeps little of its bundle in memory, and serves", async () => {
  const { pid } = mesh.node("b").ztunnel;
  const program = readlinkSync(`/proc/${pid}/exe`);
  // The single binary carries its code as data: 7 MB of that are read in a start.
  const cleanData = () =>
    readFileSync(`/proc/${pid}/smaps`, "utf8").split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)
      .filter((mapping) => mapping.split("\n", 1)[0].endsWith(program) && / rw-p /.test(mapping))
      .flatMap((mapping) => [...mapping.matchAll(/^(?:Private|Shared)_Clean:\s+(\d+) kB$/gm)])
      .reduce((sum, [, kib]) => sum + Number(kib), 0);
  await eventually(() => assert.ok(cleanData() < 4_096, `${cleanData()} KiB`), 20_000);
  const [peer, application] = await acceptOne(
    server(),
    APP_PORT + 1,
    () => client().connect(server().ip(), APP_PORT + 1),
  );
  for (const end of [peer, application]) end.close();
});

test("operator: a denied connection is counted by policy and rule, and explained as it was decided", async () => {
  await mesh.apply(withPolicies(policy("not-town", { action: "Deny" })));
  assert.notEqual(await client().refusal(server().ip(), APP_PORT), "eof");
  const expected = { "deny_policy open city/not-town 2 city/server": 1 };
  await eventually(async () => assert.deepEqual(await counts("ambit_authorization_denied_total"), expected));

  for (const node of ["a", "b"]) {
    const found = await explain(node, "shop.city.svc.cluster.local:80");
    assert.equal(found.outcome, "denied");
    assert.equal(found.summary, "city/server: explicitly denied by: city/not-town");
    assert.equal(found.destinations[0].local, node === "b");
    const [finding] = found.destinations[0].policies;
    assert.deepEqual([finding.rule, finding.rules.map(({ matches }) => matches)], [2, [false, true]]);
    assert.match(
      finding.rules[0].clauses[0].alternatives[0].failed[0],
      /the connection has ".*\/ns\/town\/sa\/client"/,
    );
  }
});

test("operator: that no ALLOW policy matched is said, in the metric and in the explanation", async () => {
  await mesh.apply(
    withPolicies(policy("only-village", { action: "Allow", rules: [[[{ namespaces: [{ Exact: "village" }] }]]] })),
  );
  assert.notEqual(await client().refusal(server().ip(), APP_PORT), "eof");
  await eventually(async () => {
    assert.equal((await counts("ambit_authorization_denied_total"))["no_allow_matched open   city/server"], 1);
  });
  const found = await explain("b", `${server().ip()}:${APP_PORT}`.replace(/^(.*:.*):/, "[$1]:"));
  assert.match(found.summary, /allow policies exist, but none allowed/);
  const line = await eventually(() => {
    const found = mesh.node("b").ztunnel.lines.find((line) => line.includes("none allowed"));
    assert.ok(found);
    return found;
  });
  assert.match(line, /no rule of the ALLOW policy city\/only-village matches spiffe:/);
});

test("operator: a policy that ends an open connection is counted as such", async () => {
  await mesh.apply(FILE);
  const [peer, application] = await acceptOne(
    server(),
    APP_PORT + 1,
    () => client().connect(server().ip(), APP_PORT + 1),
  );
  peer.write("x");
  await application.read(1);
  await mesh.apply(withPolicies(policy("late", { action: "Deny", rules: [[]] })));
  await eventually(async () => {
    assert.equal(
      (await counts("ambit_authorization_denied_total"))["deny_policy policy_change city/late 1 city/server"],
      1,
    );
  });
  for (const end of [peer, application]) end.close();
});

test("operator: dry-run policies change nothing and are counted; the explanation says what they would do", async () => {
  await mesh.apply(withPolicies(policy("trial", { action: "Deny", dryRun: true })));
  const peer = await client().connect(server().ip(), APP_PORT);
  await eventually(async () => {
    assert.equal((await counts("ambit_authorization_dry_run_total"))["deny  city/trial 2 city/server"], 1);
  });
  peer.close();
  const found = await explain("b", "shop.city.svc.cluster.local:80");
  assert.equal(found.outcome, "allowed");
  assert.deepEqual(found.destinations[0].ifDryRunEnforced, {
    allowed: false,
    reason: "explicitly denied by: city/trial",
  });
});

test("operator: a question that cannot be answered says why", async () => {
  const ask = async (query: string) => {
    const { status, body } = await mesh.node("a").http(ADMIN, `/debug/explain?${query}`);
    return [status, body];
  };
  assert.deepEqual(await ask("from=town/client"), [
    400,
    "usage: GET /debug/explain?from=NAMESPACE/SERVICEACCOUNT&to=IP:PORT\n",
  ]);
  const [status, text] = await ask("from=town/nobody&to=1.2.3.4:80");
  assert.equal(status, 400);
  assert.match(String(text), /there are the service accounts client/);
});

test("operator: a CPU profile has every thread, traffic goes on meanwhile, and go's tool reads it", async () => {
  await mesh.apply(FILE);
  const profile = mesh.node("a").http(ADMIN, "/debug/pprof/profile?seconds=2&frequency=500");
  const until = performance.now() + 1_500;
  let served = 0;
  while (performance.now() < until) {
    const peer = await client().connect(server().ip(), APP_PORT);
    peer.close();
    served++;
  }
  assert.ok(served > 10, `${served} connections`);
  const { status, headers, bytes } = await profile;
  assert.equal(status, 200);
  assert.equal(headers["content-type"], "application/octet-stream");
  const text = new TextDecoder("latin1").decode(gunzipSync(bytes));
  for (const name of ["[main]", "[worker-0]", "nanoseconds", "turn"]) assert.ok(text.includes(name), name);
  // It was no more than a profile: everything works as before.
  await (await client().connect(server().ip(), APP_PORT)).close();
  if (spawnSync("go", ["version"]).status !== 0) return;
  const directory = mkdtempSync(join(tmpdir(), "ambit-profile-"));
  try {
    writeFileSync(join(directory, "profile.pb.gz"), bytes);
    const top = spawnSync("go", ["tool", "pprof", "-top", join(directory, "profile.pb.gz")], { encoding: "utf8" });
    assert.equal(top.status, 0, top.stderr);
    assert.match(top.stdout, /Type: cpu/);
    assert.match(top.stdout, /\[worker-0\]/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("operator: every worker serves, those too that start after readiness", async () => {
  const node = mesh.node("a");
  node.ztunnel.kill("SIGTERM");
  await node.ztunnel.exit();
  await node.start({ ZTUNNEL_WORKER_THREADS: "2" });
  await eventually(async () => {
    const profile = node.http(ADMIN, "/debug/pprof/profile?seconds=1&frequency=500");
    const peers = await Promise.all(Array.from({ length: 40 }, () => client().connect(server().ip(), APP_PORT)));
    const { bytes } = await profile;
    for (const peer of peers) peer.close();
    assert.ok(new TextDecoder("latin1").decode(gunzipSync(bytes)).includes("[worker-1]"), "the second one did nothing");
  }, 20_000);
});
