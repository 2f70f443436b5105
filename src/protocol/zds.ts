/**
 * The messages between the node agent and ztunnel (istio.workload.zds), one a datagram, without a length in front. Sans-io.
 *
 * Written by hand because the messages are few and the data-plane binary stays small; a test compares it with generated code.
 * Reading follows protobuf: unknown fields are skipped, a repeated field's last value counts, the last payload of a oneof wins.
 */

/** What the agent asks. */
export type ZdsRequest =
  | { readonly kind: "add"; readonly uid: string; readonly workload: ZdsWorkload | undefined }
  | { readonly kind: "keep"; readonly uid: string }
  | { readonly kind: "del"; readonly uid: string }
  | { readonly kind: "snapshot_sent" };

export interface ZdsWorkload {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** Both ends read into this much; a longer message is an error. */
export const ZDS_MESSAGE_BYTES = 1024;

/** Not a message of this protocol. */
export class ZdsFormatError extends Error {
  override readonly name = "ZdsFormatError";
}

const VERSION_1 = 1;
const PAYLOAD = { add: 1, del: 2, snapshot_sent: 3, keep: 5 } as const;
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const START_GROUP = 3;
const END_GROUP = 4;
const FIXED32 = 5;
/** Nested groups deeper than this are nobody's message. */
const MAX_GROUPS = 32;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** What ztunnel says first, bare: version 1. */
export function encodeHello(): Uint8Array {
  return new Uint8Array([1 << 3 | VARINT, VERSION_1]);
}

/** The version of a hello; 0 when it names none. @throws ZdsFormatError */
export function decodeHello(bytes: Uint8Array): number {
  let version = 0;
  readFields(bytes, {
    varint(field, value) {
      if (field === 1) version = value | 0;
    },
  });
  return version;
}

/** @throws ZdsFormatError when it is no request, or one without a payload that this version knows */
export function decodeRequest(bytes: Uint8Array): ZdsRequest {
  let request: ZdsRequest | undefined;
  readFields(bytes, {
    bytes(field, value) {
      switch (field) {
        case PAYLOAD.add:
          request = decodeAdd(value, request);
          return;
        case PAYLOAD.del:
          request = { kind: "del", uid: decodeUid(value, 2, request?.kind === "del" ? request.uid : "") };
          return;
        case PAYLOAD.keep:
          request = { kind: "keep", uid: decodeUid(value, 1, request?.kind === "keep" ? request.uid : "") };
          return;
        case PAYLOAD.snapshot_sent:
          readFields(value, {});
          request = { kind: "snapshot_sent" };
          return;
      }
    },
  });
  if (request === undefined) throw new ZdsFormatError("the request has no payload");
  return request;
}

export function encodeRequest(request: ZdsRequest): Uint8Array {
  switch (request.kind) {
    case "add": {
      const { uid, workload } = request;
      const parts = [...text(1, uid)];
      if (workload !== undefined) {
        const info = [...text(1, workload.name), ...text(2, workload.namespace), ...text(3, workload.serviceAccount)];
        parts.push(...lengthed(2, info));
      }
      return new Uint8Array(lengthed(PAYLOAD.add, parts));
    }
    case "del":
      return new Uint8Array(lengthed(PAYLOAD.del, text(2, request.uid)));
    case "keep":
      return new Uint8Array(lengthed(PAYLOAD.keep, text(1, request.uid)));
    case "snapshot_sent":
      return new Uint8Array(lengthed(PAYLOAD.snapshot_sent, []));
  }
}

/** ztunnel's one answer to each request; without `error` it worked. An error is cut so that the whole fits the agent's buffer. */
export function encodeResponse(error?: string): Uint8Array {
  if (error === undefined || error === "") return new Uint8Array(lengthed(1, []));
  return new Uint8Array(lengthed(1, lengthed(1, [...cut(encoder.encode(error), MAX_ERROR_BYTES)])));
}

/** The error of a response; undefined: it worked. @throws ZdsFormatError */
export function decodeResponse(bytes: Uint8Array): string | undefined {
  let error: string | undefined;
  readFields(bytes, {
    bytes(field, ack) {
      if (field !== 1) return;
      error ??= "";
      readFields(ack, {
        bytes(inner, value) {
          if (inner === 1) error = decodeText(value);
        },
      });
    },
  });
  if (error === undefined) throw new ZdsFormatError("the response has no payload");
  return error === "" ? undefined : error;
}

/** Two nested headers of at most three bytes each stay below the agent's buffer. */
const MAX_ERROR_BYTES = ZDS_MESSAGE_BYTES - 8;

/** The first `limit` bytes, without half a character at the end. */
function cut(bytes: Uint8Array, limit: number): Uint8Array {
  if (bytes.length <= limit) return bytes;
  let end = limit;
  while (end > 0 && (bytes[end] & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}

/** A message field that comes again is merged into the one before. */
function decodeAdd(bytes: Uint8Array, before: ZdsRequest | undefined): ZdsRequest {
  let { uid, workload }: { uid: string; workload: ZdsWorkload | undefined } = before?.kind === "add"
    ? before
    : { uid: "", workload: undefined };
  readFields(bytes, {
    bytes(field, value) {
      if (field === 1) uid = decodeText(value);
      else if (field === 2) workload = decodeWorkload(value, workload);
    },
  });
  return { kind: "add", uid, workload };
}

function decodeWorkload(bytes: Uint8Array, before: ZdsWorkload | undefined): ZdsWorkload {
  let { name, namespace, serviceAccount } = before ?? { name: "", namespace: "", serviceAccount: "" };
  readFields(bytes, {
    bytes(field, value) {
      if (field === 1) name = decodeText(value);
      else if (field === 2) namespace = decodeText(value);
      else if (field === 3) serviceAccount = decodeText(value);
    },
  });
  return { name, namespace, serviceAccount };
}

function decodeUid(bytes: Uint8Array, uidField: number, before: string): string {
  let uid = before;
  readFields(bytes, {
    bytes(field, value) {
      if (field === uidField) uid = decodeText(value);
    },
  });
  return uid;
}

function decodeText(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new ZdsFormatError("a text is not UTF-8");
  }
}

interface FieldSink {
  varint?(field: number, value: number): void;
  bytes?(field: number, value: Uint8Array): void;
}

/** Walks the fields of a protobuf message. A known field with another wire type is skipped, as an unknown one is. */
function readFields(bytes: Uint8Array, sink: FieldSink): void {
  let at = 0;
  const groups: number[] = [];
  /** A varint: at most 2^32 - 1, or more than that and not exact. */
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (at >= bytes.length) throw new ZdsFormatError("a number is cut off");
      const byte = bytes[at++];
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new ZdsFormatError("a number has more than ten bytes");
  };
  const skip = (count: number) => {
    if (count > bytes.length - at) throw new ZdsFormatError("a field is longer than its message");
    at += count;
  };
  while (at < bytes.length) {
    const tag = varint();
    if (tag > 0xffff_ffff) throw new ZdsFormatError("a field has a number above 2^29");
    const field = tag >>> 3;
    const outside = groups.length === 0;
    if (field === 0) throw new ZdsFormatError("a field has the number 0");
    switch (tag & 7) {
      case VARINT: {
        const value = varint();
        if (outside) sink.varint?.(field, value);
        break;
      }
      case FIXED64:
        skip(8);
        break;
      case BYTES: {
        const length = varint();
        const start = at;
        skip(length);
        if (outside) sink.bytes?.(field, bytes.subarray(start, at));
        break;
      }
      case START_GROUP:
        if (groups.push(field) > MAX_GROUPS) throw new ZdsFormatError("groups are nested too deep");
        break;
      case END_GROUP:
        if (groups.pop() !== field) throw new ZdsFormatError("a group ends that did not begin");
        break;
      case FIXED32:
        skip(4);
        break;
      default:
        throw new ZdsFormatError(`a field has the unknown wire type ${tag & 7}`);
    }
  }
  if (groups.length > 0) throw new ZdsFormatError("a group has no end");
}

function lengthed(field: number, content: readonly number[]): number[] {
  return [field << 3 | BYTES, ...encodeVarint(content.length), ...content];
}

/** Empty text is the default and not written. */
function text(field: number, value: string): number[] {
  return value === "" ? [] : lengthed(field, [...encoder.encode(value)]);
}

function encodeVarint(value: number): number[] {
  const out: number[] = [];
  for (; value > 0x7f; value >>>= 7) out.push(value & 0x7f | 0x80);
  out.push(value);
  return out;
}
