/**
 * Istio's messages as written in proto/, against bytes that a real istiod sent
 * (tests/fixtures/workload.binpb: a DeltaDiscoveryResponse of workloads) and bytes known from the wire.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { create, fromBinary, isMessage, toBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { AuthorizationSchema } from "../../src/gen/istio/security/authorization_pb.ts";
import {
  AddressSchema,
  WorkloadSchema,
  WorkloadStatus,
  WorkloadType,
} from "../../src/gen/istio/workload/workload_pb.ts";
import {
  Version,
  WorkloadRequestSchema,
  WorkloadResponseSchema,
  ZdsHelloSchema,
} from "../../src/gen/istio/workload/zds_pb.ts";

interface AnyBytes {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

/** Length-delimited fields of a message by number. */
function fields(bytes: Uint8Array, wanted: number): Uint8Array[] {
  const reader = new BinaryReader(bytes);
  const found: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (number === wanted) found.push(reader.bytes());
    else reader.skip(wireType, number);
  }
  return found;
}

/** The resources of a DeltaDiscoveryResponse: field 2, in it the Any in field 2. */
function readResources(response: Uint8Array): AnyBytes[] {
  return fields(response, 2).map((resource) => {
    const [any] = fields(resource, 2);
    return { typeUrl: new TextDecoder().decode(fields(any, 1)[0]), value: fields(any, 2)[0] };
  });
}

/** Names of messages that carry fields which proto/ does not know. */
function unknownFields(value: unknown, path: string): string[] {
  if (Array.isArray(value)) return value.flatMap((item, index) => unknownFields(item, `${path}[${index}]`));
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return [];
  const own = isMessage(value) ? (value.$unknown ?? []).map(({ no }) => `${path}: field ${no}`) : [];
  const nested = Object.entries(value).filter(([key]) => !key.startsWith("$"));
  return [...own, ...nested.flatMap(([key, child]) => unknownFields(child, `${path}.${key}`))];
}

const resources = readResources(new Uint8Array(readFileSync(new URL("../fixtures/workload.binpb", import.meta.url))));

test("istio messages: every field of a real istiod's workloads is known", () => {
  assert.ok(resources.length > 0);
  for (const { typeUrl, value } of resources) {
    assert.equal(typeUrl, "type.googleapis.com/istio.workload.Workload");
    assert.deepEqual(unknownFields(fromBinary(WorkloadSchema, value), "workload"), []);
  }
});

test("istio messages: a real workload reads as istiod meant it, and survives being written and read again", () => {
  const workloads = resources.map(({ value }) => fromBinary(WorkloadSchema, value));
  const uids = workloads.map(({ uid }) => uid);
  assert.equal(new Set(uids).size, uids.length);
  for (const [index, workload] of workloads.entries()) {
    assert.match(workload.uid, /^Kubernetes\//);
    assert.ok(workload.name !== "" && workload.namespace !== "");
    assert.equal(workload.clusterId, "Kubernetes");
    assert.ok(workload.workloadType in WorkloadType && workload.status in WorkloadStatus);
    assert.ok(workload.addresses.every((address) => address.length === 4 || address.length === 16));
    assert.deepEqual(fromBinary(WorkloadSchema, toBinary(WorkloadSchema, workload)), workload, uids[index]);
  }
});

test("istio messages: the test itself sees a field that proto/ does not know", () => {
  // Field 100, varint 1.
  const extended = new Uint8Array([...resources[0].value, 0xa0, 0x06, 0x01]);
  assert.deepEqual(unknownFields(fromBinary(WorkloadSchema, extended), "workload"), ["workload: field 100"]);
});

test("istio messages: the node agent's messages have the known bytes", () => {
  assert.deepEqual([...toBinary(ZdsHelloSchema, create(ZdsHelloSchema, { version: Version.V1 }))], [0x08, 0x01]);
  const snapshot = create(WorkloadRequestSchema, { payload: { case: "snapshotSent", value: {} } });
  assert.deepEqual([...toBinary(WorkloadRequestSchema, snapshot)], [0x1a, 0x00]);
  const ack = create(WorkloadResponseSchema, { payload: { case: "ack", value: {} } });
  assert.deepEqual([...toBinary(WorkloadResponseSchema, ack)], [0x0a, 0x00]);
  // DelWorkload's uid is field 2, not 1.
  const del = create(WorkloadRequestSchema, { payload: { case: "del", value: { uid: "u" } } });
  assert.deepEqual([...toBinary(WorkloadRequestSchema, del)], [0x12, 0x03, 0x12, 0x01, 0x75]);
});

test("istio messages: address and policy have Istio's field numbers", () => {
  const address = create(AddressSchema, { type: { case: "service", value: { hostname: "h", canonical: true } } });
  assert.deepEqual([...toBinary(AddressSchema, address)], [0x12, 0x05, 0x1a, 0x01, 0x68, 0x58, 0x01]);
  const policy = create(AuthorizationSchema, {
    rules: [{ clauses: [{ matches: [{ notDestinationPorts: [80], serviceAccounts: [{ serviceAccount: "s" }] }] }] }],
    dryRun: true,
  });
  assert.deepEqual([...toBinary(AuthorizationSchema, policy)], [
    ...[0x2a, 0x0c, 0x0a, 0x0a, 0x12, 0x08],
    ...[0x52, 0x01, 0x50],
    ...[0x5a, 0x03, 0x12, 0x01, 0x73],
    ...[0x30, 0x01],
  ]);
});
