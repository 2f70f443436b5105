import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { CheckRequestSchema, CheckResponseSchema } from "../../../src/gen/envoy/service/auth/v3/external_auth_pb.ts";
import { decodeCheckResponse, encodeCheckRequest } from "../../../src/waypoint/filters/check_message.ts";
import { ProtoError } from "../../../src/waypoint/filters/protobuf_wire.ts";

const REQUEST = {
  source: { ip: "10.0.1.5", port: 40000, principal: "spiffe://cluster.local/ns/a/sa/client" },
  destination: { ip: "fd00::7", port: 80, principal: "spiffe://cluster.local/ns/demo/sa/waypoint" },
  wallMs: 1_700_000_000_123,
  http: {
    id: "7",
    method: "POST",
    path: "/a?b=c",
    host: "b.demo",
    scheme: "http",
    protocol: "HTTP/2",
    headers: [":method", "POST", "x-latin", "caf\xe9", "x-utf8", "\xc3\xa9", "x-empty", ""],
    size: 300,
    body: Buffer.from("x".repeat(300)),
    bodyAsBytes: false,
  },
} as const;

test("check_message: a request says what the generated code reads", () => {
  const message = fromBinary(CheckRequestSchema, encodeCheckRequest(REQUEST));
  const { source, destination, request } = message.attributes ?? {};
  assert.equal(source?.principal, REQUEST.source.principal);
  assert.deepEqual(
    [source?.address?.address, destination?.address?.address].map((address) =>
      address?.case === "socketAddress" && [
        address.value.address,
        address.value.portSpecifier.value,
      ]
    ),
    [["10.0.1.5", 40000], ["fd00::7", 80]],
  );
  assert.deepEqual([request?.time?.seconds, request?.time?.nanos], [1_700_000_000n, 123_000_000]);
  const http = request?.http;
  assert.deepEqual(http?.headers, { ":method": "POST", "x-latin": "caf\ufffd", "x-utf8": "é", "x-empty": "" });
  assert.deepEqual(
    [http?.id, http?.method, http?.path, http?.host, http?.scheme, http?.protocol, http?.size, http?.body],
    ["7", "POST", "/a?b=c", "b.demo", "http", "HTTP/2", 300n, "x".repeat(300)],
  );
  assert.equal(http?.rawBody.length, 0);
});

test("check_message: a raw body, an unknown size, a connection without HTTP", () => {
  const raw = fromBinary(
    CheckRequestSchema,
    encodeCheckRequest({
      ...REQUEST,
      http: { ...REQUEST.http, size: -1, body: new Uint8Array([0, 255]), bodyAsBytes: true },
    }),
  ).attributes?.request?.http;
  assert.deepEqual([raw?.size, raw?.body, [...raw?.rawBody ?? []]], [-1n, "", [0, 255]]);
  const tcp = fromBinary(CheckRequestSchema, encodeCheckRequest({ ...REQUEST, http: undefined }));
  assert.equal(tcp.attributes?.request?.http, undefined);
});

const header = (key: string, value: string, more: object = {}) => ({ header: { key, value }, ...more });

test("check_message: an answer that allows, whole", () => {
  const bytes = toBinary(
    CheckResponseSchema,
    create(CheckResponseSchema, {
      status: { code: 0, message: "fine", details: [{ typeUrl: "x", value: new Uint8Array(3) }] },
      httpResponse: {
        case: "okResponse",
        value: {
          headers: [
            header("X-User", "é"),
            header("x-more", "1", { append: true }),
            header("x-set", "1", { append: false, appendAction: 1 }),
            header("x-absent", "1", { appendAction: 1 }),
            header("x-exists", "1", { appendAction: 3 }),
            { header: { key: "x-raw", rawValue: new Uint8Array([0xe9]) } },
          ],
          headersToRemove: ["authorization"],
          responseHeadersToAdd: [header("x-seen", "yes", { appendAction: 2 })],
          queryParametersToSet: [{ key: "a", value: "b" }],
          queryParametersToRemove: ["c"],
        },
      },
      dynamicMetadata: { a: [1.5, "x", null, true, { "__proto__x": {} }], n: { m: "deep" } },
    }),
  );
  const { status, http, metadata } = decodeCheckResponse(bytes);
  assert.equal(status, 0);
  assert.ok(http?.kind === "ok");
  assert.deepEqual(http.headers, [
    { name: "X-User", value: "\xc3\xa9", action: undefined },
    { name: "x-more", value: "1", action: "append" },
    { name: "x-set", value: "1", action: "overwrite" },
    { name: "x-absent", value: "1", action: "add if absent" },
    { name: "x-exists", value: "1", action: "overwrite if exists" },
    { name: "x-raw", value: "\xe9", action: undefined },
  ]);
  assert.deepEqual([http.remove, http.setQuery, http.removeQuery], [["authorization"], [["a", "b"]], ["c"]]);
  assert.deepEqual(http.responseHeaders, [{ name: "x-seen", value: "yes", action: "overwrite" }]);
  assert.equal(JSON.stringify(metadata), '{"a":[1.5,"x",null,true,{"__proto__x":{}}],"n":{"m":"deep"}}');
});

