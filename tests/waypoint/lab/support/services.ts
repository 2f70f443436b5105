/** Services with the slices that an endpoint controller would make of them: named ports, as waypoints tell protocols by the name. */
import type { KubeObject } from "../../../istiod/support/kube_api.ts";
import type { IstiodLab } from "../../../istiod/support/lab.ts";
import type { LabPod } from "../../../istiod/support/pod.ts";

export interface PortFacts {
  /** Begins with the protocol: `http`, `grpc-api`, `tcp`, `https`; anything else is for the waypoint to find out. */
  readonly name: string;
  readonly port: number;
  readonly target: number;
  readonly appProtocol?: string;
}

export interface ServiceWish {
  readonly name: string;
  readonly namespace: string;
  readonly ports: readonly PortFacts[];
  readonly pods: readonly LabPod[];
  /** The Gateway that its traffic goes through; none for a service without one. */
  readonly waypoint?: string | undefined;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export class LabService {
  readonly #lab: IstiodLab;
  readonly #wish: ServiceWish;

  private constructor(lab: IstiodLab, wish: ServiceWish, readonly vip: string) {
    this.#lab = lab;
    this.#wish = wish;
  }

  static async create(lab: IstiodLab, wish: ServiceWish): Promise<LabService> {
    const { name, namespace, ports, waypoint, labels, annotations } = wish;
    const [made] = await lab.apply({
      apiVersion: "v1",
      kind: "Service",
      metadata: {
        name,
        namespace,
        labels: { ...(waypoint === undefined ? {} : { "istio.io/use-waypoint": waypoint }), ...labels },
        annotations: annotations ?? {},
      },
      spec: {
        // Pods carry it too; an ambient istiod goes by it, where Envoy's endpoints go by the slices.
        selector: { [selectorLabel(name)]: "yes" },
        ports: ports.map(({ name, port, target, appProtocol }) => ({
          name,
          port,
          targetPort: target,
          ...(appProtocol === undefined ? {} : { appProtocol }),
        })),
      },
    });
    const service = new LabService(lab, wish, (made!.spec as { clusterIP: string }).clusterIP);
    await service.setPods(...wish.pods);
    return service;
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

  /** `http://VIP:PORT` of one of its ports, by name; default: the first. */
  url(portName?: string, path = "/"): string {
    return `http://${this.address(portName)}${path}`;
  }

  address(portName?: string): string {
    const { ports } = this.#wish;
    const port = portName === undefined ? ports[0] : ports.find(({ name }) => name === portName);
    if (port === undefined) throw new Error(`the service ${this.name} has no port ${portName}`);
    return `${this.vip}:${port.port}`;
  }

  get object(): KubeObject {
    return { apiVersion: "v1", kind: "Service", metadata: { name: this.name, namespace: this.namespace } };
  }

  /** These and no others are behind it. */
  async setPods(...pods: readonly LabPod[]): Promise<void> {
    const { name, namespace, ports } = this.#wish;
    for (const pod of pods) {
      await this.#lab.plane.api.patch(pod.object, { metadata: { labels: { [selectorLabel(name)]: "yes" } } });
    }
    for (const pod of this.#lab.pods) {
      if (pod.namespace !== namespace || pods.includes(pod) || !selected.get(pod)?.has(name)) continue;
      await this.#lab.plane.api.patch(pod.object, { metadata: { labels: { [selectorLabel(name)]: null } } });
      selected.get(pod)!.delete(name);
    }
    for (const pod of pods) {
      const names = selected.get(pod) ?? new Set();
      selected.set(pod, names.add(name));
    }
    await this.#lab.apply({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: `${name}-1`, namespace, labels: { "kubernetes.io/service-name": name } },
      addressType: "IPv4",
      ports: ports.map(({ name, target, appProtocol }) => ({
        name,
        port: target,
        protocol: "TCP",
        ...(appProtocol === undefined ? {} : { appProtocol }),
      })),
      endpoints: pods.map((pod) => endpointOf(pod)),
    });
  }

  /** The service with its slice. */
  async remove(): Promise<void> {
    const { name, namespace } = this;
    const slice = {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: `${name}-1`, namespace },
    };
    await this.#lab.delete(this.object, slice);
  }
}

/** Which services' labels a pod carries. */
const selected = new WeakMap<LabPod, Set<string>>();

function selectorLabel(service: string): string {
  return `lab/${service}`;
}

export function endpointOf(pod: LabPod, ready = true) {
  return {
    addresses: [pod.ip()],
    nodeName: pod.facts.node,
    conditions: { ready, serving: ready, terminating: false },
    targetRef: { kind: "Pod", name: pod.name, namespace: pod.namespace, uid: pod.uid },
  };
}
