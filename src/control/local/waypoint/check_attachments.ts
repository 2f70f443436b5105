/**
 * What routes and policies are attached to must be there and pass a waypoint: one that guards nothing, because of a name that is misspelt, is a
 * mistake in a file, though a cluster would wait for the object to come.
 */
import type { FieldProblem } from "../field_reader.ts";
import type { ServiceRef, TargetRef } from "../kube/objects.ts";
import { protocolsOf } from "./names.ts";
import { References } from "./references.ts";
import type { WaypointWorld } from "./world.ts";

/** `worlds`: one for each Gateway; of one file. */
export function checkAttachments(
  kube: WaypointWorld["kube"],
  mesh: WaypointWorld["mesh"],
  worlds: readonly Pick<WaypointWorld, "gateway" | "services">[],
): readonly FieldProblem[] {
  const problems: FieldProblem[] = [];
  const references = new References(mesh, new Set());
  const served = new Set(worlds.flatMap(({ services }) => [...services] as string[]));
  const checkService = (ref: ServiceRef, what: string) => {
    const service = references.find(ref);
    if (service === undefined || served.has(`${service.namespace}/${service.hostname}`)) return;
    problems.push({
      path: ref.path,
      message: `the service ${ref.namespace}/${ref.name} passes no waypoint, so that ${what} would do nothing; ` +
        "give it the label istio.io/use-waypoint with the name of a Gateway",
    });
  };
  const checkTarget = ({ kind, name, path }: TargetRef, namespace: string) => {
    if (kind === "Service") return checkService({ namespace, name, port: undefined, path }, "the policy");
    if (kube.gateways.some((gateway) => gateway.namespace === namespace && gateway.name === name)) return;
    problems.push({ path, message: `there is no Gateway ${name} in the namespace ${namespace}` });
  };
  for (const { parents } of kube.routes) {
    for (const parent of parents) {
      checkService(parent, "the route");
      const ports = parent.port === undefined ? portsOf(references, parent) : [parent.port];
      if (ports.length === 0 || ports.some((port) => protocolsOf(port).includes("http"))) continue;
      const message = `no requests are read on port ${ports.join(", ")}, where servers speak first as a rule`;
      problems.push({ path: parent.path, message });
    }
  }
  for (const { target, namespace } of kube.policies) {
    if (target.kind === "refs") { for (const ref of target.refs) checkTarget(ref, namespace); }
  }
  for (const { refs, namespace } of kube.authentications) for (const ref of refs) checkTarget(ref, namespace);
  return [...references.problems, ...problems];
}

function portsOf(references: References, ref: ServiceRef): readonly number[] {
  return Object.keys(references.find(ref)?.ports ?? {}).map(Number);
}
