/**
 * Many pods at once on one node: how long each waits for the plugin, and so for its sandbox, until its traffic is captured. Everything is
 * real (tests/cni/support): API server, agent with five capabilities, ztunnel, namespaces with a bridge behind them. Only the plugins
 * before ours have run already: what they take is not ours.
 */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { eventually } from "../../tests/e2e/support/wait.ts";
import { CniLab } from "../../tests/cni/support/lab.ts";
import { podRules } from "../../tests/cni/support/kernel.ts";
import type { CniNode, Software } from "../../tests/cni/support/node.ts";
import { CniPod } from "../../tests/cni/support/pod.ts";
import { inTurns } from "../../tests/cni/support/turns.ts";
import { buildModules } from "../support/go_modules.ts";
import { ROOT } from "../support/tools.ts";
import type { Figure, PartContext, PartResult } from "./part.ts";

const PODS = 200;
const QUICK_PODS = 40;
/** How many the runtime works on at the same time: one for each core, more than there are cores, and all that there are. */
const WIDTHS = [availableParallelism(), 8, PODS];
/**
 * What the issue asks of the compiled binary, with as many at once as there are cores: more of them wait for a core, whoever runs, which is
 * what the other rows show.
 */
const LIMIT_MS = 250;

interface Call {
  readonly startMs: number;
  readonly endMs: number;
  readonly error?: string;
}

interface Burst {
  readonly width: number;
  readonly calls: readonly Call[];
  /** Of the agent and the programs it ran, per pod. */
  readonly agentCpuMs: number;
  readonly agentMb: number;
}

export async function benchBurst(context: PartContext): Promise<PartResult> {
  const { binary, quick, say } = context;
  // For the node's ztunnel too.
  process.env["AMBIT_BINARY"] = binary;
  const subjects = await findSubjects(context);
  const lab = await CniLab.start();
  let failed = true;
  try {
    const bursts: Record<string, Burst[]> = {};
    for (const [name, software] of Object.entries(subjects)) {
      const node = await lab.addNode("compiled", name, software);
      await node.startAgent();
      await node.ztunnel.start();
      await node.ztunnel.ready();
      await node.agent.connected();
      bursts[name] = [];
      for (const width of WIDTHS) {
        say(`burst: ${name}, ${width} at once`);
        const count = quick ? QUICK_PODS : PODS;
        bursts[name].push(await measure(node, `burst-${name}-${width}`, count, Math.min(width, count)));
      }
      await node.agent.stop();
      await node.ztunnel.stop();
    }
    failed = false;
    return toResult(bursts, Object.keys(subjects));
  } finally {
    await lab.close(failed);
  }
}

async function findSubjects({ binary, only, say }: PartContext): Promise<Record<string, Software>> {
  const wanted = (name: string) => only === undefined || only.has(name);
  const subjects: Record<string, Software> = {};
  if (wanted("compiled")) subjects["compiled"] = { agent: [binary, "install-cni"], plugin: binary };
  if (wanted("istio")) {
    try {
      const [place = ""] = await buildModules([{
        name: "istio-cni-agent",
        directory: join(ROOT, "tests/istiod/go/istio"),
        programs: {
          "istio.io/istio/cni/cmd/install-cni": "install-cni",
          "istio.io/istio/cni/cmd/istio-cni": "istio-cni",
        },
      }], say);
      subjects["istio"] = { agent: [join(place, "install-cni")], plugin: join(place, "istio-cni") };
    } catch (error) {
      say(`Istio's own agent cannot be built and is left out: ${(error as Error).message}`);
    }
  }
  return subjects;
}

