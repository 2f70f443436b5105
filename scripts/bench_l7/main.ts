/**
 * `deno task bench:l7`: ambit's waypoint beside Envoy in the same pod under the same istiod, in one run, on one core (docs/benchmarks/README.md).
 * Prints the table with ratios and writes it, with every single measurement, to docs/benchmarks/.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { installEnvoy } from "../bench/envoy_pair.ts";
import { describeMachine, versionOf } from "../bench/machine.ts";
import { BenchMesh } from "./mesh.ts";
import { ROOT, tool } from "./paths.ts";
import { makeTable } from "./report.ts";
import { DISTURBED, type Measurement, runRounds } from "./rounds.ts";
import { type SubjectName, SUBJECTS } from "./subject.ts";
import { measureUpdates } from "./updates.ts";

const OUTPUT = join(ROOT, "docs/benchmarks");
const NICENESS = "-15";

const HELP = `Usage: deno task bench:l7 [options]

  --only NAMES   comma list of ${SUBJECTS.join(", ")}
                 (default envoy,ambit-deno,ambit-compiled)
  --rounds N     rounds of all measurements (default 3)
  --seconds S    length of one measurement (default 3)
  --plain        only HTTP/1.1 without any feature
  --quick        1 round of 2 s, nothing written: a look, not a result
  --updates      instead: CPU of an endpoint update in a worker with 2,000 services
  --keep         keep the logs of all programs
  --check        exit 1 when a limit is exceeded

AMBIT_BINARY names a compiled binary to measure; without it, \`deno task build\` makes one.
`;

const { values } = parseArgs({
  options: {
    only: { type: "string", default: "envoy,ambit-deno,ambit-compiled" },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "3" },
    plain: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
    updates: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

function progress(line: string): void {
  console.error(`[${(performance.now() / 1000).toFixed(0).padStart(4)} s] ${line}`);
}

async function main(): Promise<boolean> {
  const names = values.only.split(",").map((name) => {
    if (!(SUBJECTS as readonly string[]).includes(name)) throw new Error(`--only: unknown name "${name}"`);
    return name as SubjectName;
  });
  // The ztunnels are compiled ones too, whatever is measured.
  if (!process.env.AMBIT_BINARY) {
    execFileSync(tool("deno"), ["task", "build"], { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  }
  if (names.includes("envoy")) installEnvoy();
  const mesh = await BenchMesh.start("compiled");
  const measurements: Measurement[] = [];
  const results: Record<string, Record<string, number[]>> = {};
  for (const name of names) results[name] = {};
  const loadBefore = loadavg()[0]!;
  try {
    progress("istiod, ztunnels, client and server run");
    await runRounds(
      mesh,
      names,
      {
        rounds: values.quick ? 1 : Number(values.rounds),
        seconds: values.quick ? 2 : Number(values.seconds),
        plainOnly: values.plain,
        progress,
      },
      (measurement) => measurements.push(measurement),
      (subject, figure, value) => (results[subject]![figure] ??= []).push(value),
    );
  } finally {
    await mesh.close(values.keep);
  }
  const { text, holds } = makeTable(results, names);
  console.log(text);
  if (!values.quick && !values.plain) write(names, text, measurements, results, loadBefore);
  return holds;
}

function write(
  names: readonly SubjectName[],
  table: string,
  measurements: readonly Measurement[],
  results: object,
  loadBefore: number,
): void {
  const date = new Date().toISOString();
  const machine = describeMachine();
  const versions: Record<string, string> = { deno: versionOf(tool("deno"), ["--version"]) };
  if (names.includes("envoy")) {
    versions.envoy = versionOf(installEnvoy(), ["--version"]).replace(/^.*version:\s*/, "");
  }
  const given = process.env.AMBIT_BINARY ? "AMBIT_BINARY=… " : "";
  const command = `${given}deno task bench:l7 ${process.argv.slice(2).join(" ")}`.trim();
  const disturbed = measurements.filter(({ waitShare }) => waitShare > DISTURBED).length;
  const about = [
    `# l7, ${date.slice(0, 10)}`,
    "",
    `\`${command}\``,
    "",
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGb} GB; ${machine.system}, kernel ${machine.kernel}; ${machine.openssl}.`,
    Object.entries(versions).map(([name, version]) => `${name}: ${version}`).join("; ") + ".",
    `Load average before the first measurement: ${
      loadBefore.toFixed(1)
    }. Disturbed: ${disturbed} of ${measurements.length} measurements.`,
    "",
    "Values are medians of the rounds, ratios the medians of the ratios round by round. Method: [README](README.md).",
    "",
  ];
  mkdirSync(OUTPUT, { recursive: true });
  writeFileSync(join(OUTPUT, "l7.md"), [...about, table].join("\n"));
  const json = { date, command, machine, versions, loadBefore, measurements, results };
  writeFileSync(join(OUTPUT, "l7.json"), JSON.stringify(json, null, 1) + "\n");
  progress("written: docs/benchmarks/l7.md and .json");
}

/** True when nobody else is in this process's session: the kernel weighs sessions against each other (sched(7), autogroup). */
function hasOwnSession(): boolean {
  const fields = readFileSync("/proc/self/stat", "utf8").replace(/^.*\) /s, "").split(" ");
  return Number(fields[3]) === process.pid;
}

/** The same once more in a session of its own, which goes before whatever else the machine does. */
async function runInOwnSession(): Promise<number> {
  const [program, ...args] = [process.execPath, "run", "-A", ...process.argv.slice(1)];
  const child = spawn(program!, args, { stdio: "inherit", detached: true });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
  return await new Promise((resolve) => child.once("exit", (code) => resolve(code ?? 1)));
}

if (values.help) {
  console.log(HELP);
} else if (values.updates) {
  const { median, p99, worst } = measureUpdates();
  const figures = [median, p99, worst].map((value) => value.toFixed(3)).join(", ");
  console.log(
    `one of 2,000 services changes its 10 endpoints: CPU of a worker, ms: median, p99, worst: ${figures} (limit 1)`,
  );
  process.exit(worst < 1 || !values.check ? 0 : 1);
} else if (!hasOwnSession()) {
  process.exit(await runInOwnSession());
} else {
  try {
    writeFileSync("/proc/self/autogroup", NICENESS);
  } catch {
    // The measurement is then as good as the machine is quiet; rounds.ts says when it was not.
  }
  try {
    const holds = await main();
    process.exit(holds || !values.check ? 0 : 1);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  }
}
