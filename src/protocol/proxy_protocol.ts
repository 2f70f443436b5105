/**
 * The PROXY protocol, version 2 (haproxy's proxy-protocol.txt, section 2.2): who the client of a connection really is, written before
 * the connection's own bytes. Sans-io.
 *
 * Istio's application tunnel adds one TLV, the source's SPIFFE id (reference ztunnel 6.4).
 */

/** Istio's own TLV type for the source's identity, in the range that the specification leaves to applications. */
export const TLV_SOURCE_IDENTITY = 0xd0;

const SIGNATURE = new Uint8Array([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const PREFIX_BYTES = 16;
const VERSION_2 = 0x20;
const COMMAND_LOCAL = 0x0;
const COMMAND_PROXY = 0x1;
const FAMILY_INET = 0x10;
const FAMILY_INET6 = 0x20;
const PROTOCOL_STREAM = 0x01;
const TLV_HEADER_BYTES = 3;
const MAX_TLV_BYTES = 0xffff;

/** One end of a connection: 4 or 16 address bytes. */
export interface ProxyAddress {
  readonly ip: Uint8Array;
  readonly port: number;
}

export interface Tlv {
  readonly type: number;
  readonly value: Uint8Array;
}

/**
 * The header of a TCP connection from `source` to `destination`. Addresses of different families cannot be told: the header has none
 * then. `identity`: of the source, when it is known. Throws RangeError when the identity is longer than a TLV may be.
 */
export function encodeProxyHeader(
  source: ProxyAddress,
  destination: ProxyAddress,
  identity: string | undefined,
): Uint8Array {
  const from = source.ip;
  const to = destination.ip;
  const known = from.length === to.length;
  const value = identity === undefined || identity === "" ? undefined : new TextEncoder().encode(identity);
  const addressBytes = known ? 2 * from.length + 4 : 0;
  const length = addressBytes + (value === undefined ? 0 : TLV_HEADER_BYTES + value.length);
  if (length > MAX_TLV_BYTES) throw new RangeError("PROXY header: the identity is too long");
  const bytes = new Uint8Array(PREFIX_BYTES + length);
  bytes.set(SIGNATURE);
  bytes[12] = VERSION_2 | COMMAND_PROXY;
  bytes[13] = (known ? (from.length === 4 ? FAMILY_INET : FAMILY_INET6) : 0) | PROTOCOL_STREAM;
  writeUint16(bytes, 14, length);
  let at = PREFIX_BYTES;
  if (known) {
    bytes.set(from, at);
    bytes.set(to, at + from.length);
    writeUint16(bytes, at + 2 * from.length, source.port);
    writeUint16(bytes, at + 2 * from.length + 2, destination.port);
    at += addressBytes;
  }
  if (value !== undefined) {
    bytes[at] = TLV_SOURCE_IDENTITY;
    writeUint16(bytes, at + 1, value.length);
    bytes.set(value, at + TLV_HEADER_BYTES);
  }
  return bytes;
}

export type ProxyHeader =
  | { readonly kind: "incomplete" }
  | { readonly kind: "invalid"; readonly message: string }
  | {
    readonly kind: "header";
    /** Bytes of the header: the connection's own follow. */
    readonly length: number;
    /** Undefined: the connection is the proxy's own (command LOCAL), or of a family that is not told. */
    readonly source: ProxyAddress | undefined;
    readonly destination: ProxyAddress | undefined;
    /** Views into the bytes that were given, as the addresses are. */
    readonly tlvs: readonly Tlv[];
  };

/** Reads the header that a connection begins with, from as much of it as there is. `maxBytes`: a longer one is invalid. */
export function decodeProxyHeader(bytes: Uint8Array, maxBytes = PREFIX_BYTES + MAX_TLV_BYTES): ProxyHeader {
  for (let i = 0; i < Math.min(SIGNATURE.length, bytes.length); i++) {
    if (bytes[i] !== SIGNATURE[i]) return invalid("the connection does not begin with a PROXY v2 signature");
  }
  if (bytes.length > 12 && (bytes[12] & 0xf0) !== VERSION_2) return invalid(`version ${bytes[12] >> 4}, not 2`);
  if (bytes.length < PREFIX_BYTES) return { kind: "incomplete" };
  const command = bytes[12] & 0x0f;
  if (command !== COMMAND_LOCAL && command !== COMMAND_PROXY) return invalid(`unknown command ${command}`);
  const end = PREFIX_BYTES + readUint16(bytes, 14);
  if (end > maxBytes) return invalid(`a header of ${end} bytes, more than ${maxBytes}`);
  if (bytes.length < end) return { kind: "incomplete" };
  // A LOCAL connection's addresses are to be ignored, whatever they are.
  if (command === COMMAND_LOCAL) {
    return { kind: "header", length: end, source: undefined, destination: undefined, tlvs: [] };
  }
  const family = bytes[13] & 0xf0;
  const size = family === FAMILY_INET ? 4 : family === FAMILY_INET6 ? 16 : 0;
  if (family !== 0 && size === 0) return invalid(`address family ${family >> 4} is none of TCP`);
  if (size > 0 && (bytes[13] & 0x0f) !== PROTOCOL_STREAM) return invalid("the connection is none of TCP");
  const tlvsAt = PREFIX_BYTES + (size === 0 ? 0 : 2 * size + 4);
  if (tlvsAt > end) return invalid("the addresses are cut off");
  const tlvs = readTlvs(bytes, tlvsAt, end);
  if (tlvs === undefined) return invalid("a TLV is cut off");
  const address = (at: number, port: number): ProxyAddress | undefined =>
    size === 0 ? undefined : {
      ip: bytes.subarray(at, at + size),
      port: readUint16(bytes, port),
    };
  return {
    kind: "header",
    length: end,
    source: address(PREFIX_BYTES, tlvsAt - 4),
    destination: address(PREFIX_BYTES + size, tlvsAt - 2),
    tlvs,
  };
}

function readTlvs(bytes: Uint8Array, start: number, end: number): Tlv[] | undefined {
  const tlvs: Tlv[] = [];
  let at = start;
  while (at < end) {
    if (end - at < TLV_HEADER_BYTES) return undefined;
    const from = at + TLV_HEADER_BYTES;
    const to = from + readUint16(bytes, at + 1);
    if (to > end) return undefined;
    tlvs.push({ type: bytes[at], value: bytes.subarray(from, to) });
    at = to;
  }
  return tlvs;
}

function invalid(message: string): ProxyHeader {
  return { kind: "invalid", message };
}

function writeUint16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

function readUint16(bytes: Uint8Array, at: number): number {
  return bytes[at] << 8 | bytes[at + 1];
}
