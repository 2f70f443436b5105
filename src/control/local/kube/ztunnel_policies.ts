/** AuthorizationPolicies that ztunnels enforce, in the vocabulary of the mesh file. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import type { AuthorizationPolicy } from "./objects.ts";

export interface ZtunnelPolicy {
  readonly fields: Fields;
  readonly path: SourcePath;
}

/** Policies with a selector, or for a namespace or the mesh: entries for the mesh document's `policies`. */
export function ztunnelPolicies(
  _reader: FieldReader,
  _policies: readonly AuthorizationPolicy[],
): readonly ZtunnelPolicy[] {
  return [];
}
