import assert from "node:assert/strict";
import { test } from "node:test";
import { compileCommand, ROLE_PERMISSIONS } from "../../scripts/compile.ts";
import { run, tool } from "../../scripts/support/tools.ts";

test("compile: each role starts with no more than its permissions", async () => {
  for (const [role, permissions] of Object.entries(ROLE_PERMISSIONS)) {
    const program = [tool("deno"), "run", "--quiet", "--no-check", "--no-prompt", ...permissions, "mod.ts", role];
    const help = await run([...program, "--help"], { show: false, timeoutMs: 60_000 });
    assert.equal(help.code, 0, help.output);
    assert.match(help.output, /^Usage: ambit /);
    const usage = await run([...program, "--no-such-flag"], { show: false, timeoutMs: 60_000 });
    assert.equal(usage.code, 2, usage.output);
  }
});

test("compile: the binary carries the worker and never asks for a permission", () => {
  const command = compileCommand("ztunnel", "/tmp/x");
  assert.ok(command.some((argument) => /^--include=src\/roles\/\w*worker\.ts$/.test(argument)));
  assert.ok(command.includes("--no-prompt"));
  assert.ok(!command.some((argument) => argument === "--allow-all" || argument === "-A"));
  assert.ok(!command.includes("--allow-run"));
  assert.throws(() => compileCommand("nothing", "/tmp/x"), /no permissions/);
});
