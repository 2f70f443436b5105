/**
 * The container runtime's network configurations, reference cni.md 1.6: reading them, and our entry put in and taken out. Pure.
 *
 * Everything that is not ours stays as it is, in its order. What cannot be read is an error, never an empty configuration.
 */
import { isDeepStrictEqual } from "node:util";

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export type JsonObject = { readonly [name: string]: Json };
/** One plugin of a chain. */
export type Entry = Readonly<Record<string, unknown>>;

/** `conf`: one plugin alone. `list`: a chain of them. */
export type NetworkConfig =
  | { readonly kind: "conf"; readonly content: JsonObject }
  | { readonly kind: "list"; readonly content: JsonObject; readonly plugins: readonly JsonObject[] };

/** Of a list that is made of a `.conf`: Istio's. */
const LIST_NAME = "k8s-pod-network";
const LIST_VERSION = "0.3.1";
/** Larger than any chain, smaller than what would be trouble. */
export const MAX_CONFIG_BYTES = 4 * 1024 * 1024;

/**
 * @param name decides what it must be, as for the runtime: `.conflist` a list, anything else one plugin
 * @throws Error that says what is wrong, without the name
 */
export function readNetworkConfig(bytes: Uint8Array, name: string): NetworkConfig {
  const content = parseObject(bytes);
  if (name.endsWith(".conflist")) return { kind: "list", content, plugins: readPlugins(content) };
  if (!isText(content["type"])) throw new Error(`it has no "type"`);
  return { kind: "conf", content };
}

function parseObject(bytes: Uint8Array): JsonObject {
  if (bytes.length > MAX_CONFIG_BYTES) throw new Error(`it is larger than ${MAX_CONFIG_BYTES} bytes`);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Error("it is not UTF-8");
  }
  if (text.trim() === "") throw new Error("it is empty");
  let content: Json;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw new Error(`it is not JSON: ${(error as Error).message}`);
  }
  if (!isObject(content)) throw new Error("it is no JSON object");
  return content;
}

/** What a runtime would refuse is refused here too: it would take the next file then. */
function readPlugins(content: JsonObject): readonly JsonObject[] {
  if (!isText(content["name"])) throw new Error(`the list has no "name"`);
  const versions = content["cniVersions"];
  if (!isText(content["cniVersion"]) && !(Array.isArray(versions) && versions.some(isText))) {
    throw new Error(`the list has no "cniVersion"`);
  }
  const plugins = content["plugins"];
  if (!Array.isArray(plugins) || plugins.length === 0) throw new Error("the list has no plugins");
  return plugins.map((plugin: Json, index) => {
    if (isObject(plugin) && isText(plugin["type"])) return plugin;
    throw new Error(`plugins[${index}] has no "type"`);
  });
}

/** The configuration as a list with our entry once, at its end. */
export function withEntry(config: NetworkConfig, entry: Entry): JsonObject {
  const ours = withoutVersion(entry);
  if (config.kind === "conf") {
    const theirs = isOurs(config.content, entry) ? [] : [withoutVersion(config.content)];
    return { name: LIST_NAME, cniVersion: LIST_VERSION, plugins: [...theirs, ours] };
  }
  return { ...config.content, plugins: [...config.plugins.filter((plugin) => !isOurs(plugin, entry)), ours] };
}

/** The list without our entries; undefined when there are none in it. */
export function withoutEntry(config: NetworkConfig, entry: Entry): JsonObject | undefined {
  if (config.kind === "conf" || !config.plugins.some((plugin) => isOurs(plugin, entry))) return undefined;
  return { ...config.content, plugins: config.plugins.filter((plugin) => !isOurs(plugin, entry)) };
}

/** Why the list does not do what it should; undefined when it does. Where in the chain we stand is its owner's choice. */
export function entryProblem(config: NetworkConfig, entry: Entry): string | undefined {
  if (config.kind === "conf") return "it is no list of plugins";
  const ours = config.plugins.filter((plugin) => isOurs(plugin, entry));
  if (ours.length === 0) return `the entry ${entry["type"]} is missing`;
  if (ours.length > 1) return `the entry ${entry["type"]} is there ${ours.length} times`;
  return isDeepStrictEqual(ours[0], plain(withoutVersion(entry)))
    ? undefined
    : `the entry ${entry["type"]} was changed`;
}

/** Whether two contents say the same, in whatever order of names. */
export function isSame(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(plain(a), plain(b));
}

/** Nothing in it makes an interface: what an agent of another mode left there, not a network to join. */
export function isOnlyOurs(config: NetworkConfig, entry: Entry): boolean {
  return (config.kind === "conf" ? [config.content] : config.plugins).every((plugin) => isOurs(plugin, entry));
}

function isOurs(plugin: JsonObject, entry: Entry): boolean {
  return plugin["type"] === entry["type"];
}

/** Two spaces, and an end of the last line. */
export function configText(content: Entry | JsonObject): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(content, undefined, 2)}\n`);
}

/** In a chain the version is the list's. */
function withoutVersion(entry: Entry): JsonObject {
  const { cniVersion: _, ...rest } = entry as JsonObject;
  return rest;
}

/** As it comes back from a file. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

function isObject(value: Json): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isText(value: Json | undefined): boolean {
  return typeof value === "string" && value !== "";
}
