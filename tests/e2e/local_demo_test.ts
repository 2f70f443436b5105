import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const DEMO = fileURLToPath(new URL("../../scripts/demo.ts", import.meta.url));
const RUNTIME = process.versions.deno === undefined
  ? [process.execPath]
  : [process.execPath, "run", "--no-check", "-A"];

test("demo: all that it shows is so", async () => {
  const [file = "", ...args] = [...RUNTIME, DEMO];
  const demo = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [demo.stdout, demo.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => output += text);
  }
  const code = await new Promise((resolve) => demo.on("close", resolve));
  assert.equal(code, 0, output);
  assert.match(output, /All of it was so/);
});
