/** `ambit local --cni`: a pod enters and leaves the mesh by its label, while it runs and is being asked. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { MeshProcess } from "../../scripts/demo/mesh_process.ts";

const mesh = (label: string): string => `
nodes:
  - name: a
  - name: b
pods:
  - { name: shop, namespace: town, serviceAccount: shop, node: a, labels: { app: shop${label} }, command: exec ambit echo }
  - { name: client, namespace: town, serviceAccount: client, node: b }
services:
  - { name: shop, namespace: town, selector: { app: shop }, ports: { 80: 8080 } }
`;
const IN = mesh("");
const OUT = mesh(", istio.io/dataplane-mode: none");

test("local --cni: a pod is captured and let go live by its label, with traffic before, during and after", async () => {
  const directory = await mkdtemp(join(tmpdir(), "ambit-e2e-"));
  const path = join(directory, "mesh.yaml");
  await writeFile(path, OUT);
  const local = await MeshProcess.start(["--cni", path]);
  const edit = async (text: string) => {
    const mark = local.lines.length;
    await writeFile(path, text);
    await local.line((line) => line.includes(" is up "), mark);
  };
  /** Whether the request that is made now passes the shop's own ztunnel. */
  const passesZtunnel = async (): Promise<boolean> => {
    const mark = local.lines.length;
    const result = await local.exec("client", ["curl", "-sS", "-m", "10", "http://shop/"]);
    assert.equal(result.code, 0, result.stderr);
    // The client's ztunnel writes a line for either way.
    await local.line((line) => line.startsWith("b ") && line.includes('direction="outbound"'), mark);
    await new Promise((resolve) => setTimeout(resolve, 300));
    return local.lines.slice(mark).some((line) => line.startsWith("a ") && line.includes('direction="inbound"'));
  };
  try {
    await local.up();
    await local.line((line) => line.includes("shop listens"));
    assert.equal(await passesZtunnel(), false, "before");

    // Requests all the while, each on a connection of its own.
    const load = local.exec("client", [
      "sh",
      "-c",
      "n=0; end=$(($(date +%s) + 8)); while [ $(date +%s) -lt $end ]; do curl -s -m 5 -o /dev/null http://shop/ && n=$((n+1)) || echo failed; sleep 0.05; done; echo asked $n",
    ]);
    await edit(IN);
    assert.equal(await passesZtunnel(), true, "captured");
    await edit(OUT);
    assert.equal(await passesZtunnel(), false, "let go");
    await edit(IN);
    assert.equal(await passesZtunnel(), true, "captured again");
    const { stdout } = await load;
    // A connection that is under way when the pod is let go ends with its ztunnel; the pod is let go once meanwhile.
    assert.ok((stdout.match(/failed/g) ?? []).length <= 1, stdout);
    assert.ok(Number(/asked (\d+)/.exec(stdout)?.[1]) > 10, stdout);
    assert.equal(local.lines.filter((line) => line.includes("shop listens")).length, 1, "the pod went on running");
  } finally {
    await local.dispose();
    await rm(directory, { recursive: true });
  }
});
