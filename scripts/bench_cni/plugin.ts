/**
 * What one call of the plugin costs, beside Istio's own plugin: wall time as the container runtime sees it, CPU, and peak
 * memory. The API server is a real one; the agent is not, it answers at once.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { join } from "node:path";
import process from "node:process";
import { EVENT_SOCKET_NAME, KUBECONFIG_NAME, LOG_SOCKET_NAME, pluginEntry } from "../../src/cni/net_conf.ts";
import { parseSelectors } from "../../src/cni/eligibility.ts";
import { startChild } from "../bench/spawn.ts";
import { buildModules } from "../support/go_modules.ts";
import { ISTIOD_MODULES } from "../support/istiod_binaries.ts";
import { ROOT, tool } from "../support/tools.ts";
import { createNamespace, createPod, startApiServer } from "./api_server.ts";
import type { Figure, PartContext, PartResult } from "./part.ts";

const RUNS = 200;
const QUICK_RUNS = 20;
const WARMUPS = 3;
/** What the issue asks of the compiled binary. */
const LIMIT_MS = 100;
const LIMIT_MB = 60;

const AMBIENT = { "istio.io/dataplane-mode": "ambient" };
const SELECTORS = parseSelectors([
  { podSelector: { matchLabels: AMBIENT } },
  {
    podSelector: { matchExpressions: [{ key: "istio.io/dataplane-mode", operator: "NotIn", values: ["none"] }] },
    namespaceSelector: { matchLabels: AMBIENT },
  },
]);

interface Case {
  readonly name: string;
  readonly command: "ADD" | "DEL";
  readonly namespace: string;
  /** Whether the issue limits it. */
  readonly limited: boolean;
}

const POD = "web-1";
const CASES: readonly Case[] = [
  { name: "ADD in an excluded namespace", command: "ADD", namespace: "kube-system", limited: true },
  { name: "ADD of a pod that no selector matches", command: "ADD", namespace: "plain", limited: true },
  { name: "ADD of an ambient pod", command: "ADD", namespace: "mesh", limited: false },
  { name: "DEL", command: "DEL", namespace: "mesh", limited: false },
];

interface Sample {
  readonly ms: number;
  readonly cpuMs: number;
  readonly rssKib: number;
}

/** By case, by subject. */
type Samples = Record<string, Record<string, readonly Sample[]>>;

export async function benchPlugin(context: PartContext): Promise<PartResult> {
  const { directory, say } = context;
  const [kubernetes = "", etcd = "", runner = ""] = await buildModules([
    ...ISTIOD_MODULES.filter(({ name }) => name === "kubernetes"),
    ...ISTIOD_MODULES.filter(({ name }) => name === "etcd"),
    { name: "bench-runner", directory: join(ROOT, "scripts/bench_cni/runner"), programs: { ".": "runner" } },
  ], say);
  const subjects = await findSubjects(context);
  const runDir = join(directory, "run");
  mkdirSync(runDir);
  const api = await startApiServer(
    { etcd: join(etcd, "server"), kubeApiserver: join(kubernetes, "kube-apiserver") },
    join(directory, "api"),
  );
  const agent = await Promise.all([EVENT_SOCKET_NAME, LOG_SOCKET_NAME].map((name) => serve(join(runDir, name))));
  try {
    writeFileSync(join(runDir, KUBECONFIG_NAME), api.kubeconfig, { mode: 0o600 });
    for (const [namespace, labels] of [["plain", {}], ["mesh", AMBIENT]] as const) {
      await createNamespace(api.client, namespace, labels);
      await createPod(api.client, namespace, POD);
    }
    const samples: Samples = {};
    for (const item of CASES) {
      say(`plugin: ${item.name}`);
      samples[item.name] = await runCase(join(runner, "runner"), item, subjects, runDir, context.quick);
    }
    return toResult(samples, Object.keys(subjects));
  } finally {
    for (const server of agent) {
      server.closeAllConnections();
      server.close();
    }
    await api.stop();
  }
}

/** Command lines by name. */
async function findSubjects({ binary, only, say }: PartContext): Promise<Record<string, readonly string[]>> {
  const subjects: Record<string, readonly string[]> = {
    compiled: [binary],
    bun: [tool("bun"), join(ROOT, "mod.ts")],
    deno: [tool("deno"), "run", "--quiet", "--no-check", "-A", join(ROOT, "mod.ts")],
  };
  const wanted = (name: string) => only === undefined || only.has(name);
  if (wanted("istio")) {
    try {
      const [place = ""] = await buildModules([{
        name: "istio-cni-plugin",
        directory: join(ROOT, "tests/istiod/go/istio"),
        programs: { "istio.io/istio/cni/cmd/istio-cni": "istio-cni" },
      }], say);
      subjects["istio"] = [join(place, "istio-cni")];
    } catch (error) {
      say(`Istio's own plugin cannot be built and is left out: ${(error as Error).message}`);
    }
  }
  return Object.fromEntries(Object.entries(subjects).filter(([name]) => wanted(name)));
}

