/**
 * Runs tests/waypoint/lab: ambit waypoint, as the sources on Deno and on Bun and as the compiled binary, under a real istiod. Needs root, what
 * `deno task istiod:build` has built, and dist/ambit. `deno task test:waypoint`.
 *
 *   waypoint_test.ts [--builds=deno,bun,compiled] [--only=TEXT] [--keep]
 */
import process from "node:process";
import { findBinaries } from "./support/istiod_binaries.ts";
import { failureReport, formatTotals, readTotals } from "./support/totals.ts";
import { run, tool } from "./support/tools.ts";

/** It takes half of this on two free cores. A little of what CI gives it is left to say what failed. */
const TIMEOUT_MS = 17.5 * 60_000;
const OPTIONS = { builds: "AMBIT_WAYPOINT_BUILDS", only: "AMBIT_WAYPOINT_ONLY" } as const;

const args = process.argv.slice(2);
const env: Record<string, string> = {};
for (const [option, variable] of Object.entries(OPTIONS)) {
  const given = args.find((argument) => argument.startsWith(`--${option}=`));
  if (given !== undefined) env[variable] = given.slice(option.length + 3);
}
if (args.includes("--keep")) env["AMBIT_WAYPOINT_KEEP"] = "1";

function giveUp(why: string): never {
  console.error(`test:waypoint: ${why}`);
  console.log(formatTotals({ passed: 0, failed: 1 }));
  process.exit(1);
}

if (process.getuid?.() !== 0) giveUp("needs root: it makes network namespaces and runs a control plane in them");
try {
  if (await findBinaries() === undefined) giveUp("the control plane is not built: run `deno task istiod:build` first");
} catch (error) {
  giveUp(error instanceof Error ? error.message : String(error));
}

// A network namespace of its own for the test process: what it opens is on nobody's network.
const command = [tool("deno"), "test", "--quiet", "--no-check", "--allow-all", "tests/waypoint/lab/suite.ts"];
const started = performance.now();
const { code, output } = await run(
  ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", ...command],
  {
    env,
    timeoutMs: TIMEOUT_MS,
  },
);
const totals = readTotals("deno", output, code);
if (totals.failed > 0) { for (const line of failureReport("deno", output)) console.log(`failed: ${line}`); }
console.log(`waypoint: ${Math.round((performance.now() - started) / 1000)} s`);
console.log(formatTotals(totals));
process.exit(totals.failed === 0 ? 0 : 1);
