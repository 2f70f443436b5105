import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runTool } from "../../src/local/run_tool.ts";

const RUNTIME = process.versions.deno === undefined
  ? [process.execPath]
  : [process.execPath, "run", "--no-check", "-A"];
const SCENARIO = fileURLToPath(new URL("./topology_scenario.ts", import.meta.url));
const NAMESPACES = ["--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"];

test("topology: pods reach each other through their nodes, IPv4 and IPv6, whatever is added and removed", async () => {
  const directory = await mkdtemp(join(tmpdir(), "ambit-topology-"));
  try {
    const { code, stdout, stderr } = await runTool([
      ...["unshare", ...NAMESPACES, "--", ...RUNTIME, SCENARIO],
      ...["run", directory],
    ]);
    assert.equal(stdout, "done\n", stderr);
    assert.equal(code, 0, stderr);
  } finally {
    await rm(directory, { recursive: true });
  }
});