/** Reads what it is sent and says 200. */
async function serve(path: string): Promise<Server> {
  const server = createServer((request, response) => {
    request.resume();
    request.on("end", () => response.end());
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return server;
}

/** The subjects take turns, so that what the machine does besides strikes all alike. */
async function runCase(
  runner: string,
  { command, namespace }: Case,
  subjects: Readonly<Record<string, readonly string[]>>,
  runDir: string,
  quick: boolean,
): Promise<Record<string, readonly Sample[]>> {
  const env = {
    PATH: process.env["PATH"],
    HOME: process.env["HOME"],
    ...(process.env["DENO_DIR"] === undefined ? {} : { DENO_DIR: process.env["DENO_DIR"] }),
    CNI_COMMAND: command,
    CNI_CONTAINERID: "bench",
    CNI_NETNS: "/var/run/netns/ambit-bench-no-such",
    CNI_IFNAME: "eth0",
    CNI_PATH: "/opt/cni/bin",
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${POD};K8S_POD_INFRA_CONTAINER_ID=bench`,
  };
  const spec = {
    runs: quick ? QUICK_RUNS : RUNS,
    warmups: WARMUPS,
    subjects: Object.entries(subjects).map(([name, line]) => ({
      name,
      command: line,
      env: Object.entries(env).map(([key, value]) => `${key}=${value ?? ""}`),
      stdin: JSON.stringify(networkConf(runDir)),
    })),
  };
  const logFile = join(runDir, "..", "runner.log");
  const { process: child } = startChild([runner], {
    core: 0,
    unpinned: true,
    logFile,
    readOutput: true,
    writeInput: true,
  });
  child.stdin?.end(JSON.stringify(spec));
  const exit = new Promise<number | null>((resolve) => child.once("exit", resolve));
  let stdout = "";
  for await (const chunk of child.stdout ?? []) stdout += chunk;
  if (await exit !== 0) throw new Error(`the runner failed: ${readFileSync(logFile, "utf8").trim()}`);
  return JSON.parse(stdout);
}

/** What the container runtime gives the last plugin of a chain. */
function networkConf(runDir: string): Record<string, unknown> {
  const entry = pluginEntry({
    logLevel: "info",
    agentRunDir: runDir,
    ambientEnabled: true,
    selectors: SELECTORS,
    excludedNamespaces: ["kube-system"],
    podNamespace: "istio-system",
    nativeNftables: false,
    detectionRetry: false,
  });
  const prevResult = {
    cniVersion: "1.0.0",
    interfaces: [{ name: "cni0" }, { name: "veth1" }, { name: "eth0", sandbox: "/var/run/netns/ambit-bench-no-such" }],
    ips: [{ interface: 2, address: "10.244.0.7/24", gateway: "10.244.0.1" }],
    routes: [{ dst: "0.0.0.0/0" }],
    dns: {},
  };
  return { ...entry, cniVersion: "1.0.0", name: "k8s-pod-network", prevResult };
}

function toResult(samples: Samples, subjects: readonly string[]): PartResult {
  const figures: Figure[] = CASES.flatMap(({ name, limited }) => {
    const of = (value: (taken: readonly Sample[]) => number) =>
      Object.fromEntries(subjects.map((subject) => [subject, value(samples[name][subject])]));
    const limit = (value: number) => limited ? { limit: { value, subjects: ["compiled"] } } : {};
    return [
      { label: `${name}: wall time, p50`, unit: "ms", values: of((taken) => quantile(taken.map(({ ms }) => ms), 0.5)) },
      {
        label: `${name}: wall time, p99`,
        unit: "ms",
        values: of((taken) => quantile(taken.map(({ ms }) => ms), 0.99)),
        ...limit(LIMIT_MS),
      },
      { label: `${name}: CPU, p50`, unit: "ms", values: of((taken) => quantile(taken.map(({ cpuMs }) => cpuMs), 0.5)) },
      {
        label: `${name}: peak RSS, highest`,
        unit: "MB",
        values: of((taken) => Math.max(...taken.map(({ rssKib }) => rssKib)) / 1024),
        ...limit(LIMIT_MB),
      },
    ];
  });
  const runs = samples[CASES[0].name][subjects[0]].length;
  return {
    title: "The plugin",
    text:
      `${runs} calls of each, in turn, against one kube-apiserver on the same machine; the agent's two sockets answer at ` +
      "once. `istio` is Istio's own plugin, `compiled` the binary of `deno task build`, `bun` and `deno` the sources.",
    subjects,
    figures,
    samples: compact(samples),
  };
}

/** One line a series, in the order of the runs: 200 runs of each would fill thousands. */
function compact(samples: Samples): unknown {
  const line = (values: readonly number[]) => values.map((value) => Math.round(value * 10) / 10).join(" ");
  const perSubject = (taken: readonly Sample[]) => ({
    ms: line(taken.map(({ ms }) => ms)),
    cpuMs: line(taken.map(({ cpuMs }) => cpuMs)),
    rssKib: line(taken.map(({ rssKib }) => rssKib)),
  });
  const perCase = (subjects: Samples[string]) =>
    Object.fromEntries(Object.entries(subjects).map(([name, taken]) => [name, perSubject(taken)]));
  return Object.fromEntries(Object.entries(samples).map(([name, subjects]) => [name, perCase(subjects)]));
}

/** Nearest rank. */
function quantile(values: readonly number[], fraction: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)];
}
