/** What a scenario gets: the lab, its build's nodes and stage, and a hand that clears up what it made. */
import type { Build } from "../../../istiod/support/builds.ts";
import type { KubeObject } from "../../../istiod/support/kube_api.ts";
import type { IstiodLab, PodWish } from "../../../istiod/support/lab.ts";
import type { LabNode } from "../../../istiod/support/node.ts";
import { PORTS } from "../apps/protocol.ts";
import { LabService, type PortFacts, type ServiceWish } from "./services.ts";
import { type AppPod, setStage, type Stage, STAGE_WAYPOINT, startApps } from "./stage.ts";
import { LabWaypoint, type WaypointWish } from "./waypoint.ts";
import { say } from "./say.ts";

/** Of every service that does not say otherwise. */
export const STANDARD_PORTS: readonly PortFacts[] = [
  { name: "http", port: 80, target: PORTS.http },
  { name: "http2-api", port: 81, target: PORTS.http },
  { name: "grpc-api", port: 90, target: PORTS.grpc },
  { name: "tcp-echo", port: 91, target: PORTS.echo },
  { name: "tcp-first", port: 92, target: PORTS.serverFirst },
  // No protocol in the name: the waypoint must find out.
  { name: "any", port: 93, target: PORTS.http },
  { name: "any-first", port: 94, target: PORTS.serverFirst },
  { name: "any-echo", port: 95, target: PORTS.echo },
];

type AppWish = Omit<PodWish, "namespace"> & { readonly namespace?: string };

const stages = new Map<Build, Promise<Stage>>();

export class Scene {
  readonly #made: KubeObject[] = [];
  readonly #services: LabService[] = [];
  readonly #apps: AppPod[] = [];
  readonly #waypoints: LabWaypoint[] = [];
  readonly #nodes: LabNode[] = [];

  constructor(
    readonly lab: IstiodLab,
    readonly build: Build,
    /** Two nodes whose ztunnels run all the time. A scenario that ends or restarts one makes its own. */
    readonly a: LabNode,
    readonly b: LabNode,
    readonly number: number,
  ) {}

  /** A Kubernetes namespace that no other scenario uses. More of them: any name that begins with it. */
  get namespace(): string {
    return `s${this.number}-${this.build}`;
  }

  /** Made by the first scenario that asks. */
  stage(): Promise<Stage> {
    let stage = stages.get(this.build);
    if (stage === undefined) stages.set(this.build, stage = setStage(this.lab, this.build, this.a, this.b));
    return stage;
  }

  /** A name that no other scenario uses in the stage's namespace. */
  name(text: string): string {
    return `${text}-${this.number}`;
  }

  /** A service behind the stage's waypoint, unless the wish says otherwise: `waypoint: undefined` is none. */
  async addService(
    name: string,
    wish: Partial<Omit<ServiceWish, "pods">> & { readonly pods: readonly AppPod[] },
  ): Promise<LabService> {
    const { pods, ...rest } = wish;
    const service = await LabService.create(this.lab, {
      name: this.name(name),
      namespace: (await this.stage()).namespace,
      ports: STANDARD_PORTS,
      waypoint: STAGE_WAYPOINT,
      ...rest,
      pods: pods.map(({ pod }) => pod),
    });
    this.#services.push(service);
    // A connection to an address that ztunnel does not know yet hangs for the kernel's patience.
    await this.lab.settle([this.a, this.b, ...this.#nodes], { services: [`${service.namespace}/${service.name}`] });
    return service;
  }

  /** Makes objects; those without a namespace are in the stage's. */
  async apply(...objects: readonly KubeObject[]): Promise<void> {
    const placed = await this.#place(objects);
    this.#made.push(...placed);
    await this.lab.apply(...placed);
  }

  async delete(...objects: readonly KubeObject[]): Promise<void> {
    await this.lab.delete(...await this.#place(objects));
  }

  async addApps(...wishes: readonly AppWish[]): Promise<AppPod[]> {
    const { namespace } = await this.stage();
    const apps = await startApps(this.lab, ...wishes.map((wish) => ({ namespace, ...wish })));
    this.#apps.push(...apps);
    return apps;
  }

  /** A node with a ztunnel, of this scenario alone. */
  async addNode(letter: string, env: Readonly<Record<string, string>> = {}): Promise<LabNode> {
    const node = await this.lab.addNode(this.build, `${this.build}-${this.number}${letter}`);
    this.#nodes.push(node);
    await node.start(env);
    return node;
  }

  /** A waypoint of this scenario alone; in its own namespace unless the wish says otherwise. */
  async addWaypoint(wish: Partial<WaypointWish> = {}, replicas = 1): Promise<LabWaypoint> {
    const namespace = wish.namespace ?? this.namespace;
    await this.lab.addNamespace(namespace);
    const full = { name: "waypoint", node: this.a, build: this.build, ...wish, namespace };
    const waypoint = await LabWaypoint.deploy(this.lab, full, replicas);
    this.#waypoints.push(waypoint);
    return waypoint;
  }

  /** Takes away what it made. */
  async strike(): Promise<void> {
    for (const object of this.#made.splice(0).reverse()) await this.lab.delete(object).catch(() => {});
    for (const service of this.#services.splice(0)) await service.remove().catch(() => {});
    for (const waypoint of this.#waypoints.splice(0)) {
      await this.lab.delete(waypoint.gateway).catch(() => {});
      await waypoint.close();
    }
    for (const { app, pod } of this.#apps.splice(0)) {
      await app.kill();
      await this.lab.removePods(pod).catch(() => {});
    }
    for (const node of this.#nodes.splice(0)) await node.stop().catch(() => {});
  }

  /** Shows what the proxies said last, when it has failed. */
  async report(name: string): Promise<void> {
    const stage = await stages.get(this.build);
    const waypoints = [...(stage === undefined ? [] : [stage.waypoint]), ...this.#waypoints];
    say(`--- ${this.build}: ${name}`);
    for (const { pod, container } of waypoints.flatMap(({ replicas }) => replicas)) {
      show(`waypoint ${pod.namespace}/${pod.name}`, container?.log ?? "not started");
    }
    for (const node of [this.a, this.b, ...this.#nodes]) show(`ztunnel of ${node.name}`, node.lastWords());
  }

  /** At the end of all. */
  async close(): Promise<void> {
    const stage = await stages.get(this.build)?.catch(() => undefined);
    stages.delete(this.build);
    if (stage === undefined) return;
    await stage.waypoint.close();
    for (const { app } of [stage.client, stage.stranger, stage.alpha, stage.beta, stage.plain]) await app.kill();
  }

  async #place(objects: readonly KubeObject[]): Promise<KubeObject[]> {
    const { namespace } = await this.stage();
    return objects.map((object) => ({ ...object, metadata: { namespace, ...object.metadata } }));
  }
}

const SHOWN_LINES = 6;
const SHOWN_CHARACTERS = 500;

function show(who: string, log: string): void {
  const lines = log.trimEnd().split("\n").slice(-SHOWN_LINES).map((line) => line.slice(0, SHOWN_CHARACTERS));
  say([`--- ${who}:`, ...lines].join("\n"));
}
