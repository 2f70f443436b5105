/** One measurement: the generator in the client's pod, the proxy's CPU and memory from /proc at the same moments. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { cpuBetween, residentKib, sampleCpu } from "../bench/proc.ts";
import { type BenchMesh, LOAD_CORE, NAMESPACE, type Protocol } from "./mesh.ts";
import type { LoadFigures } from "./load.ts";
import { ROOT, tool } from "./paths.ts";
import type { Running } from "./subject.ts";

export interface LoadWish {
  readonly service: string;
  readonly protocol: Protocol;
  readonly connections: number;
  readonly seconds: number;
  /** Bearer token; empty: none. */
  readonly token: string;
}

export interface Figures extends LoadFigures {
  readonly cpuUsPerRequest: number;
  /** Of its core, that the proxy used. */
  readonly coreShare: number;
  /** Of the time, that it waited for its core: others had it. */
  readonly waitShare: number;
}

/** Connections are open and code is compiled by then. */
const WARM_UP_MS = 3000;
const END_MS = 10_000;
const KIB_PER_MB = 1e6 / 1024;

export async function measureLoad(mesh: BenchMesh, subject: Running, wish: LoadWish): Promise<Figures> {
  const beginMs = Date.now() + WARM_UP_MS;
  const endMs = beginMs + wish.seconds * 1000;
  const load = await startLoad(mesh, wish, beginMs, endMs, []);
  await delay(beginMs - Date.now());
  const before = [sampleCpu(subject.pid)];
  const waitedNs = sampleWait(subject.pid);
  await delay(endMs - Date.now());
  const cpuNs = cpuBetween(before, [sampleCpu(subject.pid)]);
  const waitNs = sampleWait(subject.pid) - waitedNs;
  const figures = await load();
  return {
    ...figures,
    cpuUsPerRequest: cpuNs / 1000 / figures.requests,
    coreShare: cpuNs / 1e9 / wish.seconds,
    waitShare: waitNs / 1e9 / wish.seconds,
  };
}

/** Nanoseconds that its threads were ready and did not run (proc(5), schedstat). */
function sampleWait(pid: number): number {
  let total = 0;
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    total += Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, "utf8").split(" ")[1]);
  }
  return total;
}

/** Resident megabytes with that many connections open that each carried one request. */
export async function measureHeld(mesh: BenchMesh, subject: Running, wish: LoadWish): Promise<number> {
  const endMs = Date.now() + wish.seconds * 1000;
  const load = await startLoad(mesh, wish, endMs - 1, endMs, ["--hold"]);
  await delay(endMs - 500 - Date.now());
  const resident = residentMb(subject);
  await load();
  return resident;
}

export function residentMb(subject: Running): number {
  return residentKib(subject.pid) / KIB_PER_MB;
}

let runs = 0;

async function startLoad(
  mesh: BenchMesh,
  { service, protocol, connections, token }: LoadWish,
  beginMs: number,
  endMs: number,
  more: readonly string[],
): Promise<() => Promise<LoadFigures>> {
  const script = join(ROOT, "scripts/bench_l7/load.ts");
  const flags = {
    target: mesh.target(service, protocol),
    protocol,
    host: `${service}.${NAMESPACE}.svc.cluster.local`,
    connections,
    begin: beginMs,
    end: endMs,
    ...(token === "" ? {} : { token }),
  };
  const given = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
  const load = await mesh.run(`load-${runs++}`, mesh.client, LOAD_CORE, [tool("bun"), script, ...given, ...more]);
  return async () => {
    const deadline = Date.now() + END_MS;
    while (load.running && Date.now() < deadline) await delay(10);
    if (load.running) await load.end();
    const line = load.log.trim().split("\n").at(-1) ?? "";
    if (!line.startsWith("{")) throw new Error(`the generator failed: ${load.log.slice(-1500)}`);
    return JSON.parse(line) as LoadFigures;
  };
}
