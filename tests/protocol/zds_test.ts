import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  AddWorkloadSchema,
  DelWorkloadSchema,
  KeepWorkloadSchema,
  SnapshotSentSchema,
  WorkloadInfoSchema,
  WorkloadRequestSchema,
  WorkloadResponseSchema,
  ZdsHelloSchema,
} from "../../src/gen/istio/workload/zds_pb.ts";
import {
  decodeHello,
  decodeRequest,
  decodeResponse,
  encodeHello,
  encodeRequest,
  encodeResponse,
  ZDS_MESSAGE_BYTES,
  ZdsFormatError,
  type ZdsRequest,
} from "../../src/protocol/zds.ts";

const INFO = { name: "web-1", namespace: "town", serviceAccount: "wéb" };

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

function bytes(text: string): Uint8Array {
  return new Uint8Array(text.split(" ").filter((byte) => byte !== "").map((byte) => parseInt(byte, 16)));
}

describe("zds: the bytes on the wire", () => {
  test("zds: what the reference gives byte by byte", () => {
    assert.equal(hex(encodeHello()), "08 01");
    assert.equal(hex(encodeRequest({ kind: "snapshot_sent" })), "1a 00");
    assert.equal(hex(encodeResponse()), "0a 00");
    assert.equal(decodeHello(bytes("08 01")), 1);
    assert.deepEqual(decodeRequest(bytes("1a 00")), { kind: "snapshot_sent" });
    assert.equal(decodeResponse(bytes("0a 00")), undefined);
    // The uid of a delete is field 2, unlike all others.
    assert.deepEqual(decodeRequest(bytes("12 03 12 01 75")), { kind: "del", uid: "u" });
    assert.deepEqual(decodeRequest(bytes("12 03 0a 01 75")), { kind: "del", uid: "" });
    assert.deepEqual(decodeRequest(bytes("2a 03 0a 01 75")), { kind: "keep", uid: "u" });
  });

  test("zds: an add with and without workload_info, an empty one is there", () => {
    assert.deepEqual(decodeRequest(bytes("0a 03 0a 01 75")), { kind: "add", uid: "u", workload: undefined });
    assert.deepEqual(decodeRequest(bytes("0a 05 0a 01 75 12 00")), {
      kind: "add",
      uid: "u",
      workload: { name: "", namespace: "", serviceAccount: "" },
    });
  });

  test("zds: what is refused", () => {
    const refused: readonly (readonly [string, RegExp])[] = [
      ["", /no payload/],
      ["20 01", /no payload/],
      ["08 01", /no payload/],
      ["0a", /cut off/],
      ["0a 05 0a", /longer than its message/],
      ["0a ff ff ff ff ff ff ff ff ff ff 01", /more than ten bytes/],
      ["0a 83 80 80 80 10 0a 01 75", /longer than its message/],
      ["02 00", /number 0/],
      ["0f", /unknown wire type 7/],
      ["0a 03 0a 01 ff", /not UTF-8/],
      ["33", /no end/],
      ["34", /did not begin/],
      ["33 3c", /did not begin/],
    ];
    for (const [text, error] of refused) {
      assert.throws(() => decodeRequest(bytes(text)), (thrown) => {
        assert.ok(thrown instanceof ZdsFormatError, text);
        assert.match(thrown.message, error, text);
        return true;
      });
    }
    assert.throws(() => decodeResponse(bytes("10 01")), /no payload/);
  });

  test("zds: unknown fields of every wire type are skipped", () => {
    const unknown = "78 01 79 00 00 00 00 00 00 00 00 7a 01 00 7b 08 01 7c 7d 00 00 00 00";
    assert.deepEqual(decodeRequest(bytes(`${unknown} 1a 00 ${unknown}`)), { kind: "snapshot_sent" });
  });

  test("zds: a long error is cut so that the agent's buffer holds it, between characters", () => {
    const encoded = encodeResponse("é".repeat(2_000));
    assert.ok(encoded.length <= ZDS_MESSAGE_BYTES && encoded.length > ZDS_MESSAGE_BYTES - 16);
    assert.match(decodeResponse(encoded) ?? "", /^é+$/);
  });
});

const text = fc.string({ unit: "grapheme", maxLength: 40 });
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(model, { noNullPrototype: true });
const requests: fc.Arbitrary<ZdsRequest> = fc.oneof(
  record({
    kind: fc.constant("add" as const),
    uid: text,
    workload: fc.option(record({ name: text, namespace: text, serviceAccount: text }), { nil: undefined }),
  }),
  record({ kind: fc.constant("keep" as const), uid: text }),
  record({ kind: fc.constant("del" as const), uid: text }),
  record({ kind: fc.constant("snapshot_sent" as const) }),
);

/** The same request made by generated code. */
function generated(request: ZdsRequest): Uint8Array {
  const message = create(WorkloadRequestSchema);
  switch (request.kind) {
    case "add": {
      const workloadInfo = request.workload === undefined ? undefined : create(WorkloadInfoSchema, request.workload);
      const value = create(AddWorkloadSchema, { uid: request.uid });
      if (workloadInfo !== undefined) value.workloadInfo = workloadInfo;
      message.payload = { case: "add", value };
      break;
    }
    case "keep":
      message.payload = { case: "keep", value: create(KeepWorkloadSchema, { uid: request.uid }) };
      break;
    case "del":
      message.payload = { case: "del", value: create(DelWorkloadSchema, { uid: request.uid }) };
      break;
    case "snapshot_sent":
      message.payload = { case: "snapshotSent", value: create(SnapshotSentSchema) };
  }
  return toBinary(WorkloadRequestSchema, message);
}

describe("zds: beside generated code", () => {
  test("zds: writes the same bytes and reads what it writes", () => {
    fc.assert(fc.property(requests, (request) => {
      const encoded = encodeRequest(request);
      assert.equal(hex(encoded), hex(generated(request)));
      assert.deepEqual(decodeRequest(encoded), request);
    }));
    assert.equal(hex(encodeHello()), hex(toBinary(ZdsHelloSchema, create(ZdsHelloSchema, { version: 1 }))));
    for (const error of ["", "it failed", "ünglücklich"]) {
      const message = create(WorkloadResponseSchema, { payload: { case: "ack", value: { error } } });
      assert.equal(hex(encodeResponse(error)), hex(toBinary(WorkloadResponseSchema, message)));
      assert.equal(decodeResponse(encodeResponse(error)) ?? "", error);
    }
  });

  test("zds: a oneof that comes several times is merged as protobuf does", () => {
    const add: ZdsRequest = { kind: "add", uid: "one", workload: INFO };
    const parts: readonly ZdsRequest[] = [
      add,
      { kind: "add", uid: "", workload: { name: "two", namespace: "", serviceAccount: "" } },
      { kind: "del", uid: "three" },
      { kind: "keep", uid: "" },
    ];
    for (const first of parts) {
      for (const second of parts) {
        const both = new Uint8Array([...encodeRequest(first), ...encodeRequest(second)]);
        assert.equal(hex(encodeRequest(decodeRequest(both))), hex(generatedAgain(both)));
      }
    }
  });
});

function generatedAgain(message: Uint8Array): Uint8Array {
  return toBinary(WorkloadRequestSchema, fromBinary(WorkloadRequestSchema, message));
}
