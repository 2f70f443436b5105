/** The one command that decides whether a change is good: format, lint, types, layers, tests. `deno task ok`. */
import process from "node:process";
import { addTotals, formatTotals, NO_TESTS } from "./support/totals.ts";
import type { Totals } from "./support/totals.ts";
import { run, tool } from "./support/tools.ts";

const deno = tool("deno");
const STEPS: readonly (readonly [name: string, command: readonly string[]])[] = [
  ["fmt", [deno, "fmt", "--check", "--quiet"]],
  ["lint", [deno, "lint", "--quiet"]],
  ["check", [deno, "check", "--quiet"]],
  ["layers", [deno, "run", "-A", "scripts/layers.ts"]],
];

/** The last `N passed, N failed` of an output. */
function lastTotals(output: string): Totals | undefined {
  const match = [...output.matchAll(/^([0-9]+) passed, ([0-9]+) failed$/gm)].at(-1);
  return match === undefined ? undefined : { passed: Number(match[1]), failed: Number(match[2]) };
}

let totals: Totals = NO_TESTS;
const failed: string[] = [];
for (const [name, command] of STEPS) {
  const { code } = await run(command);
  console.log(`ok: ${name} ${code === 0 ? "passed" : "FAILED"}`);
  if (code !== 0) failed.push(name);
  totals = addTotals(totals, code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 });
}
const tests = await run([deno, "run", "-A", "scripts/test.ts"]);
const counted = lastTotals(tests.output);
if (tests.code !== 0) failed.push("test");
totals = addTotals(totals, counted ?? { passed: 0, failed: 1 });
if (failed.length > 0) console.log(`ok: failed: ${failed.join(", ")}`);
console.log(formatTotals(totals));
process.exit(failed.length === 0 && totals.failed === 0 ? 0 : 1);
