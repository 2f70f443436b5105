/** What an operator meets: wrong credentials, reasons of refusals, dry runs; and what another client of istiod sees. */
import assert from "node:assert/strict";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ECONNRESET } from "../../../src/platform/errno.ts";
import { runTool } from "../../../src/local/run_tool.ts";
import { eventually } from "../../e2e/support/wait.ts";
import { ambitOf } from "../support/builds.ts";
import { APP_PORT, converse } from "../support/exchange.ts";
import { ADDRESS_URL } from "../support/node.ts";
import { authorizationPolicy } from "../support/objects.ts";
import { scenario, scenarioForAll } from "../support/scenario.ts";
import { addPair } from "./paths.ts";

scenario("another client of istiod gets the same resources as ambit", async ({ lab, a }) => {
  const token = await readFile(join(a.directory, "var/run/secrets/tokens/istio-token"), "utf8");
  const nodeId = `ztunnel~${a.ip}~${a.podName}.istio-system~istio-system.svc.cluster.local`;
  await eventually(async () => {
    const root = await lab.rootCertificate();
    const question = { kind: "resources", typeUrl: ADDRESS_URL, token, root, nodeId } as const;
    const names = Object.keys(await lab.probe<Readonly<Record<string, string>>>(question)).sort();
    const { workloads, services } = await a.configDump();
    const held = [
      ...workloads.map(({ uid }) => uid),
      ...services.map(({ namespace, hostname }) => `${namespace}/${hostname}`),
    ];
    assert.ok(names.length > 4);
    assert.deepEqual(held.sort(), names);
  });
});

scenario(
  "credentials: a wrong root or token is told as such, and a right one is taken without a restart",
  async (scene) => {
    const { lab, build } = scene;
    const node = await lab.addNode(build, `${build}-stranger`);
    const rootPath = join(node.directory, "var/run/secrets/istio/root-cert.pem");
    const tokenPath = join(node.directory, "var/run/secrets/tokens/istio-token");
    const token = await readFile(tokenPath, "utf8");
    await writeFile(rootPath, await readFile(lab.plane.pki.path("ca.crt")));
    await writeFile(tokenPath, "not a token");
    await node.launch();
    await node.ztunnel.line((line) =>
      line.includes("\txds\t") && /certificate|root/.test(line) && line.includes("root-cert.pem")
    );
    const pending = await node.http(15021, "/healthz/ready");
    assert.equal(pending.status, 500);
    assert.match(pending.body, /^not ready, pending: .*state manager/);
    await writeFile(`${rootPath}.new`, await lab.rootCertificate());
    await rename(`${rootPath}.new`, rootPath);
    await node.ztunnel.line(
      (line) => line.includes("\txds\t") && /unauthenticated|authentication/i.test(line),
      0,
      30_000,
    );
    assert.equal((await node.http(15021, "/healthz/ready")).status, 500);
    await writeFile(tokenPath, token);
    await node.ready();
    await node.stop();
  },
  { sideBySide: true },
);

scenario(
  "a refusal's reason: in the log, in a metric, and in `ambit explain`, which asks the running ztunnel",
  async (scene) => {
    const { lab, b, build, namespace } = scene;
    const [client, server] = await addPair(scene, { crossNode: true });
    const explain = async () => {
      const question = ["explain", "--from", `${namespace}/client`, "--to", `${server.ip()}:${APP_PORT}`];
      const command = lab.sandbox.command([...ambitOf(build), ...question], { node: b.name }, b.directory);
      const { code, stdout, stderr } = await runTool(command);
      return { code, text: stdout + stderr };
    };
    const before = await explain();
    assert.equal(before.code, 0, before.text);
    const rules = [{ to: [{ operation: { ports: ["1"] } }] }, { to: [{ operation: { ports: [String(APP_PORT)] } }] }];
    await lab.apply(authorizationPolicy(namespace, "closed", { action: "DENY", rules }));
    await b.knows(({ policies }) =>
      policies.some((policy) => policy.namespace === namespace) ? undefined : "no policy"
    );
    const mark = b.ztunnel.mark;
    assert.equal(await client.refusal(server.ip(), APP_PORT), ECONNRESET);
    const { fields } = await b.ztunnel.access(({ fields }) => fields["src.namespace"] === namespace, mark);
    assert.match(fields.error!, new RegExp(`explicitly denied by: ${namespace}/closed`));
    await eventually(async () => {
      assert.equal(await b.metric("ambit_authorization_denied_total", { policy: `${namespace}/closed` }), 1);
    });
    const after = await explain();
    assert.equal(after.code, 1, after.text);
    assert.match(after.text, /^DENIED: /);
    assert.match(after.text, new RegExp(`${namespace}/closed`));
  },
);

scenario("a dry-run policy refuses nothing and says what it would do", async (scene) => {
  const { lab, b, namespace } = scene;
  const [client, server] = await addPair(scene, { crossNode: true });
  const annotations = { "istio.io/dry-run": "true" };
  await lab.apply(authorizationPolicy(namespace, "tried", { action: "DENY", rules: [{}] }, annotations));
  await b.knows(({ policies }) => policies.some((policy) => policy.namespace === namespace) ? undefined : "no policy");
  await converse({ client, server, path: "hbone" });
  await eventually(async () => {
    assert.equal(await b.metric("ambit_authorization_dry_run_total", { policy: `${namespace}/tried` }), 1);
  });
});

scenarioForAll(
  "the node agents have nothing to complain of: no ztunnel spoke unasked or answered too late",
  async (lab) => {
    for (const { name, agent } of lab.nodes.values()) {
      assert.deepEqual(agent.violations, [], name);
      assert.deepEqual(agent.answers.filter(({ tookMs }) => tookMs > 5_000), [], name);
    }
  },
);
