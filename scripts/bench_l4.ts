/**
 * `deno task bench:l4`: pairs of ambit ztunnels beside a pair of Envoys, in one run, on one core (docs/benchmarks/README.md).
 * Prints the table with ratios and writes it, with every single measurement, to docs/benchmarks/.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { installEnvoy } from "./bench/envoy_pair.ts";
import { idleHolds, type IdleHop, idleTable, measureIdleTunnels } from "./bench/idle_tunnels.ts";
import { describeMachine, versionOf } from "./bench/machine.ts";
import { allHold, BESIDE_LOOPBACK, IN_PODS, markdownTable, summarize } from "./bench/report.ts";
import { findOpenSsl } from "./bench/openssl.ts";
import { type Measurement, runRounds } from "./bench/rounds.ts";
import { stopAll } from "./bench/spawn.ts";
import { prepare, startTarget, type Target, type TargetName, TARGETS } from "./bench/targets.ts";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const OUTPUT = join(ROOT, "docs/benchmarks");

const HELP = `Usage: deno task bench:l4 [options]

  --only NAMES          comma list of ${TARGETS.join(", ")}
                        (default envoy,ambit-deno,ambit-compiled)
  --loopback            beside Envoys on a loopback instead of in pods: ambit alone pays for veth and netfilter
  --rounds N            rounds of all measurements (default 3)
  --seconds S           length of one measurement (default 4)
  --quick               1 round of 2 s and 300 MB, nothing written: a look, not a result
  --openssl DIR         ambit uses libssl.so.3 and libcrypto.so.3 of this directory; "pypi" installs OpenSSL 3.5
  --idle-tunnels N      instead: memory of N idle tunnelled connections (the limit is meant for 10000)
  --profile             perf record of both proxies in the first round, at 64 connections
  --check               exit 1 when a limit is exceeded
`;

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    loopback: { type: "boolean", default: false },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "4" },
    quick: { type: "boolean", default: false },
    openssl: { type: "string" },
    "idle-tunnels": { type: "string" },
    profile: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

/** Megabytes of one bulk transfer. */
const BULK_MEGABYTES = { full: 1000, quick: 300 } as const;

const openSsl = values.openssl === undefined ? undefined : findOpenSsl(values.openssl);
const comparison = values.loopback ? BESIDE_LOOPBACK : IN_PODS;

async function main(): Promise<boolean> {
  const only = values.only ?? `${comparison.reference},ambit-deno,ambit-compiled`;
  const names = only.split(",").map((name) => {
    if (!(TARGETS as readonly string[]).includes(name)) throw new Error(`--only: unknown target "${name}"`);
    return name as TargetName;
  });
  if (process.getuid?.() !== 0) {
    throw new Error("bench:l4 makes network namespaces: run it as root or under unshare -Urnm");
  }
  prepare(names);
  const directory = mkdtempSync(join(tmpdir(), "ambit-bench-"));
  let done = false;
  try {
    const holds = values["idle-tunnels"] === undefined
      ? await benchmark(names, directory)
      : await idleTunnels(names, directory, Number(values["idle-tunnels"]));
    done = true;
    return holds;
  } finally {
    await stopAll();
    // Logs of a failed run are what it is understood by, and a profile was asked for.
    if (done && !values.profile) rmSync(directory, { recursive: true, force: true });
    else progress(`files of this run: ${directory}`);
  }
}

function progress(line: string): void {
  console.error(`[${(performance.now() / 1000).toFixed(0).padStart(4)} s] ${line}`);
}

async function benchmark(names: readonly TargetName[], directory: string): Promise<boolean> {
  const targets: Target[] = [];
  for (const name of names) {
    targets.push(
      await startTarget(name, join(directory, name), { profile: values.profile, openSsl: openSsl?.directory }),
    );
    progress(`${name} runs: pids ${targets.at(-1)?.pids.join(", ")}`);
  }
  const measurements: Measurement[] = [];
  const results: Record<string, Record<string, number[]>> = {};
  for (const name of names) results[name] = {};
  await runRounds(
    targets,
    {
      rounds: values.quick ? 1 : Number(values.rounds),
      seconds: values.quick ? 2 : Number(values.seconds),
      megabytes: values.quick ? BULK_MEGABYTES.quick : BULK_MEGABYTES.full,
      idleConnections: 1000,
      progress,
      during: values.profile ? (target, step) => profile(target, step, directory) : undefined,
    },
    (measurement) => measurements.push(measurement),
    (target, figure, value) => (results[target][figure] ??= []).push(value),
  );
  const rows = summarize(results, comparison);
  const table = markdownTable(rows, names, comparison);
  console.log(table);
  write(`l4${values.loopback ? "-loopback" : ""}${openSsl === undefined ? "" : "-openssl"}`, names, targets, table, {
    measurements,
    results,
  });
  return allHold(rows);
}

