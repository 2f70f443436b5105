/**
 * A resource as protobuf's JSON, in the spelling of Envoy's own documents, on its way to what travels in a delta push. The same content gives the
 * same bytes and the same version.
 */
import { createHash } from "node:crypto";
import { create, type DescMessage, fromJson, type JsonObject, type Registry, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ClusterSchema } from "../../../gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClusterLoadAssignmentSchema } from "../../../gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { ListenerSchema } from "../../../gen/envoy/config/listener/v3/listener_pb.ts";
import { WorkloadSchema } from "../../../gen/istio/workload/workload_pb.ts";
import { ResourceSchema } from "../../../gen/xds/delta_discovery_pb.ts";
import { loadRegistry } from "../../xds/envoy_registry.ts";
import type { CompiledResource } from "./world.ts";

const PREFIX = "type.googleapis.com/";
/** Of a SHA-256, in hexadecimal digits. */
const VERSION_LENGTH = 16;

const SCHEMAS = {
  cluster: ClusterSchema,
  endpoints: ClusterLoadAssignmentSchema,
  listener: ListenerSchema,
  workload: WorkloadSchema,
} as const satisfies Record<string, DescMessage>;

export type ResourceKind = keyof typeof SCHEMAS;

/** Made for the first Gateway: most mesh files have none. */
let registry: Registry | undefined;

/** @throws Error when `json` is no message of that kind, which is a bug of ours */
export function xdsResource(kind: ResourceKind, name: string, json: JsonObject): CompiledResource {
  registry ??= loadRegistry();
  const schema: DescMessage = SCHEMAS[kind];
  const typeUrl = PREFIX + schema.typeName;
  const value = toBinary(schema, fromJson(schema, json, { registry }));
  const version = createHash("sha256").update(value).digest("hex").slice(0, VERSION_LENGTH);
  const resource = create(AnySchema, { typeUrl, value });
  return {
    typeUrl,
    name,
    version,
    bytes: toBinary(ResourceSchema, create(ResourceSchema, { name, version, resource })),
  };
}

/** A message inside of another, by the name of its type. */
export function packed(type: string, fields: JsonObject = {}): JsonObject {
  return { "@type": PREFIX + type, ...fields };
}

/** A filter or an extension: a name and its configuration. */
export function extension(name: string, type: string, fields: JsonObject = {}): JsonObject {
  return { name, typed_config: packed(type, fields) };
}