async function measure(node: CniNode, namespace: string, count: number, width: number): Promise<Burst> {
  await node.lab.addNamespace(namespace, "ambient");
  const pods = await inTurns(Array.from({ length: count }), 8, async (_, i) => {
    const pod = await CniPod.bind(node, { name: `p${i}`, namespace, serviceAccount: "burst", idle: true });
    await pod.makeNamespace();
    return pod;
  });
  const results = await inTurns(pods, 4, (pod) => node.addByBridge(pod));
  const { program } = node.agent;
  const cpuMs = program!.cpuMs;
  const calls = JSON.parse(
    await node.exec([node.lab.binaries.pod, "burst"], undefined, JSON.stringify(burstSpec(node, pods, results, width))),
  ) as Call[];
  const failure = calls.find(({ error }) => error !== undefined);
  if (failure !== undefined) throw new Error(`a pod got no sandbox: ${failure.error}`);
  const agentCpuMs = (program!.cpuMs - cpuMs) / count;
  const agentMb = program!.residentKilobytes / 1024;
  // It was not only said to be done.
  const served = new Set(await node.ztunnel.served());
  await inTurns(pods, 4, async (pod) => {
    if ((await podRules(pod)).length === 0 || !served.has(pod.uid)) throw new Error(`${pod.name} is not captured`);
  });
  await inTurns(pods, 8, (pod) => pod.remove());
  await eventually(async () => {
    const left = await node.ztunnel.served();
    if (left.length > 0) throw new Error(`ztunnel still serves ${left.length} pods`);
  }, 60_000);
  return { width, calls, agentCpuMs, agentMb };
}

/** What a runtime hands to the last plugin of the chain, for each pod. */
function burstSpec(node: CniNode, pods: readonly CniPod[], results: readonly unknown[], width: number): unknown {
  const { name, cniVersion, plugins } = node.conflist() as unknown as {
    readonly name: string;
    readonly cniVersion: string;
    readonly plugins: readonly Readonly<Record<string, unknown>>[];
  };
  return {
    plugin: "/opt/cni/bin/istio-cni",
    width,
    env: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "CNI_COMMAND=ADD", "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin"],
    calls: pods.map((pod, i) => ({
      env: [
        `CNI_CONTAINERID=${pod.containerId}`,
        `CNI_NETNS=/var/run/netns/${pod.netns}`,
        `CNI_ARGS=${Object.entries({ IgnoreUnknown: "1", ...pod.cniArgs }).map(([k, v]) => `${k}=${v}`).join(";")}`,
      ],
      stdin: JSON.stringify({ ...plugins.at(-1), name, cniVersion, prevResult: results[i] }),
    })),
  };
}

function toResult(bursts: Readonly<Record<string, readonly Burst[]>>, subjects: readonly string[]): PartResult {
  const figures: Figure[] = WIDTHS.flatMap((width, at) => {
    const of = (value: (burst: Burst) => number) =>
      Object.fromEntries(subjects.map((subject) => [subject, value(bursts[subject][at])]));
    const wait = (fraction: number) =>
      of(({ calls }) => quantile(calls.map(({ startMs, endMs }) => endMs - startMs), fraction));
    const label = width >= PODS ? "all at once" : `${width} at once`;
    return [
      { label: `${label}: from ADD to redirected, p50`, unit: "ms", values: wait(0.5) },
      {
        label: `${label}: from ADD to redirected, p99`,
        unit: "ms",
        values: wait(0.99),
        ...(width === WIDTHS[0] ? { limit: { value: LIMIT_MS, subjects: ["compiled"] } } : {}),
      },
      {
        label: `${label}: pods in a second`,
        unit: "",
        values: of(({ calls }) => calls.length * 1000 / Math.max(...calls.map(({ endMs }) => endMs))),
      },
      { label: `${label}: agent's CPU per pod`, unit: "ms", values: of(({ agentCpuMs }) => agentCpuMs) },
      { label: `${label}: agent's RSS afterwards`, unit: "MB", values: of(({ agentMb }) => agentMb) },
    ];
  });
  const count = bursts[subjects[0]][0].calls.length;
  return {
    title: "A burst of pods",
    text:
      `${count} pods of the mesh on one node, whose ADD the runtime runs so many at a time. From the start of the plugin to its ` +
      "success: by then rules are in, ztunnel serves the pod and it is annotated, which is verified for each. Agent (five capabilities), " +
      "ztunnel, API server and runtime share the machine. The agent's CPU has that of the programs it runs. `istio` is Istio's own " +
      "agent and plugin, with the same ztunnel.",
    subjects,
    figures,
    samples: bursts,
  };
}

/** Nearest rank. */
function quantile(values: readonly number[], fraction: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)];
}
