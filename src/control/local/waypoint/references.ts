/** Services that objects name: looked up in the mesh, with a problem at the place of a name that leads nowhere. */
import { type MeshResources, type Service, type ServiceKey, serviceKey } from "../../../mesh/types.ts";
import type { FieldProblem } from "../field_reader.ts";
import type { ServiceRef } from "../kube/objects.ts";
import { inboundName, outboundName, protocolsOf } from "./names.ts";

export interface OutboundPort {
  readonly service: Service;
  readonly port: number;
}

export class References {
  readonly #services = new Map<string, Service>();
  readonly #own: ReadonlySet<ServiceKey>;
  readonly #outbound = new Map<string, OutboundPort>();
  /** A backend is looked up for each port and match. */
  readonly #problems = new Map<string, FieldProblem>();

  /** `own`: services that pass the waypoint. */
  constructor({ services }: MeshResources, own: ReadonlySet<ServiceKey>) {
    this.#own = own;
    for (const service of services) this.#services.set(`${service.namespace}/${service.name}`, service);
  }

  get problems(): readonly FieldProblem[] {
    return [...this.#problems.values()];
  }

  /** Ports of services that do not pass the waypoint, and are led to. */
  get outbound(): readonly OutboundPort[] {
    return [...this.#outbound.values()];
  }

  /** The service, and that it has the port, if the reference names one. */
  find({ namespace, name, port, path }: ServiceRef): Service | undefined {
    const service = this.#services.get(`${namespace}/${name}`);
    if (service === undefined) {
      this.report(path, `there is no service ${name} in the namespace ${namespace}`);
    } else if (port !== undefined && service.ports[port] === undefined) {
      const ports = Object.keys(service.ports).join(", ") || "none";
      this.report(path, `the service ${namespace}/${name} has no port ${port}; its ports: ${ports}`);
      return undefined;
    }
    return service;
  }

  /** What is wrong with something that stands at `path`. */
  report(path: FieldProblem["path"], message: string): void {
    this.#problems.set(JSON.stringify([path, message]), { path, message });
  }

  byHostname(hostname: string): Service | undefined {
    return [...this.#services.values()].find((service) => service.hostname === hostname);
  }

  /** The cluster of a backend. What is nowhere has a name that no cluster has; it is a problem of the file. */
  cluster(ref: ServiceRef): string {
    const service = this.find(ref);
    if (service === undefined || ref.port === undefined) return "";
    return this.clusterOf(service, ref.port);
  }

  clusterOf(service: Service, port: number): string {
    if (this.#own.has(serviceKey(service.namespace, service.hostname))) {
      return inboundName(port, protocolsOf(port)[0]!, service);
    }
    const name = outboundName(port, service);
    this.#outbound.set(name, { service, port });
    return name;
  }
}
