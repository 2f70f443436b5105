/**
 * Runs tests/cluster/suite.ts: a Kubernetes node with Istio's charts, in which dist/ambit is istio-cni, ztunnel and waypoint. Needs root, cgroup v1,
 * and what `deno task cluster:build` has built. `deno task test:cluster`.
 *
 *   cluster_test.ts [--only=TEXT,TEXT] [--keep] [--stay] [--cni=ambit]
 *
 * --keep leaves the logs, --stay the running cluster until this is interrupted, --cni=ambit begins with ambit's node agent, not Istio's.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createCgroups, hasCgroups, removeCgroups } from "./support/cgroups.ts";
import { findClusterBinaries } from "./support/cluster_binaries.ts";
import { installPackages } from "./support/cluster_packages.ts";
import { failureReport, formatTotals, readTotals } from "./support/totals.ts";
import { ROOT, tool } from "./support/tools.ts";

/** It takes half of this on two free cores. A little of what CI gives it is left to say what failed. */
const TIMEOUT_MS = 10.5 * 60_000;

/** Named by the process, so that the next one sees whose it was. */
const DIRECTORY = "ambit-cluster-";
/** In a directory that somebody wants to look at. */
const KEPT = "kept";

const args = process.argv.slice(2);
const keep = args.includes("--keep");
const stay = args.includes("--stay");
const valueOf = (option: string) =>
  args.find((argument) => argument.startsWith(`--${option}=`))?.slice(option.length + 3) ?? "";

function giveUp(why: unknown): never {
  console.error(`test:cluster: ${why instanceof Error ? why.message : why}`);
  console.log(formatTotals({ passed: 0, failed: 1 }));
  process.exit(1);
}

/** What runs have left that were killed: a gigabyte each. */
function removeLeftovers(): void {
  for (const name of readdirSync(tmpdir()).filter((name) => name.startsWith(DIRECTORY))) {
    const path = join(tmpdir(), name);
    const isAlive = existsSync(`/proc/${name.slice(DIRECTORY.length).split("-")[0]}`);
    if (!isAlive && !existsSync(join(path, KEPT))) rmSync(path, { recursive: true, force: true });
  }
}

if (process.getuid?.() !== 0) giveUp("needs root: it runs a node of Kubernetes in namespaces of its own");
if (!hasCgroups()) giveUp("needs the controllers of cgroup v1, as its kubelet and containerd are set up");
const binary = process.env["AMBIT_BINARY"] || join(ROOT, "dist/ambit");
if (!existsSync(binary)) giveUp(`there is no ${binary}: run \`deno task build\` first`);
const binaries = await findClusterBinaries().catch(giveUp);
if (binaries === undefined) giveUp("the cluster's programs are not built: run `deno task cluster:build` first");
try {
  await installPackages();
} catch (error) {
  giveUp(error);
}

removeLeftovers();
const directory = mkdtempSync(join(tmpdir(), `${DIRECTORY}${process.pid}-`));
const cgroups = createCgroups();
const command = [
  "sh",
  "-c",
  // In cgroups of its own before it unshares: those are the root of what the node sees.
  'for procs in $CGROUPS; do echo $$ > "$procs" || exit 1; done; exec "$@"',
  "sh",
  ...["unshare", "--mount", "--mount-proc", "--net", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup"],
  // When this process is gone, by whatever death, its end of the pipe is too, and the first process of all ends with everything.
  ...[binaries.app, "init"],
  ...[tool("deno"), "test", "--quiet", "--no-check", "--allow-all", "tests/cluster/suite.ts"],
];
const started = performance.now();
let output = "";
const code = await new Promise<number>((resolve) => {
  const child = spawn(command[0]!, command.slice(1), {
    cwd: ROOT,
    stdio: ["pipe", "pipe", "pipe"],
    env: {
      ...process.env,
      CGROUPS: cgroups.map((cgroup) => `${cgroup}/cgroup.procs`).join(" "),
      AMBIT_CLUSTER_DIRECTORY: directory,
      AMBIT_CLUSTER_ONLY: valueOf("only"),
      AMBIT_CLUSTER_CNI: valueOf("cni"),
      AMBIT_CLUSTER_STAY: stay ? "1" : "",
    },
  });
  const timer = stay ? undefined : setTimeout(() => {
    output += `\ntimed out after ${TIMEOUT_MS} ms\n`;
    child.kill("SIGKILL");
  }, TIMEOUT_MS);
  for (const [stream, own] of [[child.stdout, process.stdout], [child.stderr, process.stderr]] as const) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      own.write(text);
    });
  }
  child.on("error", (error) => output += error.message);
  // Ends everything; what is to be cleaned up is.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill("SIGKILL"));
  if (stay) console.log(`test:cluster: to look inside: nsenter --target=$(pgrep --parent ${child.pid}) --all sh`);
  child.on("close", (status) => {
    clearTimeout(timer);
    resolve(status ?? 137);
  });
});
const totals = readTotals("deno", output, code);
if (totals.failed > 0) { for (const line of failureReport("deno", output)) console.log(`failed: ${line}`); }
removeCgroups(cgroups);
if (keep || totals.failed > 0) {
  for (const name of ["containerd", "etcd", "kubelet", "cni", "run"]) {
    rmSync(join(directory, name), { recursive: true, force: true });
  }
  writeFileSync(join(directory, KEPT), "");
  console.log(`cluster: logs and manifests are in ${directory}`);
} else {
  rmSync(directory, { recursive: true, force: true });
}
console.log(`cluster: ${Math.round((performance.now() - started) / 1000)} s`);
console.log(formatTotals(totals));
process.exit(totals.failed === 0 ? 0 : 1);
