/**
 * A mesh as a cluster has it, encoded as istiod sends it: ten pods to a deployment and its service, eight deployments to a namespace, thirty pods
 * to a node, one service that a twentieth of all pods belong to, three zones, a policy for every fifth deployment.
 */
import { WireReader } from "../../src/control/xds/intake/wire.ts";
import { envelope, policyBytes, serviceBytes, workloadBytes } from "../../tests/control/xds/intake/messages.ts";

export const ADDRESS_TYPE = "type.googleapis.com/istio.workload.Address";
export const AUTHORIZATION_TYPE = "type.googleapis.com/istio.security.Authorization";

const PODS_PER_DEPLOYMENT = 10;
const DEPLOYMENTS_PER_NAMESPACE = 8;
const PODS_PER_NODE = 30;
const DEPLOYMENTS_PER_POLICY = 5;
/** One pod in so many is behind the large service. */
const PODS_PER_LARGE = 20;
export const LARGE_SERVICE_IP = "10.255.0.1";

export interface BenchMesh {
  /** Encoded Resources; workloads and services mixed, as a map's order has them. */
  readonly addresses: readonly Uint8Array[];
  readonly policies: readonly Uint8Array[];
  /** VIPs of the services, in order. */
  readonly vips: readonly string[];
  readonly bytes: number;
}

/** IPv4 addresses from 10.0.0.1 on for pods, and from 10.128.0.1 on for services. */
const ipBytes = (first: number, index: number) =>
  new Uint8Array([10, first + (index >> 16), index >> 8 & 255, index & 255]);
const ipText = (bytes: Uint8Array) => bytes.join(".");
/** As a ReplicaSet names its pods: hashes that never repeat. */
const hash = (seed: number, letters: number) =>
  (Math.imul(seed + 1, 0x9e3779b1) >>> 0).toString(36).padStart(7, "b").slice(-letters);

const namespaceOf = (deployment: number) => `team-${Math.floor(deployment / DEPLOYMENTS_PER_NAMESPACE)}`;
const appOf = (deployment: number) => `app-${deployment}`;
const LARGE = "platform/everything.platform.svc.cluster.local";

/** `generation`: the pods of a later one are others, with the same owners; what else there is stays. */
export function buildMesh(workloads: number, generation = 0): BenchMesh {
  const addresses: Uint8Array[] = [];
  const policies: Uint8Array[] = [];
  const vips: string[] = [];
  const deployments = Math.ceil(workloads / PODS_PER_DEPLOYMENT);
  for (let i = 0; i < workloads; i++) {
    const deployment = Math.floor(i / PODS_PER_DEPLOYMENT);
    const namespace = namespaceOf(deployment);
    const app = appOf(deployment);
    const name = `${app}-${hash(deployment, 7)}-${hash(i + generation * 1_000_000, 5)}`;
    const uid = `Kubernetes//Pod/${namespace}/${name}`;
    const ports = { ports: [{ servicePort: 80, targetPort: 8080 }, { servicePort: 443, targetPort: 8443 }] };
    const value = workloadBytes({
      uid,
      name,
      namespace,
      addresses: [ipBytes(0, i + 1)],
      tunnelProtocol: 1,
      trustDomain: "cluster.local",
      serviceAccount: app,
      node: `node-${Math.floor(i / PODS_PER_NODE)}`,
      canonicalName: app,
      canonicalRevision: "latest",
      workloadType: 0,
      workloadName: app,
      clusterId: "Kubernetes",
      services: {
        [`${namespace}/${app}.${namespace}.svc.cluster.local`]: ports,
        ...(i % PODS_PER_LARGE === 0 ? { [LARGE]: ports } : {}),
      },
      authorizationPolicies: deployment % DEPLOYMENTS_PER_POLICY === 0 ? [`${namespace}/only-${app}`] : [],
      locality: { region: "europe", zone: `europe-${"abc"[i % 3]}` },
    });
    addresses.push(envelope(uid, ADDRESS_TYPE, value, hash(i, 7).repeat(2)));
  }
  const ports = [{ servicePort: 80, targetPort: 8080 }, { servicePort: 443, targetPort: 8443 }];
  const addService = (name: string, namespace: string, address: Uint8Array) => {
    const hostname = `${name}.${namespace}.svc.cluster.local`;
    const subjectAltNames = [`spiffe://cluster.local/ns/${namespace}/sa/${name}`];
    const value = serviceBytes({
      name,
      namespace,
      hostname,
      addresses: [{ address }],
      ports,
      subjectAltNames,
      canonical: true,
    });
    addresses.push(envelope(`${namespace}/${hostname}`, ADDRESS_TYPE, value, "1"));
    vips.push(ipText(address));
  };
  for (let deployment = 0; deployment < deployments; deployment++) {
    addService(appOf(deployment), namespaceOf(deployment), ipBytes(128, deployment + 1));
    if (deployment % DEPLOYMENTS_PER_POLICY !== 0) continue;
    const [name, namespace] = [`only-${appOf(deployment)}`, namespaceOf(deployment)];
    const exact = (value: string) => ({ matchType: { case: "exact", value } }) as const;
    const principals = [0, 1, 2].map((k) => exact(`cluster.local/ns/${namespace}/sa/${appOf(deployment + k)}`));
    const rules = [{ clauses: [{ matches: [{ principals }] }, { matches: [{ destinationPorts: [8080, 8443] }] }] }];
    policies.push(
      envelope(`${namespace}/${name}`, AUTHORIZATION_TYPE, policyBytes({ name, namespace, scope: 2, rules })),
    );
  }
  addService("everything", "platform", new Uint8Array([10, 255, 0, 1]));
  shuffle(addresses);
  return { addresses: packed(addresses), policies: packed(policies), vips, bytes: total(addresses) + total(policies) };
}

/** The order of a Go map: none. The same each time. */
function shuffle(items: unknown[]): void {
  let seed = 1;
  for (let i = items.length - 1; i > 0; i--) {
    seed = Math.imul(seed, 1_103_515_245) + 12_345 >>> 0;
    const j = seed % (i + 1);
    [items[i], items[j]] = [items[j], items[i]];
  }
}

const total = (parts: readonly Uint8Array[]) => parts.reduce((sum, part) => sum + part.length, 0);

/** Views into one message, as the client hands them over. */
function packed(parts: readonly Uint8Array[]): Uint8Array[] {
  const message = new Uint8Array(total(parts));
  let at = 0;
  return parts.map((part) => {
    message.set(part, at);
    at += part.length;
    return message.subarray(at - part.length, at);
  });
}

/** Names of encoded Resources, without those in `except`. */
export function namesOf(resources: readonly Uint8Array[], except: ReadonlySet<string> = new Set()): Set<string> {
  const reader = new WireReader();
  const found = new Set<string>();
  for (const bytes of resources) {
    reader.from(bytes);
    while (reader.next(bytes.length)) {
      if (reader.field !== 3) {
        reader.skip(bytes.length);
        continue;
      }
      const name = reader.text(bytes.length);
      if (!except.has(name)) found.add(name);
    }
  }
  return found;
}
