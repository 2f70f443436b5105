/**
 * Which pods belong into the mesh, and what a pod asks for itself: reference cni.md 3.1 and 3.2. Pure.
 *
 * The plugin and the agent both judge by these functions. A selector that cannot be read is an error: it neither
 * enrols nor excludes anybody.
 */
import {
  asArray,
  asObject,
  isGiven,
  type Labels,
  type LabelSelector,
  parseLabelSelector,
  selectorIsEmpty,
  selectorMatches,
} from "./label_selector.ts";

export type { LabelSelector } from "./label_selector.ts";

/** A pod matches when both parts do. */
export interface EnablementSelector {
  readonly podSelector: LabelSelector;
  readonly namespaceSelector: LabelSelector;
}

/** What is read of a pod; a Kubernetes `Pod` is one. */
export interface JudgedPod {
  readonly metadata?: {
    readonly namespace?: string;
    readonly labels?: Labels;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: { readonly hostNetwork?: boolean };
}

export interface Eligibility {
  readonly eligible: boolean;
  /** For a person. */
  readonly reason: string;
}

/** On a pod: `enabled` when it is captured, `pending` when its rules are in and no ztunnel has taken it yet. */
export const REDIRECTION_ANNOTATION = "ambient.istio.io/redirection";
/** Set by the injector: the pod has a sidecar, and cannot have ztunnel too. */
export const SIDECAR_ANNOTATION = "sidecar.istio.io/status";

const INGRESS_ANNOTATION = "ambient.istio.io/bypass-inbound-capture";
const DNS_ANNOTATION = "ambient.istio.io/dns-capture";
const INTERFACES_ANNOTATION = "istio.io/reroute-virtual-interfaces";

/**
 * The list of `AMBIENT_ENABLEMENT_SELECTOR` or of the plugin's configuration; absent is an empty list.
 * @throws Error with the place.
 */
export function parseSelectors(value: unknown): readonly EnablementSelector[] {
  if (!isGiven(value)) return [];
  return asArray(value, "enablement selectors").map((item, index) => {
    const place = `enablement selector ${index + 1}`;
    const fields = asObject(item, place, ["podSelector", "namespaceSelector"]);
    return {
      podSelector: parseLabelSelector(fields["podSelector"], `${place}: podSelector`),
      namespaceSelector: parseLabelSelector(fields["namespaceSelector"], `${place}: namespaceSelector`),
    };
  });
}

/** `excludedNamespaces` is for the agent; the plugin does not come this far for them. */
export function judgePod(
  pod: JudgedPod,
  namespaceLabels: Labels,
  selectors: readonly EnablementSelector[],
  excludedNamespaces?: ReadonlySet<string>,
): Eligibility {
  const { namespace, labels = {}, annotations = {} } = pod.metadata ?? {};
  if (namespace !== undefined && excludedNamespaces?.has(namespace)) return no("namespace is excluded");
  if (pod.spec?.hostNetwork) return no("hostNetwork");
  if (Object.hasOwn(annotations, SIDECAR_ANNOTATION)) return no(`annotation ${SIDECAR_ANNOTATION}`);
  const index = selectors.findIndex(({ podSelector, namespaceSelector }) =>
    selectorMatches(podSelector, labels) && selectorMatches(namespaceSelector, namespaceLabels)
  );
  return index < 0 ? no("no selector matches") : { eligible: true, reason: `selector ${index + 1} matches` };
}

function no(reason: string): Eligibility {
  return { eligible: false, reason };
}

/** Whether the namespace's own labels can enrol pods: a namespace selector that asks for something matches (3.1). */
export function namespaceMatchesAny(labels: Labels, selectors: readonly EnablementSelector[]): boolean {
  return selectors.some(({ namespaceSelector }) =>
    !selectorIsEmpty(namespaceSelector) && selectorMatches(namespaceSelector, labels)
  );
}

/** What a pod's annotations change about its redirection; `undefined` leaves it to the agent. */
export interface PodOverrides {
  readonly ingress?: boolean;
  readonly dnsCapture?: boolean;
  readonly virtualInterfaces: string[];
  /** Annotations that were not understood and count as absent, one line each. */
  readonly warnings: string[];
}

/**
 * Linux allows more in an interface's name, but these names are written by pods' authors and go into rule sets: no
 * spaces, quotes or line ends, and no `-` or `!` in front. A `+` at the end is iptables' wildcard.
 */
const INTERFACE_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}$|^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,13}\+$/;

export function podOverrides(pod: JudgedPod): PodOverrides {
  const annotations = pod.metadata?.annotations ?? {};
  const warnings: string[] = [];
  const readBool = (name: string): boolean | undefined => {
    if (!Object.hasOwn(annotations, name)) return undefined;
    const value = parseGoBool(annotations[name]);
    if (value === undefined) warnings.push(`annotation ${name}: ${shown(annotations[name])} is no boolean, ignored`);
    return value;
  };
  const ingress = readBool(INGRESS_ANNOTATION);
  const dnsCapture = readBool(DNS_ANNOTATION);
  const virtualInterfaces: string[] = [];
  const listed = Object.hasOwn(annotations, INTERFACES_ANNOTATION) ? annotations[INTERFACES_ANNOTATION] : "";
  for (const name of listed.split(",").map((part) => part.trim())) {
    if (name === "" || virtualInterfaces.includes(name)) continue;
    if (INTERFACE_NAME.test(name)) virtualInterfaces.push(name);
    else warnings.push(`annotation ${INTERFACES_ANNOTATION}: ${shown(name)} is no interface name, ignored`);
  }
  return {
    ...(ingress === undefined ? {} : { ingress }),
    ...(dnsCapture === undefined ? {} : { dnsCapture }),
    virtualInterfaces,
    warnings,
  };
}

/** Go's strconv.ParseBool; undefined for anything else. */
export function parseGoBool(text: string): boolean | undefined {
  if (["1", "t", "T", "TRUE", "true", "True"].includes(text)) return true;
  if (["0", "f", "F", "FALSE", "false", "False"].includes(text)) return false;
  return undefined;
}

function shown(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}
