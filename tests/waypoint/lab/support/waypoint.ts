/**
 * A waypoint as users get one: a Gateway in the API server, for which istiod renders Deployment and Service. What the cluster's own controllers and
 * the kubelet do with them is done here: pods by the template, with ambit in the place of the image, and their status.
 */
import { join } from "node:path";
import { httpOver, type HttpResponse } from "../../../e2e/support/http.ts";
import { eventually, pause } from "../../../e2e/support/wait.ts";
import type { Build } from "../../../istiod/support/builds.ts";
import type { KubeObject } from "../../../istiod/support/kube_api.ts";
import type { IstiodLab } from "../../../istiod/support/lab.ts";
import type { LabNode } from "../../../istiod/support/node.ts";
import { podStatus, waypointObject } from "../../../istiod/support/objects.ts";
import type { LabPod } from "../../../istiod/support/pod.ts";
import { Container } from "./container.ts";
import { endpointOf } from "./services.ts";
import { type ContainerSpec, environmentOf, expand, type PodSpec, Volumes } from "./volumes.ts";

export interface WaypointWish {
  readonly name: string;
  readonly namespace: string;
  readonly node: LabNode;
  readonly build: Build;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Changes to the Deployment, as users make them: a ConfigMap that the Gateway refers to. */
  readonly overlay?: unknown;
}

interface Template {
  readonly metadata: { readonly labels: Record<string, string>; readonly annotations: Record<string, string> };
  readonly spec: PodSpec;
}

const RENDER_MS = 30_000;
/** Between two looks at a starting pod; a kubelet looks every second. */
const PROBE_MS = 20;

export class LabWaypoint {
  readonly replicas: Replica[] = [];
  readonly gateway: KubeObject;
  readonly deployment: KubeObject;
  /** Of the Service that istiod made. */
  readonly vip: string;
  readonly #lab: IstiodLab;
  readonly #wish: WaypointWish;

  private constructor(lab: IstiodLab, wish: WaypointWish, gateway: KubeObject, deployment: KubeObject, vip: string) {
    this.#lab = lab;
    this.#wish = wish;
    this.gateway = gateway;
    this.deployment = deployment;
    this.vip = vip;
  }

  /** Makes the Gateway and, unless `replicas` is 0, one pod that is ready. */
  static async deploy(lab: IstiodLab, wish: WaypointWish, replicas = 1): Promise<LabWaypoint> {
    const { name, namespace, overlay } = wish;
    const made = waypointObject({ ...wish, labels: { "istio.io/waypoint-for": "service", ...wish.labels } });
    const parameters = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: `${name}-parameters`, namespace } };
    if (overlay !== undefined) await lab.apply({ ...parameters, data: { deployment: JSON.stringify(overlay) } });
    const infrastructure = { parametersRef: { group: "", kind: "ConfigMap", name: parameters.metadata.name } };
    const gateway = overlay === undefined ? made : { ...made, spec: { ...made.spec as object, infrastructure } };
    await lab.apply(gateway);
    const find = (apiVersion: string, kind: string) =>
      eventually(() => lab.plane.api.get({ apiVersion, kind, metadata: { name, namespace } }), RENDER_MS);
    const deployment = await find("apps/v1", "Deployment");
    const service = await find("v1", "Service");
    const { clusterIP } = service.spec as { clusterIP: string };
    const waypoint = new LabWaypoint(lab, wish, gateway, deployment, clusterIP);
    for (let i = 0; i < replicas; i++) await waypoint.addReplica(wish.node);
    if (replicas > 0) await waypoint.programmed();
    return waypoint;
  }

  get name(): string {
    return this.#wish.name;
  }

  get namespace(): string {
    return this.#wish.namespace;
  }

  get hostname(): string {
    return `${this.name}.${this.namespace}.svc.cluster.local`;
  }

  get template(): Template {
    return (this.deployment.spec as { template: Template }).template;
  }

  /** The first one, for those that have but one. */
  get replica(): Replica {
    return this.replicas[0]!;
  }

  /** A pod by the Deployment's template, that is ready and told to be. */
  async addReplica(node: LabNode = this.#wish.node): Promise<Replica> {
    const replica = await this.prepareReplica(node);
    await replica.start();
    await replica.ready();
    await this.tell(replica, true);
    return replica;
  }

  /** A pod by the template, in which nothing runs yet. */
  async prepareReplica(node: LabNode = this.#wish.node): Promise<Replica> {
    const { metadata, spec } = this.template;
    const [pod] = await this.#lab.addPods({
      name: `${this.name}-7d4b9f-${this.replicas.length}${Math.random().toString(36).slice(2, 6)}`,
      namespace: this.namespace,
      node,
      serviceAccount: spec.serviceAccountName,
      labels: { ...metadata.labels, "pod-template-hash": "7d4b9f" },
      annotations: metadata.annotations,
      captured: false,
      ready: false,
      spec: spec as unknown as Readonly<Record<string, unknown>>,
    }) as [LabPod];
    const object = await this.#lab.plane.api.get(pod.object);
    const replica = new Replica(this.#lab, this.#wish.build, node, pod, object);
    this.replicas.push(replica);
    return replica;
  }

  /** What the kubelet found, for the API server: the pod's status, and the slice of the Service. */
  async tell(replica: Replica, ready: boolean): Promise<void> {
    replica.told = ready;
    const { pod } = replica;
    await this.#lab.plane.api.patchStatus(pod.object, podStatus(pod.facts.addresses, ready));
    await this.#writeSlice();
  }

  /** The pod is deleted; its process has ended already, or is cut. */
  async removeReplica(replica: Replica): Promise<void> {
    this.replicas.splice(this.replicas.indexOf(replica), 1);
    await this.#writeSlice();
    await replica.container?.end();
    await this.#lab.removePods(replica.pod);
  }

  /** istiod has given the Gateway its address. */
  async programmed(): Promise<void> {
    await eventually(async () => {
      const { status } = await this.#lab.plane.api.get(this.gateway);
      const { addresses } = status as { addresses?: readonly unknown[] };
      if ((addresses ?? []).length === 0) {
        throw new Error(`istiod gives ${this.name} no address: ${JSON.stringify(status)}`);
      }
    }, RENDER_MS);
  }

  async close(): Promise<void> {
    for (const { container } of this.replicas) await container?.end();
  }

  async #writeSlice(): Promise<void> {
    const { name, namespace } = this;
    const { ports } =
      (await this.#lab.plane.api.get({ apiVersion: "v1", kind: "Service", metadata: { name, namespace } }))
        .spec as { ports: readonly { readonly name: string; readonly port: number }[] };
    await this.#lab.apply({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: `${name}-1`, namespace, labels: { "kubernetes.io/service-name": name } },
      addressType: "IPv4",
      ports: ports.map(({ name, port }) => ({ name, port, protocol: "TCP" })),
      endpoints: this.replicas.map(({ pod, told }) => endpointOf(pod, told)),
    });
  }
}

