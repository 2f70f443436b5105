/** `ambit local --dns-capture`: names in pods by the DNS proxy, with the resolver that libc gives to every program. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { MeshProcess } from "../../scripts/demo/mesh_process.ts";

const FILE = `
nodes: [{ name: a }]
pods:
  - { name: client, namespace: town, node: a }
  - { name: web-0, namespace: town, node: a, labels: { app: web } }
services:
  - { name: shop, namespace: town, vips: [10.96.7.1], ports: { 80: 8080 } }
  - { name: far, namespace: town, hostname: "*.far.example", vips: [10.96.7.2], ports: { 80: 8080 } }
  - { name: web, namespace: town, selector: { app: web }, vips: [], ports: { 80: 8080 } }
`;

test("local --dns-capture: services, wildcards and headless services have names, other names fail soon", async () => {
  const directory = await mkdtemp(join(tmpdir(), "ambit-e2e-"));
  const path = join(directory, "mesh.yaml");
  await writeFile(path, FILE);
  const mesh = await MeshProcess.start([path, "--dns-capture"]);
  try {
    await mesh.up();
    const flags = process.versions.deno === undefined ? ["-e"] : ["eval", "--no-check"];
    const script = `
      const { lookup, Resolver } = await import("node:dns/promises");
      const found = async (name) => (await lookup(name, { family: 4 })).address;
      const started = performance.now();
      const missing = await found("missing.example").catch((error) => error.code);
      console.log(JSON.stringify([
        await found("shop.town"),
        await found("any.far.example"),
        await found("web.town"),
        missing,
        performance.now() - started < 8000,
      ]));`;
    const { code, stdout, stderr } = await mesh.exec("client", [process.execPath, ...flags, script]);
    assert.equal(code, 0, stderr);
    const [shop, far, web, missing, soon] = JSON.parse(stdout) as [string, string, string, string, boolean];
    assert.deepEqual([shop, far], ["10.96.7.1", "10.96.7.2"]);
    assert.match(web, /^10\./);
    assert.match(missing, /^(ENOTFOUND|EAI_AGAIN|ESERVFAIL)$/);
    assert.ok(soon, "an unknown name took too long");
  } finally {
    await mesh.end();
    await rm(directory, { recursive: true, force: true });
  }
});
