/**
 * The plugin's entry in the node's CNI configuration: written by the agent, read by the plugin. Reference cni.md 1.6.
 *
 * The container runtime adds `prevResult` and, to entries of a list, `name` and `cniVersion`. Fields that are not known
 * are left alone: while the node is upgraded, the plugin may be older than the entry.
 */
import type { EnablementSelector } from "./eligibility.ts";
import { asArray, asObject, isGiven, shownJson } from "./label_selector.ts";

export const PLUGIN_TYPE = "istio-cni";
/** Version of an entry that stands alone; in a list it is the list's. */
export const ENTRY_CNI_VERSION = "0.3.1";

export const DEFAULT_AGENT_RUN_DIR = "/var/run/istio-cni";

/** Names in the agent's run directory (1.3). */
export const KUBECONFIG_NAME = "istio-cni-kubeconfig";
export const EVENT_SOCKET_NAME = "pluginevent.sock";
export const LOG_SOCKET_NAME = "log.sock";
export const LOG_FILE_NAME = "istio-cni.log";

/** What the plugin is told. */
export interface PluginConf {
  /** Of the CNI specification; 0.1.0 when it is not given. */
  readonly cniVersion: string;
  readonly name: string;
  /** Level of the plugin's log; empty for the default. */
  readonly logLevel: string;
  readonly agentRunDir: string;
  readonly ambientEnabled: boolean;
  /**
   * As it came: `parseSelectors` reads it when it is needed. The agent's own pod passes before that, also with
   * selectors nobody can read, or no agent could ever replace them.
   */
  readonly enablementSelectors: unknown;
  readonly excludedNamespaces: readonly string[];
  /** Where the agent runs. */
  readonly podNamespace: string;
  readonly nativeNftables: boolean;
  /** Wait up to 30 s for the API server, and refuse the pod without it. */
  readonly detectionRetry: boolean;
  /** What the plugins before this one made; undefined when it is the first. */
  readonly prevResult: Readonly<Record<string, unknown>> | undefined;
}

/** @throws Error that names the field. */
export function parsePluginConf(text: string): PluginConf {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new Error(`failed to parse network configuration: ${(error as Error).message}`);
  }
  return readPluginConf(parsed);
}

/** @throws Error that names the field. */
export function readPluginConf(value: unknown): PluginConf {
  const fields = asObject(value, "network configuration");
  const prevResult = fields["prevResult"];
  return {
    cniVersion: readString(fields, "cniVersion") || "0.1.0",
    name: readString(fields, "name"),
    logLevel: readString(fields, "plugin_log_level"),
    agentRunDir: readString(fields, "cni_agent_run_dir") || DEFAULT_AGENT_RUN_DIR,
    ambientEnabled: readBool(fields, "ambient_enabled"),
    enablementSelectors: fields["enablement_selectors"],
    excludedNamespaces: readStrings(fields, "exclude_namespaces"),
    podNamespace: readString(fields, "pod_namespace"),
    nativeNftables: readBool(fields, "native_nftables"),
    detectionRetry: readBool(fields, "enable_ambient_detection_retry"),
    prevResult: isGiven(prevResult) ? asObject(prevResult, "network configuration: prevResult") : undefined,
  };
}

/** What the installer knows. */
export interface PluginEntryConfig {
  readonly logLevel: string;
  readonly agentRunDir: string;
  readonly ambientEnabled: boolean;
  readonly selectors: readonly EnablementSelector[];
  readonly excludedNamespaces: readonly string[];
  readonly podNamespace: string;
  readonly nativeNftables: boolean;
  readonly detectionRetry: boolean;
}

/** The entry in Istio's order of keys, with `cniVersion`, which the installer takes out for a list. */
export function pluginEntry(config: PluginEntryConfig): Record<string, unknown> {
  return {
    cniVersion: ENTRY_CNI_VERSION,
    name: PLUGIN_TYPE,
    type: PLUGIN_TYPE,
    ipam: {},
    dns: {},
    plugin_log_level: config.logLevel,
    cni_agent_run_dir: config.agentRunDir,
    ambient_enabled: config.ambientEnabled,
    enablement_selectors: config.selectors,
    exclude_namespaces: config.excludedNamespaces.length === 0 ? null : config.excludedNamespaces,
    pod_namespace: config.podNamespace,
    native_nftables: config.nativeNftables,
    enable_ambient_detection_retry: config.detectionRetry,
  };
}

type Fields = Readonly<Record<string, unknown>>;

function readString(fields: Fields, name: string): string {
  const value = fields[name] ?? "";
  if (typeof value !== "string") throw wrongType(name, "a string", value);
  return value;
}

function readBool(fields: Fields, name: string): boolean {
  const value = fields[name] ?? false;
  if (typeof value !== "boolean") throw wrongType(name, "true or false", value);
  return value;
}

function readStrings(fields: Fields, name: string): readonly string[] {
  if (!isGiven(fields[name])) return [];
  return asArray(fields[name], `network configuration: ${name}`).map((item, index) => {
    if (typeof item !== "string") throw wrongType(`${name}[${index}]`, "a string", item);
    return item;
  });
}

function wrongType(name: string, wanted: string, value: unknown): Error {
  return new Error(`network configuration: ${name}: must be ${wanted}, is ${shownJson(value)}`);
}
