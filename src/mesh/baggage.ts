/**
 * The `baggage` header (W3C Baggage) as ztunnel uses it: who the source workload is, for metrics and logs only. It is
 * what the peer says about itself and decides nothing.
 */
import type { Workload } from "./types.ts";

/** Undefined: not said. */
export interface Baggage {
  readonly clusterId: string | undefined;
  readonly namespace: string | undefined;
  readonly workloadName: string | undefined;
  /** `deployment`, `pod`, `job` or `cronjob`. */
  readonly workloadType: string | undefined;
  /** Canonical name. */
  readonly serviceName: string | undefined;
  /** Canonical revision. */
  readonly serviceVersion: string | undefined;
  readonly region: string | undefined;
  readonly zone: string | undefined;
}

/** W3C Baggage section 3.3.2: what must be carried at least; more is cut. */
const MAX_HEADER_CHARACTERS = 8192;
const MAX_ITEMS = 64;
/** Longer than any Kubernetes name (253); values become metric labels, so a peer must not make them large. */
const MAX_VALUE_CHARACTERS = 256;

const WORKLOAD_TYPES: ReadonlySet<string> = new Set(["deployment", "cronjob", "pod", "job"]);

/** Absent fields are left out; "" if all are. */
export function formatBaggage(workload: Workload): string {
  let text = item("", "k8s.cluster.name", workload.clusterId);
  text = item(text, "k8s.namespace.name", workload.namespace);
  text = item(text, `k8s.${workload.workloadType || "deployment"}.name`, workload.workloadName);
  text = item(text, "service.name", workload.canonicalName);
  text = item(text, "service.version", workload.canonicalRevision);
  text = item(text, "cloud.region", workload.locality.region);
  return item(text, "cloud.availability_zone", workload.locality.zone);
}

/** Never fails: items that cannot be read are skipped. Of a repeated key the last one counts. */
export function parseBaggage(header: string): Baggage {
  const found: { -readonly [Field in keyof Baggage]: Baggage[Field] } = {
    clusterId: undefined,
    namespace: undefined,
    workloadName: undefined,
    workloadType: undefined,
    serviceName: undefined,
    serviceVersion: undefined,
    region: undefined,
    zone: undefined,
  };
  const items = header.slice(0, MAX_HEADER_CHARACTERS).split(",", MAX_ITEMS);
  for (const entry of items) {
    const equals = entry.indexOf("=");
    if (equals < 0) continue;
    const key = entry.slice(0, equals).trim();
    const properties = entry.indexOf(";", equals);
    const value = decode(entry.slice(equals + 1, properties < 0 ? undefined : properties).trim());
    if (value === undefined) continue;
    const field = FIELDS.get(key);
    if (field !== undefined) {
      found[field] = value;
      continue;
    }
    const type = key.startsWith("k8s.") && key.endsWith(".name") ? key.slice(4, -5) : "";
    if (WORKLOAD_TYPES.has(type)) {
      found.workloadType = type;
      found.workloadName = value;
    }
  }
  return found;
}

const FIELDS: ReadonlyMap<string, Exclude<keyof Baggage, "workloadName" | "workloadType">> = new Map([
  ["k8s.cluster.name", "clusterId"],
  ["k8s.namespace.name", "namespace"],
  ["service.name", "serviceName"],
  ["service.version", "serviceVersion"],
  ["cloud.region", "region"],
  ["cloud.availability_zone", "zone"],
]);

function item(before: string, key: string, value: string): string {
  if (value === "") return before;
  return `${before}${before === "" ? "" : ","}${key}=${encode(value)}`;
}

/** All but W3C's baggage-octet without the percent sign; Kubernetes names never hold one of these. */
// deno-lint-ignore no-control-regex
const UNSAFE = /[\x00-\x20"%,;\\\x7f-\uffff]/;

function encode(value: string): string {
  if (!UNSAFE.test(value)) return value;
  let text = "";
  for (const byte of new TextEncoder().encode(value)) {
    const character = String.fromCharCode(byte);
    text += UNSAFE.test(character) ? `%${byte.toString(16).toUpperCase().padStart(2, "0")}` : character;
  }
  return text;
}

/** Undefined for what must not become a label: empty, too long, or with control characters. */
function decode(text: string): string | undefined {
  let value = text;
  if (text.includes("%")) {
    try {
      value = decodeURIComponent(text);
    } catch {
      // A lone percent sign is how a peer that does not encode (ztunnel) writes one.
      value = text;
    }
  }
  // deno-lint-ignore no-control-regex
  if (value === "" || value.length > MAX_VALUE_CHARACTERS || /[\x00-\x1f\x7f]/.test(value)) return undefined;
  return value;
}
