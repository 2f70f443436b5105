/** Resources as istiod encodes them, from the fields that a test is about. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AuthorizationSchema } from "../../../../src/gen/istio/security/authorization_pb.ts";
import { AddressSchema, ServiceSchema, WorkloadSchema } from "../../../../src/gen/istio/workload/workload_pb.ts";

export type WorkloadInit = MessageInitShape<typeof WorkloadSchema>;
export type ServiceInit = MessageInitShape<typeof ServiceSchema>;
export type PolicyInit = MessageInitShape<typeof AuthorizationSchema>;

export function workloadBytes(fields: WorkloadInit): Uint8Array {
  return toBinary(
    AddressSchema,
    create(AddressSchema, { type: { case: "workload", value: create(WorkloadSchema, fields) } }),
  );
}

export function serviceBytes(fields: ServiceInit): Uint8Array {
  return toBinary(
    AddressSchema,
    create(AddressSchema, { type: { case: "service", value: create(ServiceSchema, fields) } }),
  );
}

export function policyBytes(fields: PolicyInit): Uint8Array {
  return toBinary(AuthorizationSchema, create(AuthorizationSchema, fields));
}

/** A length-delimited field. */
export function field(number: number, value: Uint8Array | string): Uint8Array {
  const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
  return concat([...varint(number << 3 | 2), ...varint(bytes.length)], bytes);
}

export function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value >>> 0;
  for (; rest > 127; rest >>>= 7) bytes.push(rest & 0x7f | 0x80);
  return [...bytes, rest];
}

export function concat(...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

/** envoy.service.discovery.v3.Resource around a resource. */
export function envelope(name: string, typeUrl: string, value: Uint8Array, version = "v1"): Uint8Array {
  const any = concat(field(1, typeUrl), field(2, value));
  return concat(field(1, version), field(2, any), field(3, name));
}
