/** Responses cut into slices: the same messages come out for every split of the stream, and nothing malformed is mended. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { ResponseSplitter } from "../../../src/control/xds/response_splitter.ts";
import { DeltaDiscoveryResponseSchema } from "../../../src/gen/xds/delta_discovery_pb.ts";

const LIMIT = 1024 * 1024;

function framed(body: Uint8Array, flags = 0): Uint8Array {
  const message = new Uint8Array(5 + body.length);
  new DataView(message.buffer).setUint32(1, body.length);
  message[0] = flags;
  message.set(body, 5);
  return message;
}

function encoded(resources: Uint8Array[], nonce = "n", removed: string[] = []): Uint8Array {
  const init = { typeUrl: "t", nonce, resources, removedResources: removed, systemVersionInfo: "v" };
  return toBinary(DeltaDiscoveryResponseSchema, create(DeltaDiscoveryResponseSchema, init));
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

function split(pieces: readonly Uint8Array[], sliceBytes: number): Uint8Array[] {
  const splitter = new ResponseSplitter(LIMIT, sliceBytes);
  const out = pieces.flatMap((piece) => [...splitter.push(piece)].map((slice) => slice.slice()));
  assert.equal(splitter.partial, false);
  return out;
}

/** Slices up to each mark, put together: merging is what concatenation means in protobuf. */
function joined(slices: readonly Uint8Array[]) {
  const messages = [];
  let bodies: Uint8Array[] = [];
  for (const slice of slices) {
    assert.equal(new DataView(slice.buffer, slice.byteOffset).getUint32(1), slice.length - 5);
    const body = slice.subarray(5);
    if (!fromBinary(DeltaDiscoveryResponseSchema, body).endOfResponse) {
      bodies.push(body);
      continue;
    }
    assert.equal(slice.length, 11);
    messages.push(concat(bodies));
    bodies = [];
  }
  assert.deepEqual(bodies, []);
  return messages;
}

test("response_splitter: gives the same messages for every split of the stream and every size of slice", () => {
  const resource = fc.uint8Array({ maxLength: 300 });
  const message = fc.record({
    resources: fc.array(resource, { maxLength: 20 }),
    removed: fc.array(fc.string({ maxLength: 20 }), { maxLength: 5 }),
  });
  fc.assert(fc.property(
    fc.array(message, { minLength: 1, maxLength: 4 }),
    fc.array(fc.nat(2000), { maxLength: 40 }),
    fc.integer({ min: 1, max: 500 }),
    (messages, cuts, sliceBytes) => {
      const bodies = messages.map(({ resources, removed }, i) => encoded(resources, `n${i}`, removed));
      const stream = concat(bodies.map((body) => framed(body)));
      const points = [...new Set(cuts.map((cut) => cut % (stream.length + 1)))].sort((a, b) => a - b);
      const pieces = [0, ...points].map((from, i) => stream.subarray(from, points[i] ?? stream.length));
      assert.deepEqual(joined(split(pieces, sliceBytes)), bodies);
    },
  ));
});

test("response_splitter: gives the same messages when every byte comes alone", () => {
  const bodies = [encoded([new Uint8Array(200).fill(1), new Uint8Array(3)]), new Uint8Array(0), encoded([])];
  const stream = concat(bodies.map((body) => framed(body)));
  assert.deepEqual(joined(split([...stream].map((byte) => Uint8Array.of(byte)), 64)), bodies);
});

test("response_splitter: a slice is not much larger than asked for, but for a resource that is", () => {
  const resources = Array.from({ length: 1000 }, () => new Uint8Array(100).fill(7));
  resources[500] = new Uint8Array(50_000).fill(9);
  const slices = split([framed(encoded(resources))], 4096);
  const large = slices.filter((slice) => slice.length > 4096 + 200);
  assert.equal(large.length, 1);
  assert.ok(slices.length > 20);
});

test("response_splitter: refuses a message above the limit before its body comes", () => {
  const prefix = framed(new Uint8Array(0));
  new DataView(prefix.buffer).setUint32(1, LIMIT + 1);
  assert.throws(() => [...new ResponseSplitter(LIMIT).push(prefix)], /larger than the limit/);
  new DataView(prefix.buffer).setUint32(1, 0xffffffff);
  assert.throws(() => [...new ResponseSplitter(LIMIT).push(prefix)], /larger than the limit/);
});

test("response_splitter: a truncated field stays truncated; the mark does not complete it", () => {
  // Field 5 claims 40 bytes and has 2: the six bytes of a mark behind it would not do, those of a field of 8 would.
  for (const claimed of [3, 8, 40]) {
    const slices = split([framed(Uint8Array.of(0x2a, claimed, 0x61, 0x62))], 1);
    assert.throws(() => slices.forEach((slice) => fromBinary(DeltaDiscoveryResponseSchema, slice.subarray(5))));
  }
});

test("response_splitter: passes on what is compressed as it is", () => {
  const message = framed(new Uint8Array(500).fill(3), 1);
  assert.deepEqual(split([message.subarray(0, 100), message.subarray(100)], 16), [message]);
});

test("response_splitter: knows when a stream ended in the middle of a message", () => {
  const message = framed(encoded([new Uint8Array(100)]));
  for (let end = 1; end < message.length; end++) {
    const splitter = new ResponseSplitter(LIMIT);
    assert.deepEqual([...splitter.push(message.subarray(0, end))], []);
    assert.equal(splitter.partial, true, `${end}`);
  }
});
