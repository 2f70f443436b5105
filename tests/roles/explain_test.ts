import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { explainConnection } from "../../src/mesh/explain.ts";
import type { Explanation } from "../../src/mesh/explanation.ts";
import { createPolicy, MeshStore, policyKey } from "../../src/mesh/mod.ts";
import { runExplain } from "../../src/roles/explain.ts";
import { formatExplanation } from "../../src/roles/explain_text.ts";
import { client, pod } from "../mesh/builders.ts";

function explanation(action: "Allow" | "Deny", namespace: string): Explanation {
  const web = pod("web", ["10.0.0.2"], { node: "n1", authorizationPolicies: [policyKey("default", "p")] });
  const policy = createPolicy({
    name: "p",
    namespace: "default",
    scope: "WorkloadSelector",
    action,
    rules: [[[{ namespaces: [{ Exact: namespace }] }]]],
  });
  return explainConnection(MeshStore.fromResources({ workloads: [client, web], services: [], policies: [policy] }), {
    client,
    clientIp: "10.0.0.1",
    target: { ip: "10.0.0.2", port: 80 },
    network: "",
    nodeName: "n1",
    ipv6Enabled: true,
    illegalPorts: [],
  });
}

test("explain: reads top to bottom: the answer, the ends, the way, the policies", () => {
  assert.equal(
    formatExplanation(explanation("Deny", "default")),
    `DENIED: default/web: explicitly denied by: default/p

from  default/client (spiffe://cluster.local/ns/default/sa/client), 10.0.0.1
to    10.0.0.2:80

way   by HBONE to 10.0.0.2:15008 (Kubernetes//Pod/default/web)
      asking for 10.0.0.2:80
      which must prove to be spiffe://cluster.local/ns/default/sa/web

end   default/web at 10.0.0.2:80, node n1 (this one): denied, explicitly denied by: default/p
      rule 1 of the DENY policy default/p matches spiffe://cluster.local/ns/default/sa/client (10.0.0.1) to port 80
      sees spiffe://cluster.local/ns/default/sa/client from 10.0.0.1
      policy default/p (DENY, WorkloadSelector): rule 1 matches
`,
  );
  assert.match(
    formatExplanation(explanation("Allow", "shop")),
    /policy default\/p \(ALLOW, WorkloadSelector\): no rule matches\n +rule 1, clause 1: namespaces "shop": the connection has namespace "default"\n/,
  );
});

test("explain: names from the control plane cannot act in a terminal", () => {
  const found = explanation("Deny", "default");
  const text = formatExplanation({ ...found, summary: "\x1b[2Jgone\nnext", notes: ["\u2028"] });
  assert.match(text, /^DENIED: \?\[2Jgone\?next\n/);
});

/** Runs the command against a server that answers so. */
async function ask(status: number, body: string, json = false) {
  let path = "";
  const server = createServer((request, response) => {
    path = request.url ?? "";
    response.writeHead(status);
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  let out = "";
  let err = "";
  const output = { out: (text: string) => out += text, err: (text: string) => err += text };
  try {
    const code = await runExplain({ from: "a/b", to: "1.2.3.4:80", address, json }, output);
    return { code, out, err, path };
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}

test("explain: exit codes are 0 for allowed, 1 for denied, 2 for no answer", async () => {
  const denied = explanation("Deny", "default");
  const yes = await ask(200, JSON.stringify(explanation("Deny", "other")));
  assert.deepEqual([yes.code, yes.err], [0, ""]);
  assert.equal(yes.path, "/debug/explain?from=a%2Fb&to=1.2.3.4%3A80");
  assert.equal((await ask(200, JSON.stringify(denied))).code, 1);
  assert.equal((await ask(200, JSON.stringify({ ...denied, outcome: "depends" }))).code, 1);
  const wrong = await ask(400, "no workload has the address 10.0.0.9\n");
  assert.deepEqual([wrong.code, wrong.err], [2, "ambit explain: no workload has the address 10.0.0.9\n"]);
  assert.match((await ask(200, "<html>")).err, /is no ztunnel of ambit/);
});

test("explain: --json prints what the ztunnel said", async () => {
  const body = `${JSON.stringify(explanation("Deny", "default"), null, 2)}\n`;
  const { code, out } = await ask(200, body, true);
  assert.deepEqual([code, out], [1, body]);
});

test("explain: says where it looked when nobody answers", async () => {
  let err = "";
  const options = { from: "a/b", to: "1.2.3.4:80", address: "127.0.0.1:1", json: false };
  const code = await runExplain(options, { out: () => {}, err: (text) => err += text });
  assert.equal(code, 2);
  assert.match(err, /^ambit explain: no ztunnel answers at http:\/\/127\.0\.0\.1:1: .*--address\n$/);
});
