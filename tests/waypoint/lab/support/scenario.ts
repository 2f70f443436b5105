/**
 * How the scenarios are written: one text, run once for each build, against one control plane that all share. To add some: a file in scenarios/,
 * named in suite.ts, that calls `scenario`.
 *
 *   scenario("what holds", async (scene) => {
 *     const { client, alpha, beta } = await scene.stage();                // a waypoint and pods that all scenarios of a build share
 *     const service = await scene.addService("shop", { pods: [alpha] });  // behind the stage's waypoint; named ports http, grpc, tcp, first, any
 *     await scene.apply(httpRoute(service, …));                           // any objects; they are in the stage's namespace
 *     await eventually(async () => {                                      // istiod takes a moment
 *       assert.equal((await client.app.echo(service.url())).app, "alpha");
 *     });
 *   });
 *
 * Services must have names that no other scenario uses: `scene.name("shop")` makes one. What `scene.apply` and `scene.addService` made is taken
 * away at the end. A scenario that ends or restarts a proxy makes its own: `scene.addWaypoint`, `scene.addNode`, `scene.addApps`.
 */
import process from "node:process";
import { after, test } from "node:test";
import { type Build, buildsUnderTest } from "../../../istiod/support/builds.ts";
import type { KubeObject } from "../../../istiod/support/kube_api.ts";
import { IstiodLab } from "../../../istiod/support/lab.ts";
import type { LabNode } from "../../../istiod/support/node.ts";
import { PLANE } from "./plane.ts";
import { LabService, type PortFacts } from "./services.ts";
import { Scene } from "./scene.ts";
import type { Stage } from "./stage.ts";

export type { LabService, PortFacts, Stage };
export { Scene };

const builds = buildsUnderTest("AMBIT_WAYPOINT_BUILDS");
/** Parts of names, comma-separated; empty: all. */
const only = (process.env.AMBIT_WAYPOINT_ONLY ?? "").split(",").filter((text) => text !== "");
const keep = process.env.AMBIT_WAYPOINT_KEEP === "1";
let failed = false;
let shared: Promise<IstiodLab> | undefined;
const scenes: Scene[] = [];

async function startLab(): Promise<IstiodLab> {
  const lab = await IstiodLab.start(PLANE);
  try {
    await Promise.all(
      builds.flatMap((build) =>
        ["a", "b"].map(async (letter) => {
          const labels = { "topology.kubernetes.io/region": `region-${letter}` };
          await (await lab.addNode(build, `${build}-${letter}`, labels)).start();
        })
      ),
    );
  } catch (error) {
    await lab.close(true);
    throw error;
  }
  return lab;
}

function theLab(): Promise<IstiodLab> {
  return shared ??= startLab();
}

after(async () => {
  const lab = await shared?.catch(() => undefined);
  for (const scene of scenes) await scene.close().catch(() => {});
  await lab?.close(failed || keep);
});

export interface ScenarioOptions {
  /** It waits more than it works: its runs for all builds go on side by side, begun with the first. */
  readonly sideBySide?: boolean;
}

let count = 0;

/** Registers a scenario for every build. */
export function scenario(name: string, run: (scene: Scene) => Promise<void>, options: ScenarioOptions = {}): void {
  const number = ++count;
  register(name, options.sideBySide === true, once((build, lab) => play(name, createScene(lab, build, number), run)));
}

/** Registers a scenario that is for all builds at once, because it does something to the control plane that they share. */
export function scenarioForAll(name: string, run: (lab: IstiodLab, scenes: readonly Scene[]) => Promise<void>): void {
  const number = ++count;
  let shared: Promise<void> | undefined;
  register(name, false, (_build, lab) => shared ??= run(lab, builds.map((build) => createScene(lab, build, number))));
}

function createScene(lab: IstiodLab, build: Build, number: number): Scene {
  const node = (letter: string): LabNode => lab.nodes.get(`${build}-${letter}`)!;
  const scene = new Scene(lab, build, node("a"), node("b"), number);
  scenes.push(scene);
  return scene;
}

async function play(name: string, scene: Scene, run: (scene: Scene) => Promise<void>): Promise<void> {
  try {
    await run(scene);
  } catch (error) {
    // Before it is over: later the proxies have said more.
    await scene.report(name).catch(() => {});
    throw error;
  } finally {
    await scene.strike();
  }
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
    test(`waypoint, ${build}: ${name}`, async () => {
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

export type { KubeObject };
