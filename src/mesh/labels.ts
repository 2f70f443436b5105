/**
 * How metrics and access logs name the ends of a connection. The objects for a workload are made once and reused, so that
 * what is rendered from them can be cached by identity.
 */
import type { Baggage } from "./baggage.ts";
import { identityOf } from "./spiffe.ts";
import type { Service, Workload } from "./types.ts";

/** One end in ztunnel's metric labels; undefined reads `unknown`. */
export interface PeerLabels {
  /** Name of the deployment or the like. */
  readonly workload: string | undefined;
  readonly canonicalService: string | undefined;
  readonly canonicalRevision: string | undefined;
  readonly namespace: string | undefined;
  /** The SPIFFE id, only where the connection proved it. */
  readonly principal: string | undefined;
  readonly app: string | undefined;
  readonly version: string | undefined;
  readonly cluster: string | undefined;
  readonly region: string | undefined;
  readonly zone: string | undefined;
  /** `namespace/workload`: by this its series can be given up when the last pod is gone. */
  readonly owner: string | undefined;
}

export interface ServiceLabels {
  readonly hostname: string;
  readonly namespace: string;
  readonly name: string;
}

/** One end in an access log line. */
export interface PeerNames {
  /** Pod name, else the canonical service. */
  readonly workload: string | undefined;
  readonly namespace: string | undefined;
  readonly identity: string | undefined;
  readonly cluster: string | undefined;
}

interface Labels {
  readonly peer: PeerLabels;
  readonly names: PeerNames;
}

const plain = new WeakMap<Workload, Labels>();
const proved = new WeakMap<Workload, Labels>();
const services = new WeakMap<Service, ServiceLabels>();

export const UNKNOWN_PEER: PeerLabels = {
  workload: undefined,
  canonicalService: undefined,
  canonicalRevision: undefined,
  namespace: undefined,
  principal: undefined,
  app: undefined,
  version: undefined,
  cluster: undefined,
  region: undefined,
  zone: undefined,
  owner: undefined,
};

/** `mutualTls`: the connection proved the workload's identity. */
export function peerLabels(workload: Workload, mutualTls: boolean): PeerLabels {
  return labelsOf(workload, mutualTls).peer;
}

export function peerNames(workload: Workload, mutualTls: boolean): PeerNames {
  return labelsOf(workload, mutualTls).names;
}

export function serviceLabels(service: Service): ServiceLabels {
  let labels = services.get(service);
  if (labels === undefined) {
    labels = { hostname: service.hostname, namespace: service.namespace, name: service.name };
    services.set(service, labels);
  }
  return labels;
}

/** A peer that no workload record is known of, as it describes itself. `principal`: what mTLS proved. */
export function peerLabelsOfBaggage(baggage: Baggage, principal: string | undefined): PeerLabels {
  return {
    workload: baggage.workloadName,
    canonicalService: baggage.serviceName,
    canonicalRevision: baggage.serviceVersion,
    namespace: baggage.namespace,
    principal,
    app: baggage.workloadName,
    version: baggage.serviceVersion,
    cluster: baggage.clusterId,
    region: baggage.region,
    zone: baggage.zone,
    owner: owner(baggage.namespace, baggage.workloadName),
  };
}

export function peerNamesOfBaggage(baggage: Baggage, principal: string | undefined): PeerNames {
  return {
    workload: baggage.workloadName ?? baggage.serviceName,
    namespace: baggage.namespace,
    identity: principal,
    cluster: baggage.clusterId,
  };
}

function labelsOf(workload: Workload, mutualTls: boolean): Labels {
  const cache = mutualTls ? proved : plain;
  let labels = cache.get(workload);
  if (labels === undefined) {
    labels = makeLabels(workload, mutualTls ? identityOf(workload) : undefined);
    cache.set(workload, labels);
  }
  return labels;
}

function makeLabels(workload: Workload, principal: string | undefined): Labels {
  const canonicalName = set(workload.canonicalName);
  const canonicalRevision = set(workload.canonicalRevision);
  const namespace = set(workload.namespace);
  const cluster = set(workload.clusterId);
  return {
    peer: {
      workload: set(workload.workloadName),
      canonicalService: canonicalName,
      canonicalRevision,
      namespace,
      principal,
      app: canonicalName,
      version: canonicalRevision,
      cluster,
      region: set(workload.locality.region),
      zone: set(workload.locality.zone),
      owner: owner(namespace, set(workload.workloadName)),
    },
    names: { workload: set(workload.name) ?? canonicalName, namespace, identity: principal, cluster },
  };
}

function owner(namespace: string | undefined, workload: string | undefined): string | undefined {
  return namespace === undefined || workload === undefined ? undefined : `${namespace}/${workload}`;
}

function set(text: string): string | undefined {
  return text === "" ? undefined : text;
}
