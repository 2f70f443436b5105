/**
 * What `ambit local` makes of a Gateway, in the place of istiod's controller of deployments (reference waypoint.md 1.1): a pod,
 * a service account and a Service, all of its name. The pod is its own proxy: no ztunnel captures it.
 */
import { HBONE_PORT } from "../../mesh/ports.ts";
import type { AddressBook } from "./addresses.ts";
import type { FieldReader, Fields } from "./field_reader.ts";
import type { WaypointGateway } from "./kube/mod.ts";
import type { MeshNode, ReadPod } from "./mesh_file.ts";
import { familiesOf } from "./mesh_places.ts";

/** Where its tunnels come in, of the pod and of the Service. */
export const WAYPOINT_PORT = HBONE_PORT;
/** On which node its pod is; without it on the first. */
const NODE_ANNOTATION = "ambit.dev/node";

/** `pods`: names that the file itself gives away, as `namespace/name`. */
export function placeWaypoints(
  reader: FieldReader,
  gateways: readonly WaypointGateway[],
  nodes: readonly MeshNode[],
  pods: ReadonlySet<string>,
  book: AddressBook,
  taken: ReadonlySet<string>,
): ReadPod[] {
  return gateways.map((gateway) => {
    const { name, namespace, path } = gateway;
    if (pods.has(`${namespace}/${name}`)) {
      reader.fail(
        [...path, "metadata", "name"],
        `there is a pod ${namespace}/${name}, and the Gateway's own has this name`,
      );
    }
    const node = nodeOf(reader, gateway, nodes);
    const families = familiesOf(node?.addresses ?? []);
    return {
      path,
      // On no node: else the node's ztunnel would ask for the waypoint's certificate.
      workload: { protocol: "HBONE", nativeTunnel: true, node: "", services: { [waypointService(gateway)]: {} } },
      pod: {
        uid: `Kubernetes//Pod/${namespace}/${name}`,
        name,
        namespace,
        serviceAccount: name,
        identity: `spiffe://cluster.local/ns/${namespace}/sa/${name}`,
        node: node?.name ?? "",
        addresses: book.allocate("pod", `${namespace}/${name}`, families, taken),
        labels: { ...gateway.labels, "gateway.networking.k8s.io/gateway-name": name },
        captured: false,
        isWaypoint: true,
        command: undefined,
        env: {},
      },
    };
  });
}

function nodeOf(
  reader: FieldReader,
  { annotations, path }: WaypointGateway,
  nodes: readonly MeshNode[],
): MeshNode | undefined {
  const name = annotations[NODE_ANNOTATION];
  if (name === undefined) return nodes[0];
  const node = nodes.find((node) => node.name === name);
  if (node !== undefined) return node;
  const known = nodes.map((node) => node.name).join(", ");
  const at = [...path, "metadata", "annotations", NODE_ANNOTATION];
  return reader.fail(at, `there is no node ${JSON.stringify(name)}; the nodes are ${known}`);
}

/** Its key, by which ztunnels know a waypoint. */
export function waypointService({ name, namespace }: Pick<WaypointGateway, "name" | "namespace">): string {
  return `${namespace}/${name}.${namespace}.svc.cluster.local`;
}

/** An entry of the mesh document's `services`. */
export function waypointServiceFields({ name, namespace }: WaypointGateway): Fields {
  return { name, namespace, ports: { [WAYPOINT_PORT]: WAYPOINT_PORT } };
}
