/**
 * Which waypoint a service or a pod is led through, by Istio's labels (reference waypoint.md 5.4): its own label comes before
 * that of its namespace. istiod passes over a label that names nothing, and says so in a status; in a file it is a mistake.
 */
import type { FieldReader } from "./field_reader.ts";
import type { KubeObjects, WaypointGateway } from "./kube/mod.ts";
import type { SourcePath } from "./yaml_source.ts";

const USE = "istio.io/use-waypoint";
const USE_NAMESPACE = "istio.io/use-waypoint-namespace";
const OPTED_OUT = "none";
/** Of these istiod makes weighted waypoints. */
const UNSUPPORTED = ["istio.io/use-waypoint-canary", "istio.io/use-waypoint-canary-namespace"];

export interface Labelled {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Of the labels. */
  readonly path: SourcePath;
}

export type Traffic = "service" | "workload";

export class UseWaypoint {
  readonly #reader: FieldReader;
  readonly #kube: KubeObjects;
  /** By namespace: what its own label says. */
  readonly #namespaces = new Map<string, WaypointGateway | undefined>();

  /** What is wrong with a label goes to `reader`; that of a namespace is told once. */
  constructor(reader: FieldReader, kube: KubeObjects) {
    this.#reader = reader;
    this.#kube = kube;
    for (const [namespace, labels] of kube.namespaces) {
      const path = [...kube.namespacePaths.get(namespace) ?? [], "metadata", "labels"];
      this.#namespaces.set(namespace, this.#named({ namespace, labels, path }));
    }
  }

  /** Undefined: none, the way leads straight there. */
  find(object: Labelled, traffic: Traffic): WaypointGateway | undefined {
    if (object.labels[USE] === undefined) {
      const fallback = this.#namespaces.get(object.namespace);
      // A label of a namespace is for all that is in it, and each Gateway takes its part.
      return fallback !== undefined && takes(fallback, traffic) ? fallback : undefined;
    }
    const gateway = this.#named(object);
    if (gateway === undefined || takes(gateway, traffic)) return gateway;
    return this.#reader.fail(
      [...object.path, USE],
      `the Gateway ${gateway.namespace}/${gateway.name} is for ${FOR[gateway.waypointFor]}; ` +
        `give it the label istio.io/waypoint-for: ${traffic}, or all`,
    );
  }

  #named({ namespace, labels, path }: Labelled): WaypointGateway | undefined {
    for (const label of UNSUPPORTED) {
      if (labels[label] !== undefined) this.#reader.fail([...path, label], `${label} is not supported by ambit local`);
    }
    const name = labels[USE];
    if (name === undefined || name === OPTED_OUT) return undefined;
    const home = labels[USE_NAMESPACE] ?? namespace;
    const gateway = this.#kube.gateways.find((each) => each.name === name && each.namespace === home);
    if (gateway === undefined) {
      return this.#reader.fail([...path, USE], `there is no Gateway ${JSON.stringify(name)} in the namespace ${home}`);
    }
    if (home === namespace || gateway.usableFrom === "All") return gateway;
    return this.#reader.fail(
      [...path, USE],
      `the Gateway ${home}/${name} may be used in its own namespace only; ` +
        "give its listener allowedRoutes: {namespaces: {from: All}}",
    );
  }
}

const FOR = {
  service: "services",
  workload: "workloads",
  all: "both",
  none: "neither services nor workloads",
} as const;

function takes({ waypointFor }: WaypointGateway, traffic: Traffic): boolean {
  return waypointFor === "all" || waypointFor === traffic;
}
