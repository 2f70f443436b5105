/**
 * The mesh of the Gateway API's conformance suite (v1.7, conformance/mesh), with the applications of the stage: alpha is the suite's echo-v1, beta
 * its echo-v2. Where the suite lays one route after the other on one service `echo`, each feature has an `echo` of its own here, so that all are
 * laid at once.
 */
import type { KubeObject } from "../../../istiod/support/kube_api.ts";
import type { Build } from "../../../istiod/support/builds.ts";
import { PORTS } from "../apps/protocol.ts";
import { expectRows, type Row } from "./rows.ts";
import { scenario, type Scene } from "./scenario.ts";
import { LabService } from "./services.ts";
import { type AppPod, type Stage, STAGE_WAYPOINT } from "./stage.ts";

/** What a feature's objects and requests refer to. */
export interface Mesh {
  readonly stage: Stage;
  readonly scene: Scene;
  /** Of both applications, for this feature alone. */
  readonly echo: LabService;
  readonly v1: LabService;
  readonly v2: LabService;
  /** The suite asks from its echo-v1. */
  readonly from: AppPod;
  /** For the names of this feature's objects. */
  readonly name: string;
}

export interface Feature {
  /** The suite's ShortName. */
  readonly name: string;
  /** It lays routes on echo-v1 or echo-v2, so it has its own. */
  readonly ownVersions?: boolean;
  objects(mesh: Mesh): readonly KubeObject[];
  rows(mesh: Mesh): readonly Row[];
}

/** The suite's, with the applications' ports behind them. */
const ECHO_PORTS = [
  { name: "http", port: 80, target: PORTS.http, appProtocol: "http" },
  { name: "http-alt", port: 8080, target: PORTS.http, appProtocol: "http" },
  { name: "tcp", port: 9090, target: PORTS.echo },
  { name: "grpc", port: 7070, target: PORTS.grpc },
];
const CONVERGE_MS = 40_000;

const features: Feature[] = [];
const meshes = new Map<Build, Promise<ReadonlyMap<string, Mesh>>>();

/** Each is a scenario; the first of a build lays the objects of all. */
export function conformance(...added: readonly Feature[]): void {
  features.push(...added);
  for (const feature of added) {
    scenario(`conformance: ${feature.name}`, async (scene) => {
      let laid = meshes.get(scene.build);
      if (laid === undefined) meshes.set(scene.build, laid = lay(scene));
      const mesh = (await laid).get(feature.name)!;
      await expectRows(feature.rows(mesh), CONVERGE_MS);
    }, { sideBySide: true });
  }
}

async function lay(scene: Scene): Promise<ReadonlyMap<string, Mesh>> {
  const stage = await scene.stage();
  const { alpha, beta, namespace } = stage;
  const service = (name: string, ...pods: readonly AppPod[]) =>
    LabService.create(scene.lab, {
      name,
      namespace,
      ports: ECHO_PORTS,
      waypoint: STAGE_WAYPOINT,
      pods: pods.map(({ pod }) => pod),
    });
  const v1 = await service("echo-v1", alpha);
  const v2 = await service("echo-v2", beta);
  const laid = new Map<string, Mesh>();
  for (const [i, feature] of features.entries()) {
    const name = `conformance-${i}`;
    const own = feature.ownVersions === true;
    const mesh = {
      stage,
      scene,
      echo: await service(`echo-${name}`, alpha, beta),
      v1: own ? await service(`${name}-v1`, alpha) : v1,
      v2: own ? await service(`${name}-v2`, beta) : v2,
      from: alpha,
      name,
    };
    const objects = feature.objects(mesh).map((object) => ({ ...object, metadata: { namespace, ...object.metadata } }));
    await scene.lab.apply(...objects);
    laid.set(feature.name, mesh);
  }
  return laid;
}
