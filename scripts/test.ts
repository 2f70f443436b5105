/**
 * Runs the tests on both runtimes, or on the one named: `deno task test`, `deno task test:bun`.
 * Needs network namespaces: root, or a user namespace; where there is neither it says so and fails.
 * Each directory of tests/ runs in a process of its own, so that a crash costs only its own directory.
 *
 *   test.ts [deno|bun] [--only=PATH] [--compiled]
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { addTotals, failureReport, formatTotals, NO_TESTS, readTotals } from "./support/totals.ts";
import type { Totals } from "./support/totals.ts";
import { filesBelow, ROOT, run, tool } from "./support/tools.ts";

type Runtime = "deno" | "bun";

/** A directory that takes longer than this hangs. */
const DIRECTORY_TIMEOUT_MS = 15 * 60_000;
/** Bun's own limit of 5 s per test is too short for those that build a mesh. */
const BUN_TEST_TIMEOUT_MS = 180_000;

/** In a user namespace: brings the loopback up, which a new network namespace has down. */
const IN_USER_NAMESPACE = ["unshare", "-Urnm", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"];

/** What to put before a command so that it may make network namespaces; undefined when nothing helps. */
async function privileges(): Promise<readonly string[] | undefined> {
  const works = async (command: string[]) => (await run(command, { show: false })).code === 0;
  if (process.getuid?.() === 0 && await works(["unshare", "-nm", "true"])) return [];
  return await works([...IN_USER_NAMESPACE, "true"]) ? IN_USER_NAMESPACE : undefined;
}

function testCommand(runtime: Runtime, directory: string): string[] {
  switch (runtime) {
    case "deno":
      return [tool("deno"), "test", "--quiet", "--no-check", "--allow-all", directory];
    case "bun":
      return [tool("bun"), "test", "--timeout", String(BUN_TEST_TIMEOUT_MS), `./${directory}`];
  }
}

/** Directories of tests/ that hold tests. */
function testDirectories(only: string | undefined): string[] {
  if (only !== undefined) return [only.replace(/^\.\//, "").replace(/\/$/, "")];
  return [...new Set(filesBelow("tests", "_test.ts").map((path) => path.split("/").slice(0, 2).join("/")))];
}

const args = process.argv.slice(2);
const only = args.find((argument) => argument.startsWith("--only="))?.slice("--only=".length);
const compiled = args.includes("--compiled");
const named = args.filter((argument): argument is Runtime => argument === "deno" || argument === "bun");
const runtimes: readonly Runtime[] = compiled ? ["deno"] : named.length > 0 ? named : ["deno", "bun"];

const prefix = await privileges();
if (prefix === undefined) {
  console.error("test: the tests make network namespaces. Run them as root, or where user namespaces are allowed");
  console.error("test: (neither `unshare -n` as root nor `unshare -Urnm` works here)");
  console.log(formatTotals({ passed: 0, failed: 1 }));
  process.exit(1);
}

const env: Record<string, string> = {};
if (compiled) {
  env["AMBIT_BINARY"] = join(ROOT, "dist/ambit");
  if (!existsSync(env["AMBIT_BINARY"])) {
    console.error("test: there is no dist/ambit: run `deno task build` first");
    console.log(formatTotals({ passed: 0, failed: 1 }));
    process.exit(1);
  }
}

let totals: Totals = NO_TESTS;
const failures: string[] = [];
for (const runtime of runtimes) {
  let own: Totals = NO_TESTS;
  const started = performance.now();
  for (const directory of testDirectories(compiled ? "tests/e2e" : only)) {
    console.log(`\n== ${runtime}: ${directory}`);
    const command = [...prefix, ...testCommand(runtime, directory)];
    const { code, output } = await run(command, { env, timeoutMs: DIRECTORY_TIMEOUT_MS });
    const counted = readTotals(runtime, output, code);
    if (counted.failed > 0) {
      failures.push(`${runtime} ${directory}: ${formatTotals(counted)}`);
      failures.push(...failureReport(runtime, output).map((line) => `  ${line}`));
    }
    own = addTotals(own, counted);
  }
  console.log(`\n${runtime}: ${formatTotals(own)} in ${Math.round((performance.now() - started) / 1000)} s`);
  totals = addTotals(totals, own);
}
// Once more at the end, where it is found in a long log.
for (const failure of failures) console.log(`failed: ${failure}`);
console.log(formatTotals(totals));
process.exit(totals.failed === 0 ? 0 : 1);
