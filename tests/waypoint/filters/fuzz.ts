/** Fuzz targets of the filters' parsers: untrusted replies of an authorization service, and bodies of gRPC and gRPC-Web, in any split. */
import { fromBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
  type CheckResponse as TheirResponse,
  CheckResponseSchema,
} from "../../../src/gen/envoy/service/auth/v3/external_auth_pb.ts";
import { Base64Reader } from "../../../src/waypoint/filters/base64_reader.ts";
import { type CheckResponse, decodeCheckResponse } from "../../../src/waypoint/filters/check_message.ts";
import { grpcVerdict } from "../../../src/waypoint/filters/ext_authz_verdict.ts";
import { GrpcFrameCounter } from "../../../src/waypoint/filters/grpc_frames.ts";
import { WebResponse } from "../../../src/waypoint/filters/grpc_web.ts";
import { ProtoError } from "../../../src/waypoint/filters/protobuf_wire.ts";
import { requestHead } from "../../../src/protocol/http1/mod.ts";
import type { FuzzTask, Random } from "../../support/fuzz.ts";

/** What is read is what the generated code reads, and what is allowed can be sent. */
function checkResponse(bytes: Uint8Array): void {
  const verdict = grpcVerdict(bytes);
  let ours: CheckResponse;
  try {
    ours = decodeCheckResponse(bytes);
  } catch (error) {
    assert.ok(error instanceof ProtoError);
    assert.equal(verdict.kind, "error");
    return;
  }
  if (verdict.kind === "allowed") {
    assert.ok(ours.status === 0 && ours.http?.kind !== "denied");
    requestHead("GET", "/", verdict.requestHeaders.flatMap(({ name, value }) => [name, value]));
  }
  let theirs: TheirResponse;
  try {
    theirs = fromBinary(CheckResponseSchema, bytes);
  } catch {
    // It reads fields too that are passed over here.
    return;
  }
  // It does not look at the types of fields, and reads on behind the end of a detail.
  if ((theirs.status?.details.length ?? 0) > 0) return;
  assert.equal(ours.status, theirs.status?.code ?? 0);
  const { httpResponse } = theirs;
  assert.equal(
    ours.http?.kind,
    { deniedResponse: "denied", okResponse: "ok", none: undefined }[httpResponse.case ?? "none"],
  );
  if (ours.http?.kind === "denied" && httpResponse.case === "deniedResponse") {
    assert.equal(ours.http.body, httpResponse.value.body);
    assert.equal(ours.http.status, httpResponse.value.status?.code ?? 0);
    assert.deepEqual(ours.http.headers.map(({ name }) => name), httpResponse.value.headers.map(nameOf));
  }
  if (ours.http?.kind === "ok" && httpResponse.case === "okResponse") {
    assert.deepEqual(ours.http.remove, httpResponse.value.headersToRemove);
    assert.deepEqual(ours.http.headers.map(({ name }) => name), httpResponse.value.headers.map(nameOf));
    assert.deepEqual(ours.http.removeQuery, httpResponse.value.queryParametersToRemove);
    assert.deepEqual(
      ours.http.setQuery,
      httpResponse.value.queryParametersToSet.map(({ key, value }) => [key, value]),
    );
  }
}

function nameOf({ header }: { readonly header?: { readonly key: string } }): string {
  return header?.key ?? "";
}

function pieces(bytes: Uint8Array, random: Random): readonly (readonly [number, number])[] {
  const found: [number, number][] = [];
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + random.below(7));
    found.push([at, end]);
    at = end;
  }
  return found;
}

/** Any split counts alike, and as a plain walk over the whole does. */
function frames(bytes: Uint8Array, random: Random): void {
  let expected = 0;
  for (let at = 0; at + 5 <= bytes.length; at += 5 + Buffer.from(bytes).readUInt32BE(at + 1)) expected++;
  for (const split of [pieces(bytes, random), [[0, bytes.length]], [...bytes.keys()].map((at) => [at, at + 1])]) {
    const counter = new GrpcFrameCounter();
    for (const [start, end] of split) counter.data(bytes, start, end);
    assert.equal(counter.messages, expected);
  }
}

/** Any split reads alike; what is read was base64, and is read back. */
function base64(bytes: Uint8Array, random: Random): void {
  const whole = new Base64Reader();
  const expected = whole.read(bytes, 0, bytes.length);
  const reader = new Base64Reader();
  const parts: Uint8Array[] = [];
  let failed = false;
  for (const [start, end] of pieces(bytes, random)) {
    const part = reader.read(bytes, start, end);
    failed ||= part === undefined;
    if (part !== undefined) parts.push(part);
  }
  assert.equal(failed, expected === undefined);
  assert.equal(reader.isWhole, whole.isWhole);
  if (expected === undefined) return;
  assert.deepEqual(Buffer.concat(parts), Buffer.from(expected));
  const text = Buffer.from(bytes).toString("latin1");
  if (whole.isWhole && !text.slice(0, -2).includes("=")) assert.equal(Buffer.from(expected).toString("base64"), text);
}

/** An answer as text, in any split, is the answer. */
function webAnswer(bytes: Uint8Array, random: Random): void {
  const response = new WebResponse(true);
  const reader = new Base64Reader();
  const parts: Uint8Array[] = [];
  const read = (text: Uint8Array): void => {
    parts.push(reader.read(text, 0, text.length) ?? assert.fail("no base64"));
  };
  for (const [start, end] of pieces(bytes, random)) read(response.data(bytes, start, end));
  read(response.end(["grpc-status", "0"]));
  assert.ok(reader.isWhole);
  const trailers = Buffer.from("\x80\0\0\0\x0fgrpc-status:0\r\n", "latin1");
  assert.deepEqual(Buffer.concat(parts), Buffer.concat([bytes, trailers]));
}

export const targets: readonly Pick<FuzzTask, "name" | "corpusDir" | "target">[] = [
  { name: "check response", corpusDir: "tests/corpus/waypoint/check_response", target: checkResponse },
  { name: "grpc frames", corpusDir: "tests/corpus/waypoint/grpc_frames", target: frames },
  { name: "grpc-web text", corpusDir: "tests/corpus/waypoint/grpc_web_text", target: base64 },
  { name: "grpc-web answers", corpusDir: "tests/corpus/waypoint/grpc_frames", target: webAnswer },
];
