/**
 * `deno task bench:xds`: what a mesh of 1,000, 10,000 and 50,000 workloads costs one ztunnel, with real traffic through it meanwhile
 * (docs/benchmarks/xds.md). Each build of ambit takes its mesh from an istiod of this process over gRPC, and its pods from a node
 * agent; a client in one pod keeps one connection to the other pod busy and opens new ones to addresses nobody asked for before.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build, hostArch } from "./build.ts";
import { describeMachine, versionOf } from "./bench/machine.ts";
import { stopAll } from "./bench/spawn.ts";
import { startIstiod } from "./bench_xds/istiod.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, buildMesh, namesOf } from "./bench_xds/mesh.ts";
import { BenchNode, ownPods } from "./bench_xds/node.ts";
import { type BuildResult, holds, markdown, type Phase, type SizeResult } from "./bench_xds/report.ts";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const OUTPUT = join(ROOT, "docs/benchmarks");
const BUN = join(ROOT, "node_modules/.bin/bun");
const DENO = join(ROOT, "node_modules/.bin/deno");

/** How each is run, up to the role; the binary is where it is built. */
const BUILDS: Readonly<Record<string, readonly string[]>> = {
  deno: [DENO, "run", "-A", join(ROOT, "mod.ts")],
  bun: [BUN, join(ROOT, "mod.ts")],
  compiled: [],
};

const HELP = `Usage: deno task bench:xds [options]

  --only NAMES   comma list of ${Object.keys(BUILDS).join(", ")} (default all)
  --sizes LIST   workloads, comma list (default 1000,10000,50000)
  --rounds N     runs of each, of which the median counts (default 3)
  --quick        one round, nothing written: a look, not a result
  --check        exit 1 when a limit is exceeded
`;

