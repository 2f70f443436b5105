/** Finds the pod or node that a person means by a name. */
import type { MachineState, PlannedNode, PlannedPod } from "./change_plan.ts";
import type { FindPlace } from "./exec_server.ts";
import type { Machine } from "./machine.ts";

export type Site =
  | { readonly kind: "node"; readonly node: PlannedNode }
  | { readonly kind: "pod"; readonly pod: PlannedPod };

/** Nodes by name; pods by name, or by namespace/name where a name is there more than once. Throws with a text for the person. */
export function findSite({ nodes, pods }: MachineState, where: string): Site {
  const sites: Site[] = [
    ...nodes.filter((node) => node.name === where).map((node) => ({ kind: "node", node }) as const),
    ...pods.filter((pod) => pod.name === where || `${pod.namespace}/${pod.name}` === where)
      .map((pod) => ({ kind: "pod", pod }) as const),
  ];
  const [site, another] = sites;
  if (site === undefined) {
    const names = [...pods.map((pod) => `${pod.namespace}/${pod.name}`), ...nodes.map((node) => node.name)];
    throw new Error(`there is no pod or node "${where}"; there are ${names.join(", ")}`);
  }
  if (another !== undefined) throw new Error(`"${where}" is more than one thing; write namespace/name`);
  return site;
}

export function placeFinder(machine: Machine): FindPlace {
  return (where) => {
    const site = findSite(machine.state, where);
    return site.kind === "node" ? machine.nodePlace(site.node) : machine.podPlace(site.pod);
  };
}
