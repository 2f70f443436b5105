/**
 * Fuzzes every parser from its kept corpus: `deno task fuzz [--seconds=60] [--only=NAME] [--runtime=deno|bun]`.
 * Targets are registered by files tests/**\/fuzz.ts, which export `targets`. Four run at a time, each in a process
 * of its own; without --runtime they alternate between the runtimes. The last line counts targets.
 */
import { isAbsolute, join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { runFuzz } from "../tests/support/fuzz.ts";
import type { FuzzTask } from "../tests/support/fuzz.ts";
import { formatTotals } from "./support/totals.ts";
import { filesBelow, ROOT, run, tool } from "./support/tools.ts";

/** What a tests/**\/fuzz.ts exports as `targets`. A relative `corpusDir` starts at the project. */
export type FuzzTarget = Pick<FuzzTask, "name" | "corpusDir" | "target" | "maxBytes">;

const AT_ONCE = 4;
/** Over the fuzzing time: start-up, the corpus, and a slow machine. */
const GRACE_MS = 60_000;

interface Job {
  readonly file: string;
  readonly name: string;
}

/** Files that register targets. */
export function targetFiles(): string[] {
  return filesBelow("tests", "/fuzz.ts").filter((path) => path !== "tests/support/fuzz.ts");
}

/** @throws Error when the file registers none. */
export async function loadTargets(file: string): Promise<readonly FuzzTarget[]> {
  const module: { targets?: readonly FuzzTarget[] } = await import(pathToFileURL(join(ROOT, file)).href);
  if (module.targets === undefined || module.targets.length === 0) throw new Error(`${file} exports no fuzz targets`);
  return module.targets;
}

export function corpusPath({ corpusDir }: FuzzTarget): string {
  return isAbsolute(corpusDir) ? corpusDir : join(ROOT, corpusDir);
}

/** In a process of its own: one target, then its count on one line. */
async function runOne(file: string, name: string, seconds: number, seed: number): Promise<void> {
  const target = (await loadTargets(file)).find((candidate) => candidate.name === name);
  if (target === undefined) throw new Error(`${file} has no fuzz target ${name}`);
  const report = runFuzz({ ...target, corpusDir: corpusPath(target), seconds, seed });
  console.log(`fuzz ${name}: ${report.runs} runs from ${report.corpusFiles} corpus files, seed ${seed}`);
}

async function runAll(seconds: number, only: string | undefined, runtime: string | undefined): Promise<boolean> {
  const jobs: Job[] = [];
  for (const file of targetFiles()) {
    for (const { name } of await loadTargets(file)) jobs.push({ file, name });
  }
  const wanted = jobs.filter(({ name }) => only === undefined || name.includes(only));
  console.log(`fuzz: ${wanted.length} targets, ${seconds} s each, ${AT_ONCE} at a time`);
  let next = 0;
  let failed = 0;
  const worker = async () => {
    while (next < wanted.length) {
      const index = next++;
      const { file, name } = wanted[index];
      const seed = Math.floor(Math.random() * 2 ** 32);
      const useBun = runtime === undefined ? index % 2 === 1 : runtime === "bun";
      const program = useBun ? [tool("bun")] : [tool("deno"), "run", "--quiet", "--no-check", "-A"];
      const one = ["scripts/fuzz.ts", "--one", file, name, String(seconds), String(seed)];
      const { code, output } = await run([...program, ...one], { show: false, timeoutMs: seconds * 1000 + GRACE_MS });
      if (code !== 0) failed++;
      console.log(`${code === 0 ? "ok" : "FAILED"} (${useBun ? "bun" : "deno"}) ${output.trimEnd()}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (wanted.length === 0) failed = 1;
  console.log(formatTotals({ passed: Math.max(0, wanted.length - failed), failed }));
  return failed === 0;
}

if (import.meta.main) {
  const args = process.argv.slice(2);
  const flag = (name: string) => args.find((argument) => argument.startsWith(`--${name}=`))?.slice(name.length + 3);
  if (args[0] === "--one") await runOne(args[1], args[2], Number(args[3]), Number(args[4]));
  else process.exit(await runAll(Number(flag("seconds") ?? 60), flag("only"), flag("runtime")) ? 0 : 1);
}
