/**
 * Envoy in the waypoint's place: a static bootstrap out of what istiod sent to ambit (`config_dump?include_eds` of its admin page), so that both have the same listeners,
 * chains, routes, policies and endpoints.
 *
 * What is changed: endpoints are inline instead of EDS, secrets are static instead of from an agent, and what only Istio's build of Envoy
 * has is left out (peer metadata) or named as in Envoy's own (the hashable string of filter state).
 */
import type { TlsMaterial } from "../../src/platform/tls_context.ts";

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
type JsonObject = { readonly [key: string]: Json };

/** Statistics that Istio's bootstrap keeps; all others cost memory and time. */
const STATISTICS_KEPT = ["cluster_manager", "listener_manager", "server", "cluster.xds-grpc"];

const typed = (type: string, fields: JsonObject = {}) => ({ "@type": `type.googleapis.com/${type}`, ...fields });

export function envoyBootstrap(dump: string, tls: TlsMaterial, adminPort: number): JsonObject {
  const configs = (JSON.parse(dump) as { configs: JsonObject[] }).configs;
  const endpoints = new Map<string, Json>();
  for (const entry of entries(configs, "EndpointsConfigDump", "dynamic_endpoint_configs")) {
    const assignment = withoutType(entry.endpoint_config as JsonObject);
    endpoints.set(assignment.cluster_name as string, assignment);
  }
  const clusters = entries(configs, "ClustersConfigDump", "dynamic_active_clusters")
    .map((entry) => staticCluster(adapted(withoutType(entry.cluster as JsonObject)) as JsonObject, endpoints));
  const listeners = entries(configs, "ListenersConfigDump", "dynamic_listeners")
    .map((entry) => (entry.active_state as JsonObject).listener as JsonObject)
    .map((listener) => adapted(withoutType(listener)) as JsonObject);
  return {
    node: { id: "waypoint", cluster: "waypoint" },
    admin: { address: { socket_address: { address: "127.0.0.1", port_value: adminPort } } },
    bootstrap_extensions: [{
      name: "envoy.bootstrap.internal_listener",
      typed_config: typed("envoy.extensions.bootstrap.internal_listener.v3.InternalListener"),
    }],
    stats_config: {
      use_all_default_tags: false,
      stats_matcher: { inclusion_list: { patterns: STATISTICS_KEPT.map((prefix) => ({ prefix })) } },
    },
    static_resources: { listeners, clusters, secrets: secrets(tls) },
  };
}

function entries(configs: readonly JsonObject[], type: string, list: string): readonly JsonObject[] {
  const found = configs.find((config) => (config["@type"] as string).endsWith(`.${type}`));
  return (found?.[list] ?? []) as readonly JsonObject[];
}

function withoutType(resource: JsonObject): JsonObject {
  const { "@type": _, ...rest } = resource;
  return rest;
}

function secrets(tls: TlsMaterial): Json {
  return [
    {
      name: "default",
      tls_certificate: {
        certificate_chain: { inline_string: tls.chain.join("\n") },
        private_key: { inline_string: tls.privateKey },
      },
    },
    { name: "ROOTCA", validation_context: { trusted_ca: { inline_string: tls.roots.join("\n") } } },
  ];
}

function staticCluster(cluster: JsonObject, endpoints: ReadonlyMap<string, Json>): JsonObject {
  if (cluster.type !== "EDS") return cluster;
  const { eds_cluster_config: eds, ...rest } = cluster;
  const name = (eds as JsonObject | undefined)?.service_name as string | undefined ?? cluster.name as string;
  return { ...rest, type: "STATIC", load_assignment: endpoints.get(name) ?? { cluster_name: name } };
}

/** The same value without what Envoy's own build does not know. */
function adapted(value: Json): Json {
  if (Array.isArray(value)) return value.filter((item) => !onlyIstio(item)).map(adapted);
  if (value === null || typeof value !== "object") return value;
  const made: { [key: string]: Json } = {};
  for (const [key, field] of Object.entries(value as JsonObject)) {
    if (key === "factory_key" && field === "istio.hashable_string") made[key] = "envoy.hashable_string";
    // A static secret is found by its name.
    else if (key !== "sds_config") made[key] = adapted(field);
  }
  return made;
}

/** A filter that only Istio's build has: they come in a TypedStruct or as a type of Istio's. */
function onlyIstio(item: Json): boolean {
  if (item === null || typeof item !== "object" || Array.isArray(item)) return false;
  const config = (item as JsonObject).typed_config as JsonObject | undefined;
  const type = config?.["@type"];
  return type === "type.googleapis.com/udpa.type.v1.TypedStruct" || type === "type.googleapis.com/stats.PluginConfig";
}
