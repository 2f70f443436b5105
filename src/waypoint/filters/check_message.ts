/**
 * envoy.service.auth.v3's CheckRequest and CheckResponse, as far as a waypoint says and understands them. A reply is untrusted: what is malformed is an
 * error, sizes and depths are bounded, and header names and values are judged where they are used (ext_authz_verdict.ts).
 */
import { Buffer } from "node:buffer";
import { ProtoError, ProtoReader, ProtoWriter } from "./protobuf_wire.ts";

export interface CheckPeer {
  readonly ip: string;
  readonly port: number;
  /** SPIFFE id; "" unknown. */
  readonly principal: string;
}

export interface CheckRequest {
  readonly source: CheckPeer;
  readonly destination: CheckPeer;
  readonly wallMs: number;
  /** Undefined for a connection. */
  readonly http: CheckHttp | undefined;
}

export interface CheckHttp {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly host: string;
  readonly scheme: string;
  readonly protocol: string;
  /** Name, value, …, each name once. A character is a byte. */
  readonly headers: readonly string[];
  /** Of the body; -1 unknown. */
  readonly size: number;
  readonly body: Uint8Array | undefined;
  readonly bodyAsBytes: boolean;
}

export function encodeCheckRequest({ source, destination, wallMs, http }: CheckRequest): Uint8Array {
  const writer = new ProtoWriter(1024);
  writer.message(1, (attributes) => {
    attributes.message(1, (peer) => writePeer(peer, source));
    attributes.message(2, (peer) => writePeer(peer, destination));
    attributes.message(4, (request) => {
      request.message(1, (time) => {
        const seconds = Math.floor(wallMs / 1000);
        time.varint(1, seconds);
        time.varint(2, Math.round((wallMs - seconds * 1000) * 1e6));
      });
      if (http !== undefined) request.message(2, (message) => writeHttp(message, http));
    });
  });
  return writer.finish();
}

function writePeer(writer: ProtoWriter, { ip, port, principal }: CheckPeer): void {
  // Address.socket_address { address 2, port_value 3 }
  writer.message(1, (address) =>
    address.message(1, (socket) => {
      socket.text(2, ip);
      socket.varint(3, port);
    }));
  writer.text(4, principal);
}

function writeHttp(writer: ProtoWriter, http: CheckHttp): void {
  writer.text(1, http.id);
  writer.text(2, http.method);
  const { headers } = http;
  for (let i = 0; i < headers.length; i += 2) {
    writer.message(3, (entry) => {
      entry.text(1, headers[i]);
      entry.text(2, unicode(headers[i + 1]));
    });
  }
  writer.text(4, unicode(http.path));
  writer.text(5, unicode(http.host));
  writer.text(6, http.scheme);
  writer.int64(9, http.size);
  writer.text(10, http.protocol);
  if (http.body === undefined) return;
  if (http.bodyAsBytes) writer.bytes(12, http.body);
  else writer.text(11, new TextDecoder().decode(http.body));
}

/** Bytes of a header to text: a proto3 string is UTF-8, and what is none is replaced. */
function unicode(latin1: string): string {
  return ASCII.test(latin1) ? latin1 : Buffer.from(latin1, "latin1").toString("utf8");
}

// deno-lint-ignore no-control-regex
const ASCII = /^[\x00-\x7f]*$/;

export type HeaderAction = "append" | "add if absent" | "overwrite" | "overwrite if exists";

export interface HeaderEdit {
  readonly name: string;
  /** A character is a byte. */
  readonly value: string;
  /** Undefined: the service did not say. */
  readonly action: HeaderAction | undefined;
}

export interface CheckResponse {
  /** google.rpc.Code; 0 allows. */
  readonly status: number;
  readonly http: DeniedResponse | OkResponse | undefined;
  readonly metadata: Readonly<Record<string, unknown>> | undefined;
}

export interface DeniedResponse {
  readonly kind: "denied";
  /** 0: not said. */
  readonly status: number;
  readonly headers: readonly HeaderEdit[];
  readonly body: string;
}

export interface OkResponse {
  readonly kind: "ok";
  readonly headers: readonly HeaderEdit[];
  readonly remove: readonly string[];
  readonly responseHeaders: readonly HeaderEdit[];
  readonly setQuery: readonly (readonly [name: string, value: string])[];
  readonly removeQuery: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>> | undefined;
}

/** Mutable while it is read: protobuf lets a message come in pieces, which are merged. */
type Draft<T> = { -readonly [K in keyof T]: T[K] extends readonly (infer U)[] ? U[] : T[K] };

/** @throws ProtoError */
export function decodeCheckResponse(bytes: Uint8Array): CheckResponse {
  const response: Draft<CheckResponse> = { status: 0, http: undefined, metadata: undefined };
  const reader = new ProtoReader(bytes);
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        readStatus(reader.message(), response);
        break;
      case 2: {
        const known = response.http?.kind === "denied" ? response.http : NEW_DENIED();
        response.http = readDenied(reader.message(), known as Draft<DeniedResponse>);
        break;
      }
      case 3: {
        const known = response.http?.kind === "ok" ? response.http : NEW_OK();
        response.http = readOk(reader.message(), known as Draft<OkResponse>);
        break;
      }
      case 4:
        response.metadata = readStruct(reader.message(), response.metadata, 0);
        break;
    }
  }
  return response;
}

