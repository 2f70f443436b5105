/**
 * Runs the tests on both runtimes, or on the one named: `deno task test`, `deno task test:bun`.
 * Needs network namespaces: root, or a user namespace; where there is neither it says so and fails.
 * Each directory of tests/ runs in a process of its own, so that a crash costs only its own directory. The end-to-end tests, which wait
 * most of their time, run beside all others; what a directory prints comes as one piece when it has ended.
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

/** Whole processes and meshes: mostly waiting. */
const END_TO_END = "tests/e2e";
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

interface Job {
  readonly runtime: Runtime;
  readonly directory: string;
}

interface Outcome extends Job {
  readonly totals: Totals;
  readonly failures: readonly string[];
  readonly ms: number;
}

async function runJob({ runtime, directory }: Job, show: boolean): Promise<Outcome> {
  const title = `\n== ${runtime}: ${directory}`;
  if (show) console.log(title);
  const started = performance.now();
  // Beside the end-to-end tests, which live by the clock, the others step back.
  const aside = show || directory === END_TO_END ? [] : ["nice", "-n", "10"];
  const command = [...aside, ...prefix!, ...testCommand(runtime, directory)];
  const { code, output } = await run(command, { env, timeoutMs: DIRECTORY_TIMEOUT_MS, show });
  const ms = performance.now() - started;
  if (!show) console.log(`${title}, ${seconds(ms)}\n${output}`);
  const totals = readTotals(runtime, output, code);
  const failures = totals.failed === 0 ? [] : [
    `${runtime} ${directory}: ${formatTotals(totals)}`,
    ...failureReport(runtime, output).map((line) => `  ${line}`),
  ];
  return { runtime, directory, totals, failures, ms };
}

/** One after the other. */
async function runLane(jobs: readonly Job[], show: boolean): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const job of jobs) outcomes.push(await runJob(job, show));
  return outcomes;
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}

const jobs = runtimes.flatMap((runtime) =>
  testDirectories(compiled ? END_TO_END : only).map((directory): Job => ({ runtime, directory }))
);
const lanes = [
  jobs.filter(({ directory }) => directory === END_TO_END),
  jobs.filter(({ directory }) => directory !== END_TO_END),
].filter((lane) => lane.length > 0);
if (lanes.length > 1) {
  console.log("test: end-to-end tests run beside the others; each directory is shown when it has ended");
}
const outcomes = (await Promise.all(lanes.map((lane) => runLane(lane, lanes.length === 1)))).flat();

console.log("");
let totals: Totals = NO_TESTS;
for (const runtime of runtimes) {
  const of = outcomes.filter((outcome) => outcome.runtime === runtime);
  const own = of.reduce((sum, outcome) => addTotals(sum, outcome.totals), NO_TESTS);
  const times = of.sort((a, b) => b.ms - a.ms).map(({ directory, ms }) => `${directory} ${seconds(ms)}`);
  console.log(`${runtime}: ${formatTotals(own)}; longest: ${times.slice(0, 3).join(", ")}`);
  totals = addTotals(totals, own);
}
// Once more at the end, where it is found in a long log.
for (const failure of outcomes.flatMap(({ failures }) => failures)) console.log(`failed: ${failure}`);
console.log(formatTotals(totals));
process.exit(totals.failed === 0 ? 0 : 1);
