/**
 * Fuzz targets of the intake's decoders. What they take, the generated decoder takes and means the same by; what they refuse for its
 * meaning, it refuses too. They alone refuse bytes whose meaning would be a guess.
 */
import { type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { AddressDecoder } from "../../../../src/control/xds/intake/address.ts";
import { Envelope } from "../../../../src/control/xds/intake/envelope.ts";
import { decodePolicy, policyScope } from "../../../../src/control/xds/intake/policy.ts";
import { Unreadable, WireReader } from "../../../../src/control/xds/intake/wire.ts";
import { AuthorizationSchema } from "../../../../src/gen/istio/security/authorization_pb.ts";
import { AddressSchema } from "../../../../src/gen/istio/workload/workload_pb.ts";
import { MeshStore } from "../../../../src/mesh/mod.ts";
import type { FuzzTask } from "../../../support/fuzz.ts";
import { decodeService, decodeWorkload, kindOf } from "./decode.ts";
import { addressByOracle, policyByOracle } from "./oracle.ts";

function attempt<T>(read: () => T): { readonly value: T } | { readonly error: Error } {
  try {
    return { value: read() };
  } catch (error) {
    return { error: error as Error };
  }
}

/** Bytes as an encoder writes them: nothing twice, nothing out of order. */
function isCanonical(schema: DescMessage, bytes: Uint8Array): boolean {
  const written = attempt(() => toBinary(schema, fromBinary(schema, bytes)));
  return "value" in written && Buffer.compare(written.value, bytes) === 0;
}

function compare<T>(
  taken: ReturnType<typeof attempt<T>>,
  expected: ReturnType<typeof attempt<T>>,
  canonical: () => boolean,
): void {
  if ("value" in taken) {
    if ("error" in expected) throw new Error(`taken, but the generated decoder says: ${expected.error.message}`);
    assert.deepEqual(taken.value, expected.value);
    return;
  }
  assert.ok(taken.error instanceof Unreadable, String(taken.error.stack));
  assert.ok(taken.error.message.length < 500);
  // Of two occurrences of a message the generated decoder sees the merged one: what only the first one has it never judges.
  if ("value" in expected && canonical()) assert.match(taken.error.message, /^malformed: /);
}

/** One decoder for all inputs, as in a running proxy: what it shares must never be another resource's. */
const decoder = new AddressDecoder();

function fuzzAddress(bytes: Uint8Array): void {
  const kind = attempt(() => kindOf(bytes, decoder));
  const isService = "value" in kind && kind.value === "service";
  const taken = attempt(() => isService ? decodeService(bytes, decoder) : decodeWorkload(bytes, decoder));
  // What is inside of extensions is read by the generated decoder alone.
  if ("value" in taken && hasExtensions(bytes)) return;
  compare(taken, attempt(() => addressByOracle(bytes)), () => isCanonical(AddressSchema, bytes));
  if ("error" in taken) return;
  const store = new MeshStore();
  store.apply({ upsert: "uid" in taken.value ? { workloads: [taken.value] } : { services: [taken.value] } });
  store.configDump();
}

function hasExtensions(address: Uint8Array): boolean {
  const reader = new WireReader();
  reader.from(address);
  while (reader.next(address.length)) {
    const isService = reader.field === 2;
    if (reader.field !== 1 && !isService) {
      reader.skip(address.length);
      continue;
    }
    const stop = reader.delimited(address.length);
    while (reader.next(stop)) {
      if (reader.field === (isService ? 10 : 26)) return true;
      reader.skip(stop);
    }
  }
  return false;
}

function fuzzPolicy(bytes: Uint8Array): void {
  const canonical = () => isCanonical(AuthorizationSchema, bytes);
  compare(attempt(() => decodePolicy(bytes)), attempt(() => policyByOracle(bytes)), canonical);
  policyScope(bytes);
}

function fuzzEnvelope(bytes: Uint8Array): void {
  const envelope = new Envelope(new WireReader());
  const taken = attempt(() => {
    envelope.read(bytes, "type.googleapis.com/istio.workload.Address");
    return { name: envelope.name, version: envelope.version };
  });
  if ("error" in taken) assert.ok(taken.error instanceof Unreadable, String(taken.error.stack));
  else {assert.ok(
      taken.value.name !== "" && envelope.valueStart <= envelope.valueStop && envelope.valueStop <= bytes.length,
    );}
}

const TARGETS = { address: fuzzAddress, policy: fuzzPolicy, envelope: fuzzEnvelope };

/** What `deno task fuzz` and the test of all fuzz targets run. */
export const targets: readonly Omit<FuzzTask, "seconds" | "seed">[] = Object.entries(TARGETS).map(([name, target]) => ({
  name: `xds intake ${name}`,
  corpusDir: `tests/corpus/xds_intake/${name}`,
  maxBytes: 2048,
  target,
}));