test("check_message: an answer that refuses", () => {
  const bytes = toBinary(
    CheckResponseSchema,
    create(CheckResponseSchema, {
      status: { code: 7 },
      httpResponse: {
        case: "deniedResponse",
        value: { status: { code: 401 }, headers: [header("a", "b")], body: "né" },
      },
    }),
  );
  assert.deepEqual(decodeCheckResponse(bytes), {
    status: 7,
    http: { kind: "denied", status: 401, headers: [{ name: "a", value: "b", action: undefined }], body: "né" },
    metadata: undefined,
  });
});

/** Field and wire type 2. */
const field = (n: number, ...bytes: number[]): number[] => [n * 8 + 2, bytes.length, ...bytes];

test("check_message: what is no answer is refused, and what is new is passed over", () => {
  const nested = (depth: number): number[] => {
    let value = field(3, 120);
    for (let i = 0; i < depth; i++) value = long(5, long(1, [...field(1, 107), ...long(2, value)]));
    return long(4, long(1, [...field(1, 107), ...long(2, value)]));
  };
  const bad: readonly [string, number[]][] = [
    ["cut off in a length", [0x0a]],
    ["cut off in a message", [0x0a, 5, 8]],
    ["a length above 32 bits", [0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]],
    ["an endless number", field(1, 8, ...Array<number>(11).fill(0xff))],
    ["field 0", [0x02, 0]],
    ["a group", [0x0b, 0x0c]],
    ["a status that is a number", [0x08, 7]],
    ["a status whose code is a text", field(1, 0x0a, 1, 65)],
    ["a body that is no UTF-8", field(2, ...field(3, 0xff))],
    ["an action that is not known", field(3, ...field(2, 0x18, 9))],
    ["a value of no kind", field(4, ...field(1, ...field(1, 107), ...field(2)))],
    ["a number that is none", field(4, ...field(1, ...field(2, 0x11, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f)))],
    ["metadata without end", nested(40)],
  ];
  for (const [name, bytes] of bad) {
    assert.throws(() => decodeCheckResponse(new Uint8Array(bytes)), ProtoError, name);
  }
  const newer = [...field(15, 1, 2), 0x98, 1, 5, 0x91, 1, ...Array<number>(8).fill(0), 0x9d, 1, 0, 0, 0, 0];
  assert.equal(decodeCheckResponse(new Uint8Array([...newer, ...field(1, 8, 16)])).status, 16);
  assert.equal(decodeCheckResponse(new Uint8Array(nested(5))).status, 0);
  // Minus one, as an int32 is written.
  assert.equal(decodeCheckResponse(new Uint8Array(field(1, 8, ...Array<number>(9).fill(0xff), 1))).status, -1);
});

function long(n: number, bytes: number[]): number[] {
  const size = bytes.length < 128 ? [bytes.length] : [bytes.length & 0x7f | 0x80, bytes.length >> 7];
  return [n * 8 + 2, ...size, ...bytes];
}

test("check_message: a message that comes in pieces is merged, and the last answer counts", () => {
  const pieces = [...field(2, ...field(3, 97)), ...field(2, ...field(1, 8, 0x91, 3)), ...field(1, 8, 7)];
  const merged = decodeCheckResponse(new Uint8Array(pieces));
  assert.deepEqual(merged.http, { kind: "denied", status: 401, headers: [], body: "a" });
  assert.equal(decodeCheckResponse(new Uint8Array([...pieces, ...field(3)])).http?.kind, "ok");
});

test("check_message: a key of metadata may be any text", () => {
  const key = [...Buffer.from("__proto__")];
  const bytes = field(4, ...field(1, ...field(1, ...key), ...field(2, ...field(3, 120))));
  const { metadata } = decodeCheckResponse(new Uint8Array(bytes));
  assert.ok(Object.hasOwn(metadata ?? {}, "__proto__"));
  assert.equal(({} as Record<string, unknown>).x, undefined);
});
