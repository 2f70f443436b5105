/** `ambit cni status` against a real socket, and without an agent. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { controlHandler } from "../../../src/cni/agent/control_server.ts";
import { serveUnix } from "../../../src/cni/agent/http_server.ts";
import { ADMIN_SOCKET_NAME, type AgentReport } from "../../../src/cni/agent/status.ts";
import { runCniStatus } from "../../../src/roles/cni_status.ts";
import { createLog } from "../../../src/telemetry/log.ts";
import { AMBIENT, FakeNode, makePod } from "./fakes.ts";

async function status(runDir: string, settings: { readonly json?: boolean; readonly namespace?: string } = {}) {
  let out = "";
  let err = "";
  const code = await runCniStatus(
    { runDir, namespace: settings.namespace, json: settings.json ?? false },
    { out: (text) => void (out += text), err: (text) => void (err += text) },
  );
  return { code, out, err };
}

test("cni status: shows what the agent says, as text or JSON, and whether all is well", async () => {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  node.source.setNamespace("other");
  await node.started();
  node.run();
  node.run({ namespace: "other", name: "free" });
  await node.clock.settle();
  const runDir = mkdtempSync(join(tmpdir(), "ambit-status-"));
  const report = (): AgentReport => ({
    node: "node-a",
    ready: { install: true, watch: true },
    redirection: "fake",
    ztunnels: [],
    host: undefined,
    queue: 0,
    pods: node.agent.pods(),
  });
  const log = createLog({ filter: "off", format: "plain", sink: () => {}, nowMs: () => 0 });
  const handler = controlHandler({ log, report, version: "v" });
  const server = await serveUnix(join(runDir, ADMIN_SOCKET_NAME), 0o600, { handler });
  try {
    const all = await status(runDir);
    assert.equal(all.code, 0);
    assert.match(all.out, /other\/free: not eligible[^]*shop\/cart: enrolled/);
    const some = JSON.parse((await status(runDir, { json: true, namespace: "shop" })).out) as AgentReport;
    assert.deepEqual(some.pods.map(({ name }) => name), ["cart"]);
    node.source.set(makePod({ name: "lost", ips: ["10.0.0.9"] }));
    await node.clock.settle();
    const wrong = await status(runDir);
    assert.equal(wrong.code, 1);
    assert.match(wrong.out, /! shop\/lost: failed/);
  } finally {
    await server.close(100);
    rmSync(runDir, { recursive: true });
  }
});

test("cni status: without an agent it says so and ends with 2", async () => {
  const { code, out, err } = await status("/nonexistent");
  assert.equal(code, 2);
  assert.equal(out, "");
  assert.match(err, /no node agent answers at \/nonexistent\/admin\.sock: there is no such socket/);
});
