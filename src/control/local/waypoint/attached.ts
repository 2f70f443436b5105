/** Which policies are for what (waypoint.md 3.1): a Gateway's are for all that passes it, a Service's for that service. */
import type { Service } from "../../../mesh/types.ts";
import type { ObjectHead, TargetRef, WaypointGateway } from "../kube/objects.ts";
import type { WaypointWorld } from "./world.ts";

/** `service` undefined: for what is called by its own address. */
export function attachedTo<T extends ObjectHead>(
  objects: readonly T[],
  refsOf: (object: T) => readonly TargetRef[],
  gateway: WaypointGateway,
  service: Service | undefined,
): readonly T[] {
  return objects.filter((object) =>
    refsOf(object).some(({ kind, name }) =>
      kind === "Gateway"
        ? object.namespace === gateway.namespace && name === gateway.name
        : object.namespace === service?.namespace && name === service.name
    )
  );
}

export function policiesOf({ kube, gateway }: WaypointWorld, service: Service | undefined) {
  const refs = (policy: (typeof kube.policies)[number]) => policy.target.kind === "refs" ? policy.target.refs : [];
  return {
    policies: attachedTo(kube.policies, refs, gateway, service),
    authentications: attachedTo(kube.authentications, ({ refs }) => refs, gateway, service),
  };
}
