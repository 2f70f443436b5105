/**
 * Envoy's `/config_dump` (envoy.admin.v3.ConfigDump in protobuf's JSON), of the resources as istiod sent them. In pieces: a large mesh makes many
 * megabytes of it. Loaded by the first dump: it needs all generated code.
 */
import {
  fromBinary,
  isMessage,
  type JsonObject,
  type JsonValue,
  type Message,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { type Any, anyPack, AnySchema } from "@bufbuild/protobuf/wkt";
import { Buffer } from "node:buffer";
import { create } from "@bufbuild/protobuf";
import { ListenerSchema } from "../../gen/envoy/config/listener/v3/listener_pb.ts";
import { HttpConnectionManagerSchema } from "../../gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { RouteConfigurationSchema } from "../../gen/envoy/config/route/v3/route_pb.ts";
import { TypedStructSchema } from "../../gen/xds/type/v3/typed_struct_pb.ts";
import type { ReceivedResource, SecretView, WaypointState } from "../agent/state.ts";
import { bootstrap } from "./dump_bootstrap.ts";
import { TYPES } from "./intake.ts";
import { loadRegistry } from "../../control/xds/envoy_registry.ts";

const PREFIX = "type.googleapis.com/";
const ADMIN = `${PREFIX}envoy.admin.v3.`;

const registry = loadRegistry();
/** Names as in the .proto files, as Envoy's own dump has them. */
const JSON_OPTIONS = { registry, useProtoFieldName: true } as const;

export interface DumpQuery {
  readonly includeEndpoints: boolean;
  /** Paths such as `bootstrap` or `dynamic_listeners.name`; empty: everything. */
  readonly mask: readonly string[];
  /** One list alone, such as `dynamic_active_clusters`; "" all. */
  readonly resource: string;
  readonly nameFilter: { test(name: string): boolean } | undefined;
}

export type DumpState = Pick<
  WaypointState,
  "config" | "node" | "startedMs" | "resources" | "secrets"
>;

/** An element of a list, made when its turn comes. */
interface Entry {
  readonly name: string;
  readonly json: () => JsonObject;
}

interface Section {
  readonly type: string;
  readonly single?: Readonly<Record<string, () => JsonValue>>;
  readonly lists: Readonly<Record<string, Iterable<Entry>>>;
}

/** The whole text. */
export function* dumpConfig(state: DumpState, query: DumpQuery): Generator<string> {
  yield '{"configs":[';
  let separator = "";
  for (const section of sections(state, query)) {
    let before = separator;
    for (const piece of renderSection(section, query)) {
      yield before + piece;
      before = "";
      // Only after a section that is there at all.
      separator = ",";
    }
  }
  yield "]}";
}

function sections(state: DumpState, { includeEndpoints }: DumpQuery): readonly Section[] {
  const { resources, startedMs } = state;
  const of = (type: string) => resources.get(PREFIX + type)?.values() ?? [];
  return [
    {
      type: "BootstrapConfigDump",
      single: { bootstrap: () => bootstrap(state), last_updated: () => time(startedMs) },
      lists: {},
    },
    { type: "ClustersConfigDump", lists: { dynamic_active_clusters: entries(of(TYPES.clusters), "cluster") } },
    { type: "EcdsConfigDump", lists: { ecds_filters: entries(of(TYPES.filters), "ecds_filter") } },
    ...(includeEndpoints
      ? [{
        type: "EndpointsConfigDump",
        lists: { dynamic_endpoint_configs: entries(of(TYPES.endpoints), "endpoint_config") },
      }]
      : []),
    { type: "ListenersConfigDump", lists: { dynamic_listeners: listeners(of(TYPES.listeners)) } },
    { type: "RoutesConfigDump", lists: { static_route_configs: inlineRoutes(of(TYPES.listeners)) } },
    { type: "SecretsConfigDump", lists: { dynamic_active_secrets: secrets(state.secrets.values()) } },
  ];
}

function* renderSection({ type, single = {}, lists }: Section, query: DumpQuery): Generator<string> {
  const { mask, resource, nameFilter } = query;
  const wanted = (name: string) =>
    (resource === "" || resource === name) &&
    (mask.length === 0 || resource !== "" || mask.some((path) => head(path) === name));
  const names = Object.keys(lists).filter(wanted);
  const fields = Object.entries(single).filter(([name]) => wanted(name));
  // A part of which nothing is asked for is not there at all.
  if ((resource !== "" || mask.length > 0) && names.length + fields.length === 0) return;
  let text = `{"@type":${JSON.stringify(ADMIN + type)}`;
  for (const [name, make] of fields) text += `,"${name}":${JSON.stringify(masked(make(), pathsOf(mask, name)))}`;
  for (const name of names) {
    text += `,"${name}":[`;
    let separator = "";
    const paths = resource === "" ? pathsOf(mask, name) : mask;
    for (const entry of lists[name]) {
      if (nameFilter !== undefined && !nameFilter.test(entry.name)) continue;
      yield text + separator + JSON.stringify(masked(entry.json(), paths));
      text = "";
      separator = ",";
    }
    text += "]";
  }
  yield text + "}";
}

function head(path: string): string {
  return path.split(".", 1)[0];
}

/** What of the mask is below a name; empty: all of it. */
function pathsOf(mask: readonly string[], name: string): readonly string[] {
  if (mask.includes(name)) return [];
  return mask.filter((path) => path.startsWith(`${name}.`)).map((path) => path.slice(name.length + 1));
}

function masked(value: JsonValue, paths: readonly string[]): JsonValue {
  if (paths.length === 0 || typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => masked(item, paths));
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => paths.some((path) => head(path) === name))
      .map(([name, item]) => [name, masked(item, pathsOf(paths, name))]),
  );
}

