/**
 * Istio's ProxyConfig as the waypoint has it (waypoint.md 1.8): pilot-agent's defaults, `defaultConfig` of the mesh file over them, PROXY_CONFIG over
 * that, and last the pod's annotations. A field that is given replaces the one before.
 */
import { UsageError } from "./errors.ts";
import { parseDuration, parseInteger, parseServerAddress } from "./values.ts";

export type Fields = Readonly<Record<string, unknown>>;

/** As pilot-agent tells them to istiod. */
const DEFAULTS = {
  configPath: "./etc/istio/proxy",
  binaryPath: "/usr/local/bin/envoy",
  serviceCluster: "istio-proxy",
  drainDuration: "45s",
  terminationDrainDuration: "5s",
  discoveryAddress: "istiod.istio-system.svc:15012",
  proxyAdminPort: 15000,
  controlPlaneAuthPolicy: "MUTUAL_TLS",
  statNameLength: 189,
  statusPort: 15020,
};

export interface ProxyConfigSources {
  readonly mesh: { readonly origin: string; readonly text: string } | undefined;
  /** PROXY_CONFIG. */
  readonly own: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly loadYaml: () => Promise<(text: string) => unknown>;
}

/** @throws UsageError that names the source and the field */
export async function readProxyConfig({ mesh, own, annotations, loadYaml }: ProxyConfigSources): Promise<Fields> {
  const layers: Fields[] = [DEFAULTS];
  if (mesh !== undefined) {
    const file = await parse(mesh.text, mesh.origin, loadYaml);
    layers.push(asObject(file["defaultConfig"], `${mesh.origin}: defaultConfig`));
  }
  if (own.trim() !== "") layers.push(await parse(own, "PROXY_CONFIG", loadYaml));
  const annotated = annotations["proxy.istio.io/config"];
  if (annotated !== undefined) layers.push(await parse(annotated, "annotation proxy.istio.io/config", loadYaml));
  const address = annotations["sidecar.istio.io/discoveryAddress"];
  const statusPort = annotations["status.sidecar.istio.io/port"];
  if (address !== undefined) layers.push({ discoveryAddress: address });
  if (statusPort !== undefined) layers.push({ statusPort });
  const merged: Record<string, unknown> = {};
  for (const layer of layers) {
    // One of the two names the service: whichever was said last.
    if (layer["tracingServiceName"] !== undefined) delete merged["serviceCluster"];
    if (layer["serviceCluster"] !== undefined) delete merged["tracingServiceName"];
    for (const [name, value] of Object.entries(layer)) if (value !== null && value !== undefined) merged[name] = value;
  }
  const metadata = Object.assign(
    {},
    ...layers.map((layer) => asObject(layer["proxyMetadata"], "PROXY_CONFIG: proxyMetadata")),
  );
  if (Object.keys(metadata).length > 0) merged["proxyMetadata"] = metadata;
  return merged;
}

/** JSON is what istiod's template writes; the YAML parser is not loaded for it. */
async function parse(text: string, origin: string, loadYaml: ProxyConfigSources["loadYaml"]): Promise<Fields> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    const yaml = await loadYaml();
    try {
      value = yaml(text);
    } catch (error) {
      throw new UsageError(`${origin}: neither JSON nor YAML: ${oneLine((error as Error).message)}`);
    }
  }
  return asObject(value, origin);
}

export function asObject(value: unknown, origin: string): Fields {
  if (value === null || value === undefined) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw new UsageError(`${origin}: must be a mapping`);
  return value as Fields;
}