const { values } = parseArgs({
  options: {
    only: { type: "string", default: Object.keys(BUILDS).join(",") },
    sizes: { type: "string", default: "1000,10000,50000" },
    rounds: { type: "string", default: "3" },
    quick: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

/** A ztunnel tidies up some seconds after its start and after a push; its memory is read after that. */
const TIDY_MS = 7_000;
/** Traffic without any push, for comparison. */
const QUIET_MS = 3_000;
/** Traffic still in the way of a push is part of it. */
const AFTER_PUSH_MS = 200;

function progress(line: string): void {
  console.error(`[${(performance.now() / 1000).toFixed(0).padStart(4)} s] ${line}`);
}

/**
 * Ports of the host are others': the whole benchmark runs in a network namespace of its own. And it runs on Bun: with istiod there, on
 * cores that are the ztunnel's too, a push to a compiled one took 205 to 236 ms instead of 367 to 436, and Deno's HTTP/2 server aborted
 * the process now and then when a connection ended (nghttp2's `find_stream_on_goaway_func`, Deno 2.9).
 */
function enterNamespace(): void {
  if (process.env["AMBIT_BENCH_NAMESPACE"] === "1") return;
  const own = [BUN, fileURLToPath(import.meta.url), ...process.argv.slice(2)];
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

async function measure(
  command: readonly string[],
  workloads: number,
  baseKib: number,
  directory: string,
): Promise<SizeResult> {
  const istiod = await startIstiod();
  const node = await BenchNode.create(directory, BUN, ROOT);
  const mesh = buildMesh(workloads);
  const next = buildMesh(workloads, 1);
  const pods = ownPods();
  try {
    // From the start, with the whole mesh.
    const connected = istiod.expect([...pods, ...mesh.addresses], mesh.policies);
    const first = await node.start(command, istiod);
    const readyMs = await first.ready();
    const cpuMs = first.mainThreadMs;
    await connected;
    await delay(TIDY_MS);
    const meshKib = first.residentKib - baseKib;
    await first.stop();

    // While it runs: nothing, then the mesh, then others in the place of all pods.
    const starting = istiod.expect(pods, []);
    const second = await node.start(command, istiod);
    await second.ready();
    const istiodOf = await starting;
    const traffic = node.traffic(BUN, ROOT);
    await delay(TIDY_MS);
    await traffic.report();
    await delay(QUIET_MS);
    const quiet = await traffic.report();
    const phase = async (work: () => Promise<number>): Promise<Phase> => {
      await traffic.report();
      const [main, all] = [second.mainThreadMs, second.cpu()];
      const ms = await work();
      const [mainCpuMs, processCpuMs] = [second.mainThreadMs - main, all()];
      await delay(AFTER_PUSH_MS);
      return { ms, mainCpuMs, processCpuMs, traffic: await traffic.report() };
    };
    const applied = await phase(async () =>
      await istiodOf.push(ADDRESS_TYPE, mesh.addresses) + await istiodOf.push(AUTHORIZATION_TYPE, mesh.policies)
    );
    await delay(TIDY_MS);
    const liveKib = second.residentKib - baseKib;
    const gone = namesOf(mesh.addresses, namesOf(next.addresses));
    const replaced = await phase(() => istiodOf.push(ADDRESS_TYPE, next.addresses, [...gone]));
    await delay(TIDY_MS);
    const replacedKib = second.residentKib - baseKib;
    await traffic.stop();
    await second.stop();
    return {
      workloads,
      readyMs,
      startCpuMs: cpuMs,
      meshKib,
      liveKib,
      replacedKib,
      bytes: mesh.bytes,
      quiet,
      applied,
      replaced,
    };
  } finally {
    await stopAll();
    await node.close();
    await istiod.close();
  }
}

/** RSS of a ztunnel that knows only its own two pods, and how soon that one is ready. */
async function measureBase(
  command: readonly string[],
  directory: string,
): Promise<{ readonly kib: number; readonly readyMs: number }> {
  const istiod = await startIstiod();
  const node = await BenchNode.create(directory, BUN, ROOT);
  try {
    const connected = istiod.expect(ownPods(), []);
    const ztunnel = await node.start(command, istiod);
    const readyMs = await ztunnel.ready();
    await connected;
    await delay(TIDY_MS);
    const kib = ztunnel.residentKib;
    await ztunnel.stop();
    return { kib, readyMs };
  } finally {
    await stopAll();
    await node.close();
    await istiod.close();
  }
}

async function main(): Promise<boolean> {
  const names = values.only.split(",");
  const unknown = names.find((name) => !(name in BUILDS));
  if (unknown !== undefined) throw new Error(`--only: unknown build "${unknown}"`);
  const sizes = values.sizes.split(",").map(Number);
  const rounds = values.quick ? 1 : Number(values.rounds);
  // Built anew, because an old one would be measured for the sources, and elsewhere, because somebody may be running dist/ambit.
  const binaries = mkdtempSync(join(tmpdir(), "ambit-bench-xds-"));
  const binary = join(binaries, "ambit");
  if (names.includes("compiled")) await build(hostArch(), binary);
  const commandOf = (name: string) => name === "compiled" ? [binary] : BUILDS[name];
  const results: BuildResult[] = [];
  for (const name of names) {
    const base: { readonly kib: number; readonly readyMs: number }[] = [];
    const all: SizeResult[] = [];
    for (let round = 0; round < rounds; round++) {
      const run = async <T>(what: string, work: (directory: string) => Promise<T>): Promise<T> => {
        progress(`${name}: ${what}, round ${round + 1}`);
        const directory = mkdtempSync(join(tmpdir(), "ambit-bench-xds-"));
        try {
          const result = await work(directory);
          rmSync(directory, { recursive: true, force: true });
          return result;
        } catch (error) {
          progress(`logs of the failed run are in ${directory}`);
          throw error;
        }
      };
      base.push(await run("its own pods alone", (directory) => measureBase(commandOf(name), directory)));
      for (const size of sizes) {
        const { kib } = base[base.length - 1];
        all.push(await run(`${size} workloads`, (directory) => measure(commandOf(name), size, kib, directory)));
      }
    }
    results.push({ name, base, sizes: all });
  }
  rmSync(binaries, { recursive: true, force: true });
  const versions = { deno: versionOf(DENO, ["--version"]), bun: versionOf(BUN, ["--version"]) };
  const text = markdown(results, describeMachine(), versions, loadAverage());
  console.log(text);
  if (!values.quick) {
    mkdirSync(OUTPUT, { recursive: true });
    writeFileSync(join(OUTPUT, "xds.md"), text);
    writeFileSync(
      join(OUTPUT, "xds.json"),
      JSON.stringify({ machine: describeMachine(), versions, results }, null, 1) + "\n",
    );
  }
  return holds(results);
}

/** Of the last minute, at the end: what the measured processes and everybody else kept busy. */
function loadAverage(): number {
  return Number(readFileSync("/proc/loadavg", "utf8").split(" ")[0]);
}

if (values.help) {
  console.log(HELP);
} else {
  enterNamespace();
  const ok = await main();
  process.exit(values.check && !ok ? 1 : 0);
}
