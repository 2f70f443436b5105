/** Fuzz targets of the xDS client: what comes over the stream, and the names in a resource. */
import assert from "node:assert/strict";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { IstiodError } from "../../../src/control/istiod/mod.ts";
import { BYTES, VARINT, WireReader } from "../../../src/control/xds/intake/wire.ts";
import { resourceNames } from "../../../src/control/xds/resource_names.ts";
import { ResponseSplitter } from "../../../src/control/xds/response_splitter.ts";
import { DeltaDiscoveryResponseSchema, ResourceSchema } from "../../../src/gen/xds/delta_discovery_pb.ts";
import type { Random } from "../../support/fuzz.ts";

const LIMIT = 16 * 1024;
const PREFIX_BYTES = 5;
const MARK_FIELD = 536_870_911;

/**
 * Whatever comes, in whatever pieces: the slices of each message are the message; those of a well-formed one can be decoded exactly when
 * it can be as a whole, those of a broken one never more easily.
 */
function fuzzResponses(bytes: Uint8Array, random: Random): void {
  const sliceBytes = 1 + random.below(200);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + 1 + random.below(64));
    pieces.push(bytes.subarray(at, end));
    at = end;
  }
  const expected = messages(bytes);
  const slices = split(pieces, sliceBytes);
  assert.deepEqual(slices, split([bytes], sliceBytes));
  let next = 0;
  let bodies: Uint8Array[] = [];
  for (const slice of slices) {
    assert.equal(new DataView(slice.buffer, slice.byteOffset).getUint32(1), slice.length - PREFIX_BYTES);
    const body = slice.subarray(PREFIX_BYTES);
    if (slice[0] !== 0) {
      assert.deepEqual([slice[0], [...body]], [expected[next].flags, [...expected[next].body]]);
      next++;
    } else if (isMark(body) && equal(joined(bodies), expected[next]?.body)) {
      const readable = (part: Uint8Array) =>
        attempt(() => fromBinary(DeltaDiscoveryResponseSchema, part)) !== undefined;
      const form = formOf(expected[next].body);
      const cut = bodies.every(readable);
      if (form === "whole") assert.equal(cut, readable(expected[next].body), "a cut changes whether it can be read");
      // protobuf-es itself is not always strict with what is broken; a cut must not make it more lenient.
      if (form === "broken" && cut) assert.ok(readable(expected[next].body), "a cut makes readable what is not");
      next++;
      bodies = [];
    } else bodies.push(body.slice());
  }
  assert.equal(next, expected.length);
}

function split(pieces: readonly Uint8Array[], sliceBytes: number): Uint8Array[] {
  const splitter = new ResponseSplitter(LIMIT, sliceBytes);
  const out: Uint8Array[] = [];
  try {
    for (const piece of pieces) for (const slice of splitter.push(piece)) out.push(slice.slice());
  } catch (error) {
    if (!(error instanceof IstiodError)) throw error;
  }
  return out;
}

/** gRPC's messages up to the first that is too large or not whole. */
function messages(bytes: Uint8Array): { readonly flags: number; readonly body: Uint8Array }[] {
  const found: { flags: number; body: Uint8Array }[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + PREFIX_BYTES <= bytes.length;) {
    const length = view.getUint32(at + 1);
    const end = at + PREFIX_BYTES + length;
    if (length > LIMIT || end > bytes.length) break;
    found.push({ flags: bytes[at], body: bytes.subarray(at + PREFIX_BYTES, end) });
    at = end;
  }
  return found;
}

/** protobuf-es reads a field that it knows as its schema has it, whatever wire type came: with another one ("foreign") it loses its way. */
function formOf(body: Uint8Array): "whole" | "broken" | "foreign" {
  const reader = new WireReader();
  reader.from(body);
  try {
    while (reader.next(body.length)) {
      const known = reader.field <= 7 && reader.field !== 3 ? BYTES : reader.field === MARK_FIELD ? VARINT : undefined;
      if (known !== undefined && reader.wireType !== known) return "foreign";
      reader.skip(body.length);
    }
  } catch {
    return "broken";
  }
  return "whole";
}

function isMark(body: Uint8Array): boolean {
  return equal(body, Uint8Array.of(0xf8, 0xff, 0xff, 0xff, 0x0f, 0x01));
}

/** Names as protobuf-es reads them, where it can; nothing is thrown in any case. */
function fuzzNames(bytes: Uint8Array): void {
  const names = resourceNames(bytes);
  const resource = attempt(() => fromBinary(ResourceSchema, bytes));
  if (resource === undefined) return;
  // Both readers see the same fields only where the bytes are what protobuf would write.
  const plain = toBinary(ResourceSchema, resource);
  if (!equal(plain, bytes)) return;
  const expected = [resource.name, ...resource.aliases].filter((name, i) => i > 0 || name !== "");
  assert.deepEqual(names, expected);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

function equal(a: Uint8Array, b: Uint8Array | undefined): boolean {
  return b !== undefined && a.length === b.length && a.every((byte, i) => byte === b[i]);
}

function attempt<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch {
    return undefined;
  }
}

export const targets = [
  { name: "xds responses", corpusDir: "tests/corpus/xds/response", target: fuzzResponses, maxBytes: 4096 },
  { name: "xds resource names", corpusDir: "tests/corpus/xds/resource", target: fuzzNames, maxBytes: 1024 },
];