const NEW_DENIED = (): Draft<DeniedResponse> => ({ kind: "denied", status: 0, headers: [], body: "" });
const NEW_OK = (): Draft<OkResponse> => ({
  kind: "ok",
  headers: [],
  remove: [],
  responseHeaders: [],
  setQuery: [],
  removeQuery: [],
  metadata: undefined,
});

/** google.rpc.Status; what is said to people is read as it must be, and not kept. */
function readStatus(reader: ProtoReader, to: { status: number }): void {
  while (reader.next()) {
    if (reader.field === 1) to.status = reader.int32();
    else if (reader.field === 2) reader.text();
    else if (reader.field === 3) reader.message();
  }
}

function readHttpStatus(reader: ProtoReader, to: { status: number }): void {
  while (reader.next()) if (reader.field === 1) to.status = reader.int32();
}

function readDenied(reader: ProtoReader, to: Draft<DeniedResponse>): DeniedResponse {
  while (reader.next()) {
    if (reader.field === 1) readHttpStatus(reader.message(), to);
    else if (reader.field === 2) to.headers.push(readHeader(reader.message()));
    else if (reader.field === 3) to.body = reader.text();
  }
  return to;
}

function readOk(reader: ProtoReader, to: Draft<OkResponse>): OkResponse {
  while (reader.next()) {
    switch (reader.field) {
      case 2:
        to.headers.push(readHeader(reader.message()));
        break;
      case 3:
        to.metadata = readStruct(reader.message(), to.metadata, 0);
        break;
      case 5:
        to.remove.push(reader.text());
        break;
      case 6:
        to.responseHeaders.push(readHeader(reader.message()));
        break;
      case 7:
        to.setQuery.push(readPair(reader.message()));
        break;
      case 8:
        to.removeQuery.push(reader.text());
        break;
    }
  }
  return to;
}

function readPair(reader: ProtoReader): readonly [string, string] {
  let key = "", value = "";
  while (reader.next()) {
    if (reader.field === 1) key = reader.text();
    else if (reader.field === 2) value = reader.text();
  }
  return [key, value];
}

const ACTIONS: readonly (HeaderAction | undefined)[] = [
  // The first is what a service says that says nothing.
  undefined,
  "add if absent",
  "overwrite",
  "overwrite if exists",
];

/** HeaderValueOption. */
function readHeader(reader: ProtoReader): HeaderEdit {
  const header = { name: "", text: "", raw: "" };
  let append: boolean | undefined;
  let action: HeaderAction | undefined;
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        readHeaderValue(reader.message(), header);
        break;
      case 2: {
        const wrapper = reader.message();
        append ??= false;
        while (wrapper.next()) if (wrapper.field === 1) append = wrapper.bool();
        break;
      }
      case 3: {
        const code = reader.int32();
        if (code < 0 || code >= ACTIONS.length) throw new ProtoError(`the header action ${code} is not known`);
        action = ACTIONS[code];
        break;
      }
      case 4:
        // keep_empty_value: an empty value is kept in any case.
        reader.bool();
        break;
    }
  }
  // The older field wins, as in Envoy.
  if (append !== undefined) action = append ? "append" : "overwrite";
  return { name: header.name, value: header.raw === "" ? header.text : header.raw, action };
}

function readHeaderValue(reader: ProtoReader, to: { name: string; text: string; raw: string }): void {
  while (reader.next()) {
    if (reader.field === 1) to.name = reader.text();
    else if (reader.field === 2) to.text = Buffer.from(reader.text(), "utf8").toString("latin1");
    else if (reader.field === 3) to.raw = Buffer.from(reader.bytes()).toString("latin1");
  }
}

// ---- google.protobuf.Struct

const MAX_DEPTH = 32;

/** Without a prototype: a key may be any text, `__proto__` too. */
function readStruct(
  reader: ProtoReader,
  known: Readonly<Record<string, unknown>> | undefined,
  depth: number,
): Record<string, unknown> {
  if (depth > MAX_DEPTH) throw new ProtoError("metadata is nested too deeply");
  const struct: Record<string, unknown> = Object.assign(Object.create(null), known);
  while (reader.next()) {
    if (reader.field !== 1) continue;
    const entry = reader.message();
    let key = "";
    let value: unknown = null;
    while (entry.next()) {
      if (entry.field === 1) key = entry.text();
      else if (entry.field === 2) value = readValue(entry.message(), depth + 1);
    }
    struct[key] = value;
  }
  return struct;
}

function readValue(reader: ProtoReader, depth: number): unknown {
  if (depth > MAX_DEPTH) throw new ProtoError("metadata is nested too deeply");
  let value: unknown;
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        reader.int32();
        value = null;
        break;
      case 2:
        value = reader.double();
        if (!Number.isFinite(value)) throw new ProtoError("metadata holds a number that is none");
        break;
      case 3:
        value = reader.text();
        break;
      case 4:
        value = reader.bool();
        break;
      case 5:
        value = readStruct(reader.message(), undefined, depth + 1);
        break;
      case 6: {
        const list: unknown[] = [];
        const values = reader.message();
        while (values.next()) if (values.field === 1) list.push(readValue(values.message(), depth + 1));
        value = list;
        break;
      }
    }
  }
  if (value === undefined) throw new ProtoError("metadata holds a value of no kind");
  return value;
}
