/** What an HBONE request says about itself: its header fields, what must be known to judge it, and who its client is (reference ztunnel 6.8). */
import {
  type Authority,
  type MeshStore,
  parseBaggage,
  peerLabels,
  peerLabelsOfBaggage,
  peerNames,
  peerNamesOfBaggage,
  type Workload,
} from "../mesh/mod.ts";
import type { Fields } from "../protocol/http2/mod.ts";
import type { ConnectionEnds } from "./connection_record.ts";
import type { MeshQuery, WorkerSettings } from "./messages.ts";

/** The first field of a name. */
export function field(fields: Fields, name: string): string | undefined {
  for (let i = 0; i < fields.length; i += 2) {
    if (fields[i] === name) return fields[i + 1];
  }
  return undefined;
}

/** What must be known to judge an authority; undefined when it is the pod's own address. */
export function destinationQuery(
  authority: Authority,
  localIp: string,
  network: string,
  workload: Workload,
): MeshQuery | undefined {
  if (authority.kind === "hostname") return { kind: "hostname", hostname: authority.hostname, uid: workload.uid };
  if (authority.kind !== "address" || authority.ip === localIp) return undefined;
  return { kind: "address", network, ip: authority.ip, namespace: undefined };
}

/** The mesh knows the client by its address; else, and behind a gateway, the client describes itself. `mesh` holds what has the address. */
export function nameClient(
  fields: Fields,
  identity: string,
  ip: string,
  mesh: MeshStore,
  settings: Pick<WorkerSettings, "network" | "responseBaggage">,
): ConnectionEnds["source"] {
  const network = field(fields, "x-forwarded-network");
  const fromGateway = network !== undefined && network.toLowerCase() !== settings.network.toLowerCase();
  const workload = fromGateway ? undefined : mesh.findWorkload(settings.network, ip);
  if (workload !== undefined) {
    const labels = peerLabels(workload, true);
    const names = peerNames(workload, true);
    // What mTLS proved goes before what the address suggests.
    return labels.principal === identity
      ? { labels, names }
      : { labels: { ...labels, principal: identity }, names: { ...names, identity } };
  }
  const baggage = parseBaggage(settings.responseBaggage ? field(fields, "baggage") ?? "" : "");
  return { labels: peerLabelsOfBaggage(baggage, identity), names: peerNamesOfBaggage(baggage, identity) };
}
