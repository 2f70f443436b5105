/** One `envoy.service.discovery.v3.Resource` of a push, taken out of its envelope. */
import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { ResourceSchema } from "../../gen/xds/delta_discovery_pb.ts";

export interface OpenedResource {
  readonly name: string;
  readonly version: string;
  readonly resource: Any;
}

/** @throws Error when it is none, or is empty */
export function openResource(bytes: Uint8Array): OpenedResource {
  const { name, version, resource } = fromBinary(ResourceSchema, bytes);
  if (name === "") throw new Error("a resource without a name");
  if (resource === undefined) throw new Error(`the resource ${name} is empty`);
  return { name, version, resource };
}
