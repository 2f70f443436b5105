/**
 * Istio's ProxyConfig as ztunnel uses it: `defaultConfig` of the mesh file, with `PROXY_CONFIG` merged over it.
 */
import { UsageError } from "./errors.ts";
import { parseInteger } from "./values.ts";

/** Relative to the working directory, which is `/` in a pod. */
export const MESH_CONFIG_PATH = "./etc/istio/config/mesh";

export interface ProxyConfig {
  readonly discoveryAddress: string | undefined;
  readonly proxyAdminPort: number | undefined;
  readonly statsPort: number | undefined;
  /** 0 means one worker per CPU. */
  readonly concurrency: number | undefined;
  readonly proxyMetadata: Readonly<Record<string, string>>;
}

/** Text of a YAML document, and what to call it in an error. */
export interface YamlSource {
  readonly origin: string;
  readonly text: string;
}

/**
 * @param parseYaml throws on malformed YAML.
 * @throws UsageError that names the source and the field.
 */
export function mergeProxyConfig(
  mesh: YamlSource | undefined,
  env: YamlSource | undefined,
  parseYaml: (text: string) => unknown,
): ProxyConfig {
  const base = mesh === undefined ? undefined : asObject(readYaml(mesh, parseYaml), mesh.origin)["defaultConfig"];
  const low = readFields(base, `${mesh?.origin}: defaultConfig`);
  const high = readFields(env === undefined ? undefined : readYaml(env, parseYaml), env?.origin ?? "");
  return {
    discoveryAddress: high.discoveryAddress ?? low.discoveryAddress,
    proxyAdminPort: high.proxyAdminPort ?? low.proxyAdminPort,
    statsPort: high.statsPort ?? low.statsPort,
    concurrency: high.concurrency ?? low.concurrency,
    proxyMetadata: { ...low.proxyMetadata, ...high.proxyMetadata },
  };
}

function readYaml(source: YamlSource, parseYaml: (text: string) => unknown): unknown {
  try {
    return parseYaml(source.text);
  } catch (error) {
    throw new UsageError(`${source.origin}: not YAML: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function asObject(value: unknown, origin: string): Readonly<Record<string, unknown>> {
  if (value === null || value === undefined) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw new UsageError(`${origin}: must be a YAML mapping`);
  return value as Record<string, unknown>;
}

/** Fields that ztunnel does not know belong to Envoy and are passed over. */
function readFields(value: unknown, origin: string): ProxyConfig {
  const fields = asObject(value, origin);
  const port = (name: string) => numberField(fields, name, origin, 1, 65_535);
  const discoveryAddress = fields["discoveryAddress"] ?? undefined;
  if (discoveryAddress !== undefined && typeof discoveryAddress !== "string") {
    throw new UsageError(`${origin}: discoveryAddress: must be text`);
  }
  const metadata: Record<string, string> = {};
  for (const [key, entry] of Object.entries(asObject(fields["proxyMetadata"], `${origin}: proxyMetadata`))) {
    if (typeof entry === "object") throw new UsageError(`${origin}: proxyMetadata: ${key}: must be text`);
    metadata[key] = String(entry);
  }
  return {
    discoveryAddress,
    proxyAdminPort: port("proxyAdminPort"),
    statsPort: port("statsPort"),
    concurrency: numberField(fields, "concurrency", origin, 0, 1024),
    proxyMetadata: metadata,
  };
}

function numberField(
  fields: Readonly<Record<string, unknown>>,
  name: string,
  origin: string,
  min: number,
  max: number,
): number | undefined {
  const value = fields[name] ?? undefined;
  if (value === undefined) return undefined;
  try {
    return parseInteger(String(value), min, max);
  } catch (error) {
    throw new UsageError(`${origin}: ${name}: ${JSON.stringify(value)} ${(error as Error).message}`);
  }
}