// ---- what came from istiod

function* entries(resources: Iterable<ReceivedResource>, field: string): Generator<Entry> {
  for (const resource of resources) {
    yield {
      name: resource.name,
      json: () => ({
        version_info: resource.version,
        [field]: anyJson(resource.typeUrl, resource.value),
        last_updated: time(resource.updatedMs),
        ...failure(resource),
      }),
    };
  }
}

function* listeners(resources: Iterable<ReceivedResource>): Generator<Entry> {
  for (const resource of resources) {
    yield {
      name: resource.name,
      json: () => ({
        name: resource.name,
        active_state: {
          version_info: resource.version,
          listener: anyJson(resource.typeUrl, resource.value),
          last_updated: time(resource.updatedMs),
        },
        ...failure(resource),
      }),
    };
  }
}

function failure({ error, updatedMs, version }: ReceivedResource): JsonObject {
  if (error === undefined) return {};
  return { error_state: { last_update_attempt: time(updatedMs), details: error, version_info: version } };
}

/** istiod sends a waypoint its routes inside of listeners; Envoy lists them as static ones. */
function* inlineRoutes(resources: Iterable<ReceivedResource>): Generator<Entry> {
  for (const { value, updatedMs } of resources) {
    const listener = fromBinary(ListenerSchema, value);
    for (
      const { filters } of [
        ...listener.filterChains,
        ...(listener.defaultFilterChain ? [listener.defaultFilterChain] : []),
      ]
    ) {
      for (const { configType } of filters) {
        const any = configType.case === "typedConfig" ? configType.value : undefined;
        if (any === undefined || !any.typeUrl.endsWith(HttpConnectionManagerSchema.typeName)) continue;
        const { routeSpecifier } = fromBinary(HttpConnectionManagerSchema, any.value);
        if (routeSpecifier.case !== "routeConfig") continue;
        const routes = routeSpecifier.value;
        yield {
          name: routes.name,
          json: () => {
            const packed = anyPack(RouteConfigurationSchema, routes);
            return { route_config: anyJson(packed.typeUrl, packed.value), last_updated: time(updatedMs) };
          },
        };
      }
    }
  }
}

/** `{"@type": …}`, also where something inside is of a type that is not known to this version. */
function anyJson(typeUrl: string, value: Uint8Array): JsonValue {
  const any = { $typeName: AnySchema.typeName, typeUrl, value } as Any;
  try {
    return toJson(AnySchema, any, JSON_OPTIONS);
  } catch {
    try {
      return toJson(AnySchema, presentable(any), JSON_OPTIONS);
    } catch (error) {
      return { "@type": typeUrl, "error": `cannot be shown: ${(error as Error).message}` };
    }
  }
}

/** A type that is not known becomes a TypedStruct that names it: its reader, such as istioctl, can go on. */
function presentable(any: Any): Any {
  const schema = registry.getMessage(any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1));
  if (schema === undefined) {
    return anyPack(TypedStructSchema, create(TypedStructSchema, { typeUrl: any.typeUrl, value: {} }));
  }
  const message = fromBinary(schema, any.value);
  replaceInside(message);
  return { ...any, value: toBinary(schema, message) };
}

function replaceInside(value: unknown): void {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return;
  for (const [key, child] of Object.entries(value)) {
    if (key.startsWith("$")) continue;
    if (isMessage(child, AnySchema)) (value as Record<string, Message>)[key] = presentable(child);
    else replaceInside(child);
  }
}

// ---- what is this process's own

/** Never a private key. */
const REDACTED = Buffer.from("[redacted]").toString("base64");

function* secrets(views: Iterable<SecretView>): Generator<Entry> {
  for (const { name, kind, certificates, updatedMs } of views) {
    const bytes = Buffer.from(certificates).toString("base64");
    yield {
      name,
      json: () => ({
        name,
        version_info: new Date(updatedMs).toISOString(),
        last_updated: time(updatedMs),
        secret: {
          "@type": PREFIX + TYPES.secrets,
          name,
          ...(kind === "certificate"
            ? {
              tls_certificate: {
                certificate_chain: { inline_bytes: bytes },
                private_key: { inline_bytes: REDACTED },
              },
            }
            : { validation_context: { trusted_ca: { inline_bytes: bytes } } }),
        },
      }),
    };
  }
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}
