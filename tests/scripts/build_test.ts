/** Builds the binary anew and runs it: what it must not take from the directory it stands in, and how it is called. */
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build, hostArch } from "../../scripts/build.ts";
import { run } from "../../scripts/support/tools.ts";

let directory = "";
let binary = "";

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "ambit-build-"));
  binary = join(directory, "ambit");
  await build(hostArch(), binary);
  // Both would show in any process that takes them.
  writeFileSync(join(directory, ".env"), "PROXY_MODE=from-dotenv\n");
  writeFileSync(join(directory, "bunfig.toml"), 'preload = ["./preloaded.ts"]\n');
  writeFileSync(join(directory, "preloaded.ts"), 'console.log("PRELOADED");\n');
});

after(() => rmSync(directory, { recursive: true, force: true }));

function ambit(args: readonly string[], env: Readonly<Record<string, string>> = {}, program = binary) {
  return run([program, ...args], { cwd: directory, env, show: false, timeoutMs: 30_000 });
}

/** A flag that is wrong, so that the process ends at once, after the variables before it in the table were read. */
const WRONG = ["ztunnel", "--proxy-workload-info=wrong"];

test("build: takes neither .env nor bunfig.toml from the working directory", async () => {
  const { code, output } = await ambit(WRONG);
  assert.equal(code, 2);
  assert.equal(output, 'ambit: flag --proxy-workload-info: "wrong" must be namespace/name/serviceaccount\n');
  // The same variable given for real is seen: the check above can fail.
  const given = await ambit(WRONG, { PROXY_MODE: "from-environment" });
  assert.match(given.output, /environment variable PROXY_MODE: "from-environment" must be/);
});

test("build: says what it is", async () => {
  const { code, output } = await ambit(["version"]);
  assert.equal(code, 0);
  assert.match(output, /^ambit [0-9.]+ \(\S+, release, bun [0-9.]+, linux\/(x64|arm64)\)\n$/);
});

test("build: the names under which Istio's images start it pick the role", async () => {
  symlinkSync(binary, join(directory, "ztunnel"));
  copyFileSync(binary, join(directory, "istio-cni"));
  const ztunnel = await ambit([], { PROXY_MODE: "wrong" }, join(directory, "ztunnel"));
  assert.match(ztunnel.output, /environment variable PROXY_MODE: "wrong"/);
  const plugin = await ambit([], {}, join(directory, "istio-cni"));
  assert.match(plugin.output, /^CNI plugin istio-cni [0-9.]+ \(ambit\)\nCNI protocol versions supported: 0\.1\.0, /);
});

test("build: what docs/security.md says of BUN_BE_BUN and BUN_OPTIONS is so", async () => {
  const beBun = await ambit(["--print", "6*7"], { BUN_BE_BUN: "1" });
  assert.match(beBun.output, /PRELOADED\n42\n/);
  const options = await ambit(["version"], { BUN_OPTIONS: "--preload=./preloaded.ts" });
  assert.match(options.output, /^PRELOADED\nambit /);
  const inspect = await ambit(["cni"], { BUN_INSPECT: "ws://127.0.0.1:0/x" });
  assert.equal(inspect.code, 2);
});
