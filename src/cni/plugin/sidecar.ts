/**
 * Which pods Istio's plugin redirects for a sidecar: reference cni.md 2.2, steps 9 and 10. Pure.
 *
 * ambit has no sidecar mode yet. A pod that needs one must not start without its redirection, so it is refused; a pod
 * that Istio's plugin leaves alone is left alone here.
 */
import { parseGoBool, SIDECAR_ANNOTATION } from "../eligibility.ts";

/** What is read of a pod; a Kubernetes `Pod` is one. */
export interface SidecarPod {
  readonly metadata?: {
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: {
    readonly containers?: readonly SidecarContainer[];
    readonly initContainers?: readonly SidecarContainer[];
  };
}

interface SidecarContainer {
  readonly name: string;
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
}

const INIT_CONTAINER = "istio-init";
const PROXY_CONTAINER = "istio-proxy";
const INJECT = "sidecar.istio.io/inject";

/** Why the pod needs no redirection for a sidecar; undefined when it does. */
export function reasonWithoutSidecar(pod: SidecarPod): string | undefined {
  const { labels = {}, annotations = {} } = pod.metadata ?? {};
  // Sidecars may be init containers, which then go on running.
  const containers = [...pod.spec?.initContainers ?? [], ...pod.spec?.containers ?? []];
  if (containers.some(({ name }) => name === INIT_CONTAINER)) return `it has the container ${INIT_CONTAINER}`;
  const proxies = containers.filter(({ name }) => name === PROXY_CONTAINER);
  const disabled = proxies.flatMap(({ env = [] }) => env).findLast(({ name }) => name === "DISABLE_ENVOY");
  if (parseGoBool(disabled?.value ?? "")) return `DISABLE_ENVOY is set on ${PROXY_CONTAINER}`;
  if (proxies.length === 0) return `it has no container ${PROXY_CONTAINER}`;
  const kind = proxies.findLast(({ args = [] }) => args.length >= 2 && args[0] === "proxy")?.args?.[1] ?? "";
  if (kind !== "" && kind !== "sidecar") return `its proxy is a ${JSON.stringify(kind)}`;
  const inject = own(labels, INJECT) ?? own(annotations, INJECT) ?? "";
  if (parseGoBool(inject) === false) return `${INJECT} is ${JSON.stringify(inject)}`;
  if (own(annotations, SIDECAR_ANNOTATION) === undefined) return `it has no annotation ${SIDECAR_ANNOTATION}`;
  return undefined;
}

function own(map: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.hasOwn(map, name) ? map[name] : undefined;
}