/** One pod of a waypoint. */
export class Replica {
  readonly pod: LabPod;
  readonly node: LabNode;
  /** As the API server has it. */
  readonly object: KubeObject;
  readonly spec: PodSpec;
  readonly volumes: Volumes;
  container!: Container;
  /** Last said of it: that it is ready. */
  told = false;
  /** From its start to its first success at the probe. */
  readyMs = 0;
  readonly #lab: IstiodLab;
  readonly #build: Build;

  constructor(lab: IstiodLab, build: Build, node: LabNode, pod: LabPod, object: KubeObject) {
    this.#lab = lab;
    this.#build = build;
    this.node = node;
    this.pod = pod;
    this.object = object;
    this.spec = object.spec as unknown as PodSpec;
    const directory = join(lab.directory, "pods", `${pod.namespace}_${pod.name}`);
    this.volumes = new Volumes(lab.plane.api, object, directory, this.user);
  }

  get containerSpec(): ContainerSpec {
    return this.spec.containers[0]!;
  }

  get user(): number {
    return Number(this.containerSpec.securityContext?.["runAsUser"] ?? 0);
  }

  /** Starts its container, for the first time or again after its end. `mounted`: its volumes are there already. */
  async start({ mounted = this.container !== undefined } = {}): Promise<Container> {
    const { pod, containerSpec } = this;
    const env = environmentOf(this.object, containerSpec);
    this.container = await Container.start(this.#lab.sandbox, {
      name: `${pod.namespace}_${pod.name}`,
      build: this.#build,
      place: { pod: pod.name, namespace: pod.namespace },
      args: containerSpec.args.map((argument) => expand(argument, env)),
      env,
      mounts: mounted
        ? this.volumes.mounts(this.spec, containerSpec)
        : await this.volumes.mount(this.spec, containerSpec),
      user: this.user,
      group: Number(containerSpec.securityContext?.["runAsGroup"] ?? this.user),
      directory: this.#lab.directory,
    });
    return this.container;
  }

  /** Probes as the kubelet does, for as long as the startup probe allows unless it is said; resolves with the milliseconds since it was started. */
  async ready(timeoutMs?: number): Promise<number> {
    const { failureThreshold, periodSeconds, httpGet } = this.containerSpec.startupProbe!;
    const deadline = timeoutMs === undefined
      ? this.container.startedMs + failureThreshold * periodSeconds * 1000
      : performance.now() + timeoutMs;
    for (let last = "no answer yet";;) {
      try {
        const { status, body } = await this.probe(httpGet.port, httpGet.path);
        if (status === 200) return this.readyMs = performance.now() - this.container.startedMs;
        last = `${status} ${body.trim()}`;
      } catch (error) {
        last = (error as Error).message;
      }
      if (!this.container.running || performance.now() > deadline) {
        const why = this.container.running ? `is not ready in time (${last})` : "ended";
        throw new Error(`the waypoint ${this.pod.name} ${why}; it said:\n${this.container.lastWords}`);
      }
      await pause(PROBE_MS);
    }
  }

  /** From the node to the pod's address, as a kubelet asks. */
  async probe(port: number, path: string): Promise<HttpResponse> {
    return httpOver(await this.#lab.lab.connect(this.node.namespaceFd, this.pod.ip(), port), path);
  }

  /** From inside the pod, as `istioctl` does by a port-forward. */
  async http(port: number, path: string, method = "GET"): Promise<HttpResponse> {
    return httpOver(await this.pod.connect("127.0.0.1", port), path, { method });
  }
}
