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
      "n=0; end=$(($(date +%s) + 8)); while [ $(date +%s) -lt $end ]; do t=$(date +%s%3N); " +
      "curl -s -m 5 -o /dev/null http://shop/ && n=$((n+1)) || echo failed $t $(date +%s%3N); sleep 0.05; done; echo asked $n",
    ]);
    const changes: { readonly what: string; readonly fromMs: number; readonly toMs: number }[] = [];
    const change = async (what: string, text: string, captured: boolean) => {
      const fromMs = Date.now();
      await edit(text);
      assert.equal(await passesZtunnel(), captured, what);
      changes.push({ what, fromMs, toMs: Date.now() });
    };
    await change("captured", IN, true);
    await change("let go", OUT, false);
    await change("captured again", IN, true);
    const { stdout } = await load;
    // What is under way at a change may be cut, one of a client that asks one after the other; who has not heard yet that the pod is let go
    // is refused.
    const failed = [...stdout.matchAll(/failed (\d+) (\d+)/g)].map(([, from, to]) => ({
      from: Number(from),
      to: Number(to),
    }));
    const during = changes.map(({ what, fromMs, toMs }) => ({
      what,
      cut: failed.filter(({ from, to }) => to >= fromMs && from <= toMs),
    }));
    const told = JSON.stringify({ failed, changes });
    assert.equal(new Set(during.flatMap(({ cut }) => cut)).size, failed.length, `without a change: ${told}`);
    for (const { what, cut } of during) if (what !== "let go") assert.ok(cut.length <= 1, `${what}: ${told}`);
    assert.ok(Number(/asked (\d+)/.exec(stdout)?.[1]) > 10, stdout);
    assert.equal(local.lines.filter((line) => line.includes("shop listens")).length, 1, "the pod went on running");
  } finally {
    await local.dispose();
    await rm(directory, { recursive: true });
  }
});
