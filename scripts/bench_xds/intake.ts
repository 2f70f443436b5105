/**
 * Measured in a process of its own: the intake of ztunnel's main thread, with one worker thread that asks for destinations as connections would.
 * `intake.ts MESH.bin NEXT.bin probe|quiet`: takes in the first mesh, then the pods of the second for those of the first. `quiet`: the
 * worker asks nothing, so that what it keeps is not measured as the mesh's memory. Prints one line of JSON.
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { createMeshSink } from "../../src/control/xds/intake/mod.ts";
import { MeshStore } from "../../src/mesh/mod.ts";
import { releaseMemory } from "../../src/platform/process.ts";
import { startThread } from "../../src/platform/thread.ts";
import { MeshService } from "../../src/ztunnel/mesh_service.ts";
import { MeshUpdates } from "../../src/ztunnel/mesh_updates.ts";
import type { FromWorker, ToWorker } from "../../src/ztunnel/messages.ts";
import { loadMesh } from "./load.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "./mesh.ts";
import type { ProbeCommand, ProbeReport } from "./probe_worker.ts";

const [meshFile, nextFile, mode] = process.argv.slice(2);
const NODE = "node-0";

const store = new MeshStore();
const service = new MeshService(store, { nodeName: NODE, random: Math.random });
const updates = new MeshUpdates({
  store,
  service,
  nodeName: NODE,
  send: (_, message) => thread.post(message),
  broadcast: (message) => thread.post(message),
  podsConcerned: () => {},
  identityNeeded: () => {},
  identityUnused: () => {},
});
let epoch = 0;
let confirmed = (_epoch: number) => {};
let reported = (_report: ProbeReport) => {};
const started = Promise.withResolvers<void>();
const thread = startThread(new URL("./probe_worker.ts", import.meta.url), {}, {
  message(message) {
    const told = message as FromWorker | ProbeReport;
    if (told.type === "lookup") {
      const { resources, sampled = false } = service.answer(0, told.key, told.query);
      thread.post({ type: "answer", key: told.key, resources, sampled } satisfies ToWorker);
    } else if (told.type === "confirmed") confirmed(told.epoch);
    else if (told.type === "started") started.resolve();
    else if (told.type === "probed") reported(told);
  },
  ended: (error) => {
    throw error ?? new Error("the worker ended");
  },
});
const sink = createMeshSink({
  store,
  staticConfig: undefined,
  apply: (change) => updates.apply(change),
  flush: () => void updates.flush(),
  attend: () => thread.take(),
  settle: () =>
    new Promise<void>((resolve) => {
      const wanted = ++epoch;
      confirmed = (found) => found === wanted && resolve();
      thread.post({ type: "epoch", epoch });
    }),
});

const probing = mode === "probe";
const command = (message: ProbeCommand) => thread.post(message);
const report = () =>
  new Promise<ProbeReport>((resolve) => {
    reported = resolve;
    command({ type: "report" });
  });
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const threadCpuMs = () => Number(readFileSync("/proc/thread-self/schedstat", "utf8").split(" ")[0]) / 1e6;
const processCpuMs = () => (({ user, system }) => (user + system) / 1000)(process.cpuUsage());
const residentKb = () => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);

async function settledKb(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    releaseMemory();
    await sleep(50);
  }
  return residentKb();
}

let longestGapMs = 0;
let lastTick = performance.now();
let ticking = true;
function tick(): void {
  const now = performance.now();
  longestGapMs = Math.max(longestGapMs, now - lastTick);
  lastTick = now;
  if (ticking) setImmediate(tick);
}

async function measured(work: () => Promise<unknown>): Promise<Record<string, number>> {
  await report();
  longestGapMs = 0;
  lastTick = performance.now();
  const [wall, cpu, all] = [performance.now(), threadCpuMs(), processCpuMs()];
  await work();
  const result = { ms: performance.now() - wall, cpuMs: threadCpuMs() - cpu, processCpuMs: processCpuMs() - all };
  return { ...result, mainGapMs: longestGapMs, ...(await report()).figures };
}

await started.promise;
const accepted = new Map<string, string>();
const accept = (name: string, version: string) => void accepted.set(name, version);
const idleKb = await settledKb();
let mesh: ReturnType<typeof loadMesh> | undefined = loadMesh(meshFile);
const count = mesh.addresses.length;
if (probing) command({ type: "probe", vips: Math.ceil(count / 11) });
await sleep(300);
if (probing) tick();
const first = await measured(async () => {
  await sink.apply({ typeUrl: ADDRESS_TYPE, resources: mesh!.addresses, removed: [] }, accept);
  await sink.apply({ typeUrl: AUTHORIZATION_TYPE, resources: mesh!.policies, removed: [] }, accept);
});
mesh = undefined;
ticking = false;
command({ type: "rest" });
await sleep(100);
const fullKb = await settledKb();
const { workloads } = store.size;
let next: ReturnType<typeof loadMesh> | undefined = loadMesh(nextFile);
if (probing) command({ type: "probe", vips: Math.ceil(count / 11) });
await sleep(300);
ticking = true;
if (probing) tick();
const old = new Set(store.resources().workloads.map(({ uid }) => uid as string));
const replaced = await measured(async () => {
  const names = new Set<string>();
  await sink.apply({ typeUrl: ADDRESS_TYPE, resources: next!.addresses, removed: [] }, (name) => names.add(name));
  const removed = [...old].filter((uid) => !names.has(uid));
  await sink.apply({ typeUrl: ADDRESS_TYPE, resources: [], removed }, () => {});
});
next = undefined;
ticking = false;
command({ type: "rest" });
await sleep(100);
const replacedKb = await settledKb();
console.log(
  JSON.stringify({
    workloads,
    idleKb,
    fullKb,
    replacedKb,
    first,
    replaced,
    left: store.size.workloads,
    accepted: accepted.size,
  }),
);
process.exit(0);
