/**
 * How the scenarios are written: one text, run once for each build, in Kubernetes namespaces of its own. The lab starts with the first
 * and is shared by all; each build has two nodes, so that cross-node is between two processes of the same build.
 */
import process from "node:process";
import { after, test } from "node:test";
import { type Build, buildsUnderTest } from "./builds.ts";
import { ISTIOD_NAME, ISTIOD_PORT } from "./control_plane.ts";
import { IstiodLab } from "./lab.ts";
import type { LabNode } from "./node.ts";

/** What a scenario gets. */
export interface Scene {
  readonly lab: IstiodLab;
  readonly build: Build;
  /** Two nodes whose ztunnels run all the time. A scenario that ends or restarts one makes its own. */
  readonly a: LabNode;
  readonly b: LabNode;
  /** A Kubernetes namespace that no other scenario uses. More of them: any name that begins with it. */
  readonly namespace: string;
}

/** istiod as the chart names it, where the other nodes go to its address and expect its name. */
const BY_NAME = {
  CA_ADDRESS: `${ISTIOD_NAME}:${ISTIOD_PORT}`,
  XDS_ADDRESS: `${ISTIOD_NAME}:${ISTIOD_PORT}`,
  ALT_XDS_HOSTNAME: undefined,
  ALT_CA_HOSTNAME: undefined,
};

const builds = buildsUnderTest();
let failed = false;
let shared: Promise<IstiodLab> | undefined;

async function startLab(): Promise<IstiodLab> {
  const lab = await IstiodLab.start();
  try {
    await Promise.all(builds.flatMap((build) =>
      ["a", "b"].map(async (letter) => {
        const node = await lab.addNode(build, `${build}-${letter}`);
        await node.start(letter === "a" ? {} : BY_NAME);
      })
    ));
  } catch (error) {
    await lab.close(true);
    throw error;
  }
  return lab;
}

/** The lab, for what is not a matter of one build. */
export function theLab(): Promise<IstiodLab> {
  return shared ??= startLab();
}

after(async () => {
  const lab = await shared?.catch(() => undefined);
  await lab?.close(failed || process.env.AMBIT_ISTIOD_KEEP === "1");
});

export interface ScenarioOptions {
  /** It waits more than it works: its runs for all builds go on side by side, begun with the first. */
  readonly sideBySide?: boolean;
}

let count = 0;
/** Parts of names, comma-separated; empty: all. */
const only = (process.env.AMBIT_ISTIOD_ONLY ?? "").split(",").filter((text) => text !== "");

/** Registers a scenario for every build. */
export function scenario(name: string, run: (scene: Scene) => Promise<void>, options: ScenarioOptions = {}): void {
  const number = ++count;
  register(name, options.sideBySide === true, once((build, lab) => run(createScene(lab, build, number))));
}

/** Registers a scenario that is for all builds at once, because it does something to the control plane that they share. */
export function scenarioForAll(name: string, run: (lab: IstiodLab, scenes: readonly Scene[]) => Promise<void>): void {
  const number = ++count;
  let shared: Promise<void> | undefined;
  register(name, false, (_build, lab) => shared ??= run(lab, builds.map((build) => createScene(lab, build, number))));
}

function createScene(lab: IstiodLab, build: Build, number: number): Scene {
  const node = (letter: string) => lab.nodes.get(`${build}-${letter}`)!;
  return { lab, build, a: node("a"), b: node("b"), namespace: `s${number}-${build}` };
}

function once(run: (build: Build, lab: IstiodLab) => Promise<void>): (build: Build, lab: IstiodLab) => Promise<void> {
  const runs = new Map<Build, Promise<void>>();
  return (build, lab) => {
    const begun = runs.get(build) ?? run(build, lab);
    runs.set(build, begun);
    // Each is awaited by its own test; a failure before that is not unhandled.
    begun.catch(() => {});
    return begun;
  };
}

function register(name: string, sideBySide: boolean, run: (build: Build, lab: IstiodLab) => Promise<void>): void {
  if (only.length > 0 && !only.some((text) => name.includes(text))) return;
  for (const build of builds) {
    test(`istiod, ${build}: ${name}`, async () => {
      try {
        const lab = await theLab();
        if (sideBySide) { for (const other of builds) void run(other, lab); }
        await run(build, lab);
      } catch (error) {
        failed = true;
        throw error;
      }
    });
  }
}
