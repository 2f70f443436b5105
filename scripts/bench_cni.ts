/**
 * `deno task bench:cni`: what the CNI plugin and the node agent cost (docs/benchmarks/cni.md). Its parts are independent of
 * each other: a part that is not run keeps its last result.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build, hostArch } from "./build.ts";
import { describeMachine, versionOf } from "./bench/machine.ts";
import { stopAll } from "./bench/spawn.ts";
import type { BenchPart } from "./bench_cni/part.ts";
import { benchBurst } from "./bench_cni/burst.ts";
import { benchPlugin } from "./bench_cni/plugin.ts";
import { holds, markdown, type PartRecord, type Report } from "./bench_cni/report.ts";
import { ROOT, tool } from "./support/tools.ts";

const PARTS: Readonly<Record<string, BenchPart>> = { plugin: benchPlugin, burst: benchBurst };
const OUTPUT = join(ROOT, "docs/benchmarks");

const HELP = `Usage: deno task bench:cni [options]

  --parts NAMES  comma list of ${Object.keys(PARTS).join(", ")} (default all)
  --only NAMES   subjects, comma list, such as compiled,istio (default all)
  --binary PATH  the compiled ambit; default: built anew
  --quick        few runs, nothing written: a look, not a result
  --check        exit 1 when a limit is exceeded
`;

const { values } = parseArgs({
  options: {
    parts: { type: "string", default: Object.keys(PARTS).join(",") },
    only: { type: "string" },
    binary: { type: "string" },
    quick: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

function say(line: string): void {
  console.error(`[${(performance.now() / 1000).toFixed(0).padStart(4)} s] ${line}`);
}

/** Ports of the host are others': the whole benchmark runs in a network namespace of its own. */
function enterNamespace(): void {
  if (process.env["AMBIT_BENCH_NAMESPACE"] === "1") return;
  const own = [tool("deno"), "run", "-A", fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const user = process.getuid?.() === 0 ? "-nm" : "-Urnm";
  try {
    execFileSync("unshare", [user, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", ...own], {
      stdio: "inherit",
      env: { ...process.env, AMBIT_BENCH_NAMESPACE: "1" },
    });
    process.exit(0);
  } catch (error) {
    process.exit((error as { readonly status?: number }).status ?? 1);
  }
}

async function runPart(name: string, binary: string): Promise<PartRecord> {
  const directory = mkdtempSync(join(tmpdir(), `ambit-bench-cni-${name}-`));
  try {
    const only = values.only === undefined ? undefined : new Set(values.only.split(","));
    const result = await PARTS[name]({ directory, binary, quick: values.quick, only, say });
    rmSync(directory, { recursive: true, force: true });
    return {
      ...result,
      date: new Date().toISOString().slice(0, 10),
      command: ["deno task bench:cni", ...process.argv.slice(2)].join(" "),
      loadAverage: Number(readFileSync("/proc/loadavg", "utf8").split(" ")[0]),
    };
  } catch (error) {
    say(`logs of the failed run are in ${directory}`);
    throw error;
  } finally {
    await stopAll();
  }
}

async function main(): Promise<boolean> {
  const names = values.parts.split(",");
  const unknown = names.find((name) => !(name in PARTS));
  if (unknown !== undefined) throw new Error(`--parts: unknown part "${unknown}"`);
  const binaries = mkdtempSync(join(tmpdir(), "ambit-bench-cni-"));
  const parts: Record<string, PartRecord> = {};
  try {
    // Not under the name that the plugin has on a node: the same file is the agent, and by that name it would be the plugin.
    const binary = values.binary ?? join(binaries, "ambit");
    if (values.binary === undefined) await build(hostArch(), binary);
    for (const name of names) parts[name] = await runPart(name, binary);
  } finally {
    rmSync(binaries, { recursive: true, force: true });
  }
  const versions = {
    deno: versionOf(tool("deno"), ["--version"]),
    bun: versionOf(tool("bun"), ["--version"]),
    go: versionOf("go", ["version"]),
  };
  const report = { machine: describeMachine(), versions, parts: { ...lastParts(), ...parts } };
  console.log(markdown({ ...report, parts }));
  if (!values.quick) {
    mkdirSync(OUTPUT, { recursive: true });
    writeFileSync(join(OUTPUT, "cni.md"), markdown(report));
    writeFileSync(join(OUTPUT, "cni.json"), JSON.stringify(report, null, 1) + "\n");
  }
  return holds(Object.values(parts));
}

function lastParts(): Report["parts"] {
  const path = join(OUTPUT, "cni.json");
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Report).parts : {};
}

if (values.help) {
  console.log(HELP);
} else {
  enterNamespace();
  const ok = await main();
  process.exit(values.check && !ok ? 1 : 0);
}