/** One pair after the other: ten thousand connections twice over are enough for one machine. */
async function idleTunnels(names: readonly TargetName[], directory: string, connections: number): Promise<boolean> {
  const hops: IdleHop[] = [];
  const targets: Target[] = [];
  for (const name of names) {
    const target = await startTarget(name, join(directory, name), { openSsl: openSsl?.directory });
    targets.push(target);
    hops.push(...await measureIdleTunnels(target, connections));
    await target.close();
    progress(`${name} measured with ${connections} idle connections`);
  }
  const table = idleTable(hops);
  console.log(table);
  write(`idle-${connections}`, names, targets, table, { connections, hops });
  return idleHolds(hops);
}

function write(
  kind: string,
  names: readonly TargetName[],
  targets: readonly Target[],
  table: string,
  raw: object,
): void {
  if (values.quick) return;
  const date = new Date().toISOString();
  const machine = describeMachine();
  const versions: Record<string, string> = {};
  if (names.some((name) => name.startsWith("envoy"))) {
    versions.envoy = versionOf(installEnvoy(), ["--version"]).replace(/^.*version:\s*/, "");
  }
  versions["ambit's OpenSSL"] = openSsl?.version ?? machine.openssl;
  versions.deno = versionOf(join(ROOT, "node_modules/.bin/deno"), ["--version"]);
  versions.bun = versionOf(join(ROOT, "node_modules/.bin/bun"), ["--version"]);
  const ciphers = Object.fromEntries(targets.map((target) => [target.name, target.cipher ?? "not told"]));
  const command = `deno task bench:l4 ${process.argv.slice(2).join(" ")}`.trim();
  const about = [
    `# ${kind}, ${date.slice(0, 10)}`,
    "",
    `\`${command}\``,
    "",
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGb} GB; ${machine.system}, kernel ${machine.kernel}.`,
    Object.entries(versions).map(([name, version]) => `${name}: ${version}`).join("; ") + ".",
    "",
    "Values are medians of the rounds, ratios the medians of the ratios round by round. Method: [README](README.md).",
    "",
  ];
  mkdirSync(OUTPUT, { recursive: true });
  writeFileSync(join(OUTPUT, `${kind}.md`), [...about, table].join("\n"));
  const json = { date, command, machine, versions, ciphers, ...raw };
  writeFileSync(join(OUTPUT, `${kind}.json`), JSON.stringify(json, null, 1) + "\n");
  progress(`written: docs/benchmarks/${kind}.md and .json`);
}

/** Seconds of profile: well inside the shortest measurement. */
const PROFILE_SECONDS = "1.5";

function profile(target: Target, step: string, directory: string): void {
  if (step !== "64 connections") return;
  const file = join(directory, `${target.name}.perf`);
  const flags = ["record", "-q", "-g", "-o", file, "-p", target.pids.join(","), "--", "sleep", PROFILE_SECONDS];
  const perf = spawn("perf", flags, { stdio: "ignore" });
  perf.once("error", () => progress("no profile: perf is not installed"));
  perf.once("exit", (code) => {
    if (code !== 0) return progress(`no profile of ${target.name}: perf ended with ${code}`);
    const report = ["report", "-i", file, "--no-children", "-g", "none", "--percent-limit", "0.5", "--stdio"];
    writeFileSync(`${file}.txt`, execFileSync("perf", report, { stdio: ["ignore", "pipe", "ignore"] }));
    progress(`profile of ${target.name}: ${file}.txt`);
  });
}

if (values.help) {
  console.log(HELP);
} else {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => stopAll().finally(() => process.exit(130)));
  }
  try {
    const holds = await main();
    // Children's pipes may outlive them; the result is written, so nothing is waited for.
    process.exit(holds || !values.check ? 0 : 1);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  }
}
