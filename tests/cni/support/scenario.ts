/**
 * How the scenarios are written: one text, run for each build on a node of its own, in Kubernetes namespaces of its own. The builds go on
 * side by side; on one node the scenarios come one after the other, and each finds agent and ztunnel running as by default.
 */
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { type Build, buildsUnderTest } from "../../istiod/support/builds.ts";
import { CniLab } from "./lab.ts";
import { mendApi } from "./network.ts";
import type { CniNode } from "./node.ts";
import { holdsNothingOf, remainsOf } from "./remains.ts";
import { inTurns } from "./turns.ts";

/** What a scenario gets. */
export interface Scene {
  readonly lab: CniLab;
  readonly build: Build;
  readonly node: CniNode;
  /** A Kubernetes namespace that no other scenario uses, not yet made. More of them: any name that begins with it. */
  readonly namespace: string;
}

const BUILDS = "AMBIT_CNI_BUILDS";
const builds = buildsUnderTest(BUILDS);
/** Parts of names, comma-separated; empty: all. */
const only = (process.env.AMBIT_CNI_ONLY ?? "").split(",").filter((text) => text !== "");
const keep = process.env.AMBIT_CNI_KEEP === "1";

let failed = false;
let shared: Promise<CniLab> | undefined;

async function startLab(): Promise<CniLab> {
  const lab = await CniLab.start();
  try {
    for (const build of builds) await lab.addNode(build, build);
    await Promise.all([...lab.nodes.values()].map(async (node) => {
      await node.startAgent();
      await node.ztunnel.start();
      await node.ztunnel.ready();
    }));
  } catch (error) {
    await lab.close(true);
    throw error;
  }
  return lab;
}

after(async () => {
  const lab = await shared?.catch(() => undefined);
  await lab?.close(failed || keep);
});

let count = 0;
/** What each build's node is busy with. */
const busy = new Map<Build, Promise<unknown>>();

/** Registers a scenario for every build. */
export function scenario(name: string, run: (scene: Scene) => Promise<void>): void {
  const number = ++count;
  if (only.length > 0 && !only.some((text) => name.includes(text))) return;
  const runs = new Map<Build, Promise<void>>();
  const begin = (build: Build, lab: CniLab): Promise<void> => {
    const begun = runs.get(build);
    if (begun !== undefined) return begun;
    const node = lab.nodes.get(build)!;
    const running = (busy.get(build) ?? Promise.resolve()).then(async () => {
      const started = performance.now();
      try {
        await run({ lab, build, node, namespace: `s${number}-${build}` });
      } finally {
        await tidyUp(node);
        const took = Math.round(performance.now() - started);
        appendFileSync(join(lab.directory, "log/scenarios.txt"), `${took} ms ${build}: ${name}\n`);
      }
    });
    runs.set(build, running);
    busy.set(build, running.catch(() => {}));
    return running;
  };
  for (const build of builds) {
    test(`cni, ${build}: ${name}`, async () => {
      try {
        shared ??= startLab();
        const lab = await shared;
        for (const other of builds) begin(other, lab);
        await begin(build, lab);
      } catch (error) {
        failed = true;
        throw error;
      }
    });
  }
}

/** The scenario's pods are gone, and agent and ztunnel are as the next one expects them, whatever happened. */
async function tidyUp(node: CniNode): Promise<void> {
  for (const fake of node.fakes.splice(0)) fake.close();
  await mendApi(node);
  const pods = node.pods.filter((pod) => pod !== node.agent.pod);
  const remains = pods.filter(({ netns }) => netns !== "").map(remainsOf);
  await inTurns(pods, 8, (pod) => pod.remove().catch(() => pod.forget()));
  if (!node.agent.running || node.agent.changed) {
    await node.resetFiles();
    await node.agent.restart().catch((error) => console.error(`${node.name}: ${error}`));
  }
  if (!node.ztunnel.running) {
    await node.ztunnel.start();
    await node.ztunnel.ready().catch((error) => console.error(`${node.name}: ${error}`));
  }
  // What is left of them would meet the next scenario.
  await holdsNothingOf(node, remains).catch((error) => console.error(`${node.name}: after a scenario: ${error}`));
}
