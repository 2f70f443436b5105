/**
 * A waypoint: a real Gateway object, for which istiod's own controller makes Service and status, and a pod made by hand in which the
 * test plays the proxy, with a certificate from istiod.
 */
import type { Server } from "../../e2e/support/lab.ts";
import { Inbox } from "../../e2e/support/inbox.ts";
import { listenHbone, type RawRequest } from "../../e2e/support/raw_hbone.ts";
import { eventually } from "../../e2e/support/wait.ts";
import type { KubeObject } from "./kube_api.ts";
import type { IstiodLab, PodWish } from "./lab.ts";
import type { LabNode } from "./node.ts";
import { endpointSliceObject, type GatewayFacts, waypointObject } from "./objects.ts";
import type { LabPod } from "./pod.ts";

export interface WaypointWish extends GatewayFacts {
  readonly node: LabNode;
  /** More about its pod: captured (a sandwich), labels. */
  readonly pod?: Partial<PodWish>;
}

export class Waypoint {
  readonly gateway: KubeObject;
  readonly pod: LabPod;
  /** Of the Service that istiod made. */
  readonly vip: string;
  /** What was asked of it. */
  readonly requests = new Inbox<RawRequest>("a request at the waypoint");
  #server: Server | undefined;

  private constructor(gateway: KubeObject, pod: LabPod, vip: string) {
    this.gateway = gateway;
    this.pod = pod;
    this.vip = vip;
  }

  /** Resolves when istiod has given the Gateway its address, so that it can be referred to. */
  static async create(lab: IstiodLab, wish: WaypointWish): Promise<Waypoint> {
    const { name, namespace, node } = wish;
    const gateway = waypointObject(wish);
    await lab.apply(gateway);
    const gatewayLabels = {
      "gateway.networking.k8s.io/gateway-name": name,
      "gateway.networking.k8s.io/gateway-class-name": "istio-waypoint",
      "gateway.istio.io/managed": "istio.io-mesh-controller",
    };
    const [pod] = await lab.addPods({
      name: `${name}-0`,
      namespace,
      node,
      serviceAccount: name,
      captured: false,
      ...wish.pod,
      labels: { ...gatewayLabels, ...wish.pod?.labels },
    }) as [LabPod];
    const service = { apiVersion: "v1", kind: "Service", metadata: { name, namespace } };
    const made = await eventually(() => lab.plane.api.get(service), 20_000);
    const ports = { 15021: 15021, 15008: 15008 };
    const slice = endpointSliceObject({ name, namespace, ports }, [{ ...podReference(pod) }]);
    await lab.apply({ ...slice, ports: [{ name: "status-port", port: 15021 }, { name: "mesh", port: 15008 }] });
    await eventually(async () => {
      const { status } = await lab.plane.api.get(gateway);
      const { addresses } = status as { addresses?: readonly unknown[] };
      if ((addresses ?? []).length === 0) throw new Error(`istiod gives ${name} no address: ${JSON.stringify(status)}`);
    }, 20_000);
    return new Waypoint(gateway, pod, (made.spec as { clusterIP: string }).clusterIP);
  }

  get namespace(): string {
    return this.pod.namespace;
  }

  get hostname(): string {
    return `${this.gateway.metadata.name}.${this.namespace}.svc.cluster.local`;
  }

  /** Opens its port 15008, by itself and not through a ztunnel. */
  async serve(): Promise<void> {
    const { mesh } = this.pod;
    this.#server = listenHbone(mesh.lab, this.pod, await mesh.issue(this.pod), this.requests.put);
  }

  close(): void {
    this.#server?.close();
  }
}

function podReference(pod: LabPod) {
  return { name: pod.name, uid: pod.uid, node: pod.facts.node, ip: pod.ip() };
}
