/** Edits of the mesh file while the mesh is up, with real ztunnels and real requests. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type CommandResult, MeshProcess } from "../../scripts/demo/mesh_process.ts";

const NODES = "nodes:\n  - name: a\n  - name: b\n";
const SHOP = `
  - { name: shop, namespace: town, serviceAccount: shop, node: a, labels: { app: shop }, command: exec ambit echo }
`;
const CLIENT = `
  - { name: client, namespace: town, serviceAccount: client, node: b }
`;
const SERVICES = `
services:
  - { name: shop, namespace: town, selector: { app: shop }, ports: { 80: 8080 } }
`;
const DENY_CLIENT = `
policies:
  - name: closed
    namespace: town
    selector: { app: shop }
    action: Deny
    rules: [[[{ serviceAccounts: [{ namespace: town, serviceAccount: client }] }]]]
`;

const BASE = `${NODES}pods:${SHOP}${CLIENT}${SERVICES}`;

function get(mesh: MeshProcess, pod: string, url = "http://shop/"): Promise<CommandResult> {
  return mesh.exec(pod, ["curl", "-sS", "-m", "10", url]);
}

test("local: edits of the file apply live, and a bad one is refused with its line while the last good one stays", async () => {
  const directory = await mkdtemp(join(tmpdir(), "ambit-e2e-"));
  const path = join(directory, "mesh.yaml");
  await writeFile(path, BASE);
  const mesh = await MeshProcess.start([path]);
  const edit = async (text: string, awaited: (line: string) => boolean) => {
    const mark = mesh.lines.length;
    await writeFile(path, text);
    await mesh.line(awaited, mark);
  };
  const up = (line: string) => line.includes(" is up ");
  try {
    await mesh.up();
    await mesh.line((line) => line.includes("shop listens"));
    const first = await get(mesh, "client");
    assert.match(first.stdout, /"service":"shop","pod":"shop","node":"a"/, first.stderr);

    // A policy.
    await edit(BASE + DENY_CLIENT, up);
    assert.notEqual((await get(mesh, "client")).code, 0);

    // A bad file changes nothing: the policy still holds.
    await edit(BASE + "polices: []\n", (line) => line.endsWith("Nothing was changed."));
    const line = BASE.split("\n").length;
    assert.ok(mesh.lines.some((text) => text.startsWith(`${path}:${line}:1: unknown key "polices"`)));
    assert.notEqual((await get(mesh, "client")).code, 0);

    await edit(BASE, up);
    assert.equal((await get(mesh, "client")).code, 0);

    // A node and a pod on it; the service gets a second endpoint.
    const grown = BASE.replace("  - name: b\n", "  - name: b\n  - name: c\n")
      .replace(CLIENT, `${CLIENT}${CLIENT.replaceAll("client", "visitor").replace("node: b", "node: c")}`)
      .replace(SHOP, `${SHOP}${SHOP.replace("name: shop", "name: branch").replace("node: a", "node: c")}`);
    await edit(grown, up);
    await mesh.line((line) => line.includes("branch listens"));
    const seen = new Set<string>();
    for (let i = 0; i < 40 && seen.size < 2; i++) {
      seen.add(/"pod":"(\w+)"/.exec((await get(mesh, "visitor")).stdout)?.[1] ?? "");
    }
    assert.deepEqual([...seen].sort(), ["branch", "shop"]);

    // And away again, with what ran there.
    await edit(BASE, up);
    const gone = await get(mesh, "visitor");
    assert.equal(gone.code, 1);
    assert.match(gone.stderr, /there is no pod or node "visitor"/);
    assert.equal((await get(mesh, "client")).code, 0);
    const processes = await mesh.exec("a", [
      "sh",
      "-c",
      "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c ^POD_NAME=branch",
    ]);
    assert.equal(processes.stdout.trim(), "0");

    assert.equal(await mesh.end("SIGTERM"), 0);
  } finally {
    await mesh.dispose();
    await rm(directory, { recursive: true });
  }
});
