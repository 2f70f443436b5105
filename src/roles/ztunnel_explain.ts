/** GET /debug/explain of ztunnel: the question as a person puts it, answered from the mesh as it is now. */
import { BadRequest } from "../admin/debug.ts";
import type { ZtunnelConfig } from "../cli/config.ts";
import { explainConnection } from "../mesh/explain.ts";
import type { Explanation } from "../mesh/explanation.ts";
import { findClient, findTarget } from "../mesh/find_client.ts";
import type { MeshStore } from "../mesh/mod.ts";
import { workerSettings } from "../ztunnel/settings.ts";

/** @throws BadRequest with what the question lacks. */
export function explain(
  store: MeshStore,
  config: ZtunnelConfig,
  { from, to }: { readonly from: string; readonly to: string },
): Explanation {
  if (from === "" || to === "") {
    throw new BadRequest("usage: GET /debug/explain?from=NAMESPACE/SERVICEACCOUNT&to=IP:PORT");
  }
  const { network, nodeName, ipv6Enabled } = config;
  const client = findClient(store, store.resources().workloads, network, nodeName, from);
  if ("problem" in client) throw new BadRequest(client.problem);
  const target = findTarget(store, client.workload, network, to);
  if ("problem" in target) throw new BadRequest(target.problem);
  const explanation = explainConnection(store, {
    client: client.workload,
    clientIp: client.ip,
    target: { ip: target.ip, port: target.port },
    network,
    nodeName,
    ipv6Enabled,
    illegalPorts: workerSettings(config).illegalPorts,
  });
  return client.note === undefined ? explanation : { ...explanation, notes: [client.note, ...explanation.notes] };
}
