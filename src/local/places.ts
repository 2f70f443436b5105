/** Finds the pod or node that a person means by a name. */
import type { ExecPlace, FindPlace } from "./exec_server.ts";
import type { Machine } from "./machine.ts";

/** Nodes by name; pods by name, or by namespace/name where a name is there more than once. */
export function placeFinder(machine: Machine): FindPlace {
  return (where) => {
    const { nodes, pods } = machine.state;
    const places: ExecPlace[] = [
      ...nodes.filter((node) => node.name === where).map((node) => machine.nodePlace(node)),
      ...pods.filter((pod) => pod.name === where || `${pod.namespace}/${pod.name}` === where)
        .map((pod) => machine.podPlace(pod)),
    ];
    const [place, another] = places;
    if (place === undefined) {
      const names = [...pods.map((pod) => `${pod.namespace}/${pod.name}`), ...nodes.map((node) => node.name)];
      throw new Error(`there is no pod or node "${where}"; there are ${names.join(", ")}`);
    }
    if (another !== undefined) throw new Error(`"${where}" is more than one thing; write namespace/name`);
    return place;
  };
}