/** Fields that would change what is served in a way that this proxy does not know. */
const REFUSED: readonly (readonly [name: string, why: string])[] = [
  ["customConfigFile", "it replaces the whole configuration by one for Envoy"],
  ["proxyBootstrapTemplatePath", "it replaces Envoy's bootstrap, which there is none of"],
];
/** Fields whose absence is seen in what is told of the traffic, not in the traffic. */
const WITHOUT_EFFECT: readonly (readonly [name: string, what: string])[] = [
  ["statsdUdpAddress", "metrics are not sent to statsd: scrape them"],
  ["envoyMetricsService", "metrics are not sent to a metrics service: scrape them"],
  ["envoyMetricsServiceAddress", "metrics are not sent to a metrics service: scrape them"],
  ["privateKeyProvider", "keys are used by OpenSSL"],
  ["runtimeValues", "Envoy's runtime flags have no meaning here, save overload.global_downstream_max_connections"],
  ["envoyAccessLogService", "access logs go to the providers that Telemetry names"],
];

/**
 * What of it has no effect, in words for an operator.
 *
 * @throws UsageError for a field that cannot be honoured and must not be passed over
 */
export function judgeProxyConfig(proxyConfig: Fields): readonly string[] {
  for (const [name, why] of REFUSED) {
    if (isSet(proxyConfig[name])) throw new UsageError(`PROXY_CONFIG: ${name} is not supported: ${why}`);
  }
  return WITHOUT_EFFECT.filter(([name]) => isSet(proxyConfig[name])).map(([name, what]) =>
    `PROXY_CONFIG: ${name} has no effect: ${what}`
  );
}

function isSet(value: unknown): boolean {
  return value !== undefined && value !== "" && !(typeof value === "object" && Object.keys(value ?? {}).length === 0);
}

export function discoveryAddress(proxyConfig: Fields): string {
  const given = proxyConfig["discoveryAddress"];
  const problem = (rule: string) => new UsageError(`PROXY_CONFIG: discoveryAddress: ${JSON.stringify(given)} ${rule}`);
  if (typeof given !== "string") throw problem("must be text");
  let address: string | undefined;
  try {
    address = parseServerAddress(given);
  } catch (error) {
    throw problem((error as Error).message);
  }
  if (address === undefined) throw problem("must be host:port: a waypoint has its configuration from istiod");
  return address;
}

export function number(proxyConfig: Fields, name: string, min: number, max: number): number | undefined {
  const value = proxyConfig[name] ?? undefined;
  if (value === undefined) return undefined;
  try {
    return parseInteger(String(value), min, max);
  } catch (error) {
    throw new UsageError(`PROXY_CONFIG: ${name}: ${JSON.stringify(value)} ${(error as Error).message}`);
  }
}

const MAX_CONNECTIONS = "ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS";
const OLD_MAX_CONNECTIONS = "overload.global_downstream_max_connections";

/** Envoy's overload manager has one limit that pilot-agent sets, by either name; the first counts. */
export function maxConnections(proxyConfig: Fields): number | undefined {
  const metadata = asObject(proxyConfig["proxyMetadata"], "PROXY_CONFIG: proxyMetadata");
  if (metadata[MAX_CONNECTIONS] !== undefined) return number(metadata, MAX_CONNECTIONS, 1, 2 ** 31 - 1);
  return number(
    asObject(proxyConfig["runtimeValues"], "PROXY_CONFIG: runtimeValues"),
    OLD_MAX_CONNECTIONS,
    1,
    2 ** 31 - 1,
  );
}

/** In the JSON of protobuf 0 is what was not set. */
export function port(proxyConfig: Fields, name: "proxyAdminPort" | "statusPort"): number {
  return number(proxyConfig, name, 0, 65_535) || DEFAULTS[name];
}

export function drain(proxyConfig: Fields, name: "drainDuration" | "terminationDrainDuration"): number {
  const value = proxyConfig[name];
  try {
    if (typeof value !== "string") throw new Error("must be a duration such as 5s");
    return parseDuration(value);
  } catch (error) {
    throw new UsageError(`PROXY_CONFIG: ${name}: ${JSON.stringify(value)} ${(error as Error).message}`);
  }
}

export function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, " ").trim().slice(0, 300);
}
