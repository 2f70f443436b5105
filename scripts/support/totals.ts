/** Counting tests: reads the summaries of both runtimes' test runners, adds up, and prints the last line. */

export interface Totals {
  readonly passed: number;
  readonly failed: number;
}

export const NO_TESTS: Totals = { passed: 0, failed: 0 };

export function addTotals(a: Totals, b: Totals): Totals {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed };
}

export function formatTotals({ passed, failed }: Totals): string {
  return `${passed} passed, ${failed} failed`;
}

// deno-lint-ignore no-control-regex
const ANSI = /\x1b\[[0-9;]*m/g;

/**
 * Totals of one test run. A run that ended badly without naming a failed test (a crash, a file that does
 * not load, no tests at all) counts as one failure; a skipped test counts as failed: nothing here is optional.
 */
export function readTotals(runtime: "deno" | "bun", output: string, code: number): Totals {
  const text = output.replace(ANSI, "");
  const totals = runtime === "deno" ? readDeno(text) : readBun(text);
  if (totals.passed + totals.failed === 0) return { passed: 0, failed: 1 };
  return code !== 0 && totals.failed === 0 ? { ...totals, failed: 1 } : totals;
}

/** `ok | 12 passed (3 steps) | 0 failed | 1 ignored (2s)` */
function readDeno(text: string): Totals {
  const match = [...text.matchAll(/^(?:ok|FAILED) \| (.*)$/gm)].at(-1);
  if (match === null || match === undefined) return NO_TESTS;
  const count = (word: string) => Number(new RegExp(`([0-9]+) ${word}`).exec(match[1])?.[1] ?? 0);
  return { passed: count("passed"), failed: count("failed") + count("ignored") };
}

/** ` 12 pass`, ` 1 skip`, ` 0 fail`, each on a line. */
function readBun(text: string): Totals {
  const count = (word: string) => Number([...text.matchAll(new RegExp(`^ *([0-9]+) ${word}$`, "gm"))].at(-1)?.[1] ?? 0);
  return { passed: count("pass"), failed: count("fail") + count("skip") + count("todo") };
}

/** Enough to see what failed without the whole log; a run with many failures is not read to its end anyway. */
const REPORT_LINES = 60;
/** Bun prints the error above the line that names the test. */
const BUN_LINES_ABOVE = 25;

/** What a failed run says of its failures: Deno's section of errors, or the lines around each of Bun's; empty when it names none. */
export function failureReport(runtime: "deno" | "bun", output: string): readonly string[] {
  const lines = output.replace(ANSI, "").split("\n");
  if (runtime === "deno") {
    const start = lines.findLastIndex((line) => /^ ERRORS *$/.test(line));
    return start < 0 ? lines.slice(-REPORT_LINES) : lines.slice(start, start + REPORT_LINES);
  }
  const report: string[] = [];
  lines.forEach((line, index) => {
    if (!line.startsWith("(fail)") || report.length >= REPORT_LINES) return;
    const above = lines.slice(Math.max(0, index - BUN_LINES_ABOVE), index);
    const last = above.findLastIndex((other) => other.startsWith("(pass)") || other.startsWith("(fail)"));
    report.push(...above.slice(last + 1), line);
  });
  return report.length === 0 ? lines.slice(-REPORT_LINES) : report;
}
