/** Whom a person means by `namespace/name` or an address: a pod, or any pod of a service account. */
import { canonicalIp } from "./ip.ts";
import { parseAuthority } from "./socket_address.ts";
import type { SocketAddress, Workload } from "./types.ts";
import type { MeshView } from "./view.ts";

/** The workload and the address it connects from, or why there is none. */
export type Client =
  | { readonly workload: Workload; readonly ip: string; readonly note: string | undefined }
  | { readonly problem: string };

/** A service account comes before a pod of the same name; a workload of the own node before others. */
export function findClient(
  view: MeshView,
  workloads: readonly Workload[],
  network: string,
  nodeName: string | undefined,
  text: string,
): Client {
  const ip = canonicalIp(text.replace(/^\[(.*)\]$/, "$1"));
  if (ip !== undefined) {
    const workload = view.findWorkload(network, ip);
    return workload === undefined
      ? { problem: `no workload has the address ${ip} in network "${network}"` }
      : { workload, ip, note: undefined };
  }
  const slash = text.indexOf("/");
  const namespace = text.slice(0, Math.max(slash, 0));
  const name = text.slice(slash + 1);
  if (namespace === "" || name === "" || name.includes("/")) {
    return { problem: "from must be NAMESPACE/SERVICEACCOUNT, NAMESPACE/POD or an IP address" };
  }
  const inNamespace = workloads.filter((workload) => workload.namespace === namespace);
  const byAccount = inNamespace.filter((workload) => workload.serviceAccount === name);
  const found = byAccount.length > 0 ? byAccount : inNamespace.filter((workload) => workload.name === name);
  if (found.length === 0) {
    const there = inNamespace.length === 0
      ? `nothing is known of the namespace ${namespace}`
      : `there are the service accounts ${summary(inNamespace.map((workload) => workload.serviceAccount))}`;
    return { problem: `no workload of ${namespace} has the service account or name "${name}": ${there}` };
  }
  const preference = (workload: Workload) =>
    (workload.protocol === "HBONE" ? 2 : 0) + (workload.node === nodeName ? 1 : 0);
  const workload = found.reduce((best, other) => preference(other) > preference(best) ? other : best);
  const note = found.length === 1 ? undefined : `the client is ${workload.uid}, one of ${found.length} with that name`;
  return { workload, ip: workload.workloadIps[0] ?? "0.0.0.0", note };
}

/** Where a person wants to connect to, or why that is nowhere. */
export function findTarget(
  view: MeshView,
  client: Workload,
  network: string,
  text: string,
): SocketAddress | { readonly problem: string } {
  const authority = parseAuthority(text);
  if (authority.kind === "invalid") return { problem: "to must be IP:PORT, [IPV6]:PORT or SERVICE-HOSTNAME:PORT" };
  if (authority.kind === "address") return authority;
  const { hostname, port } = authority;
  const service = view.serviceByHostname(hostname, client.namespace);
  if (service === undefined) {
    return { problem: `no service that ${client.namespace} can see has the host name ${hostname}` };
  }
  const own = service.vips.find((vip) => vip.startsWith(`${network}/`));
  if (own !== undefined) return { ip: own.slice(own.indexOf("/") + 1), port };
  const first = view.endpointsOf(service).entries.find((entry) => entry.workload.workloadIps.length > 0);
  if (first !== undefined) return { ip: first.workload.workloadIps[0], port };
  return { problem: `the service ${hostname} has no address in network "${network}": write IP:PORT` };
}

function summary(names: readonly string[]): string {
  const distinct = [...new Set(names)].sort();
  const shown = distinct.slice(0, 10).join(", ");
  return distinct.length > 10 ? `${shown} and ${distinct.length - 10} more` : shown;
}
