/** Gateway API and Istio objects as short as the scenarios need them. */
import type { KubeObject } from "../../../istiod/support/kube_api.ts";
import { authorizationPolicy } from "../../../istiod/support/objects.ts";
import type { LabService } from "./services.ts";

/** For the lab's waypoints, whose namespace is filled in by `scene.apply`. */
export function route(
  kind: "HTTPRoute" | "GRPCRoute",
  name: string,
  service: LabService,
  rules: readonly unknown[],
  port?: number,
): KubeObject {
  const parent = { group: "", kind: "Service", name: service.name, ...(port === undefined ? {} : { port }) };
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind,
    metadata: { name, namespace: service.namespace },
    spec: { parentRefs: [parent], rules },
  };
}

export function httpRoute(name: string, service: LabService, rules: readonly unknown[], port?: number): KubeObject {
  return route("HTTPRoute", name, service, rules, port);
}

export function backend(service: LabService, port = 80, weight?: number) {
  return { name: service.name, port, ...(weight === undefined ? {} : { weight }) };
}

/** Enforced by the waypoint, for one service. */
export function servicePolicy(name: string, service: LabService, spec: Readonly<Record<string, unknown>>): KubeObject {
  const targetRefs = [{ group: "", kind: "Service", name: service.name }];
  return authorizationPolicy(service.namespace, name, { targetRefs, ...spec });
}

/** Of networking.istio.io: DestinationRule, ServiceEntry, VirtualService. */
export function istioObject(
  kind: string,
  namespace: string,
  name: string,
  spec: unknown,
  labels: Readonly<Record<string, string>> = {},
): KubeObject {
  return { apiVersion: "networking.istio.io/v1", kind, metadata: { name, namespace, labels }, spec };
}
