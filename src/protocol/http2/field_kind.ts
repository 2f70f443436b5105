/**
 * What a header field means to HTTP/2 itself and whether it is well formed: RFC 9113 sections 8.2 and 8.3.
 *
 * The kind is found once, when a field is decoded, and kept with its HPACK table entry, so that a field that repeats
 * is never inspected again.
 */

export const FieldKind = {
  REGULAR: 0,
  METHOD: 1,
  SCHEME: 2,
  AUTHORITY: 3,
  PATH: 4,
  STATUS: 5,
  PROTOCOL: 6,
  CONTENT_LENGTH: 7,
  HOST: 8,
  MALFORMED: 9,
} as const;
/** Kinds from METHOD to this one are pseudo-header fields. */
export const LAST_PSEUDO = FieldKind.PROTOCOL;

const NOT_NAME = 1;
const NOT_VALUE = 2;
const SPACE_OR_CONTROL = 4;
const NOT_DIGIT = 8;
const NOT_TOKEN = 16;

const TOKEN_MARKS = "!#$%&'*+-.^_`|~";
const CLASSES = new Uint8Array(256);
for (let byte = 0; byte < 256; byte++) {
  const char = String.fromCharCode(byte);
  const digit = byte >= 0x30 && byte <= 0x39;
  const upper = byte >= 0x41 && byte <= 0x5a;
  const token = digit || upper || (byte >= 0x61 && byte <= 0x7a) || (byte !== 0 && TOKEN_MARKS.includes(char));
  let bits = 0;
  if (!token || upper) bits |= NOT_NAME;
  if (!token) bits |= NOT_TOKEN;
  if (!digit) bits |= NOT_DIGIT;
  if (byte === 0 || byte === 0x0a || byte === 0x0d) bits |= NOT_VALUE;
  if (byte <= 0x20 || byte === 0x7f) bits |= SPACE_OR_CONTROL;
  CLASSES[byte] = bits;
}

/** Names that HTTP/2 gives a meaning; connection-specific ones are malformed (RFC 9113 8.2.2). */
const KINDS = new Map<string, number>([
  [":method", FieldKind.METHOD],
  [":scheme", FieldKind.SCHEME],
  [":authority", FieldKind.AUTHORITY],
  [":path", FieldKind.PATH],
  [":status", FieldKind.STATUS],
  [":protocol", FieldKind.PROTOCOL],
  ["content-length", FieldKind.CONTENT_LENGTH],
  ["host", FieldKind.HOST],
  ["connection", FieldKind.MALFORMED],
  ["keep-alive", FieldKind.MALFORMED],
  ["proxy-connection", FieldKind.MALFORMED],
  ["transfer-encoding", FieldKind.MALFORMED],
  ["upgrade", FieldKind.MALFORMED],
]);

/** The kind that a name alone gives. `te` stays REGULAR: it depends on the value. */
export function kindOfName(name: string): number {
  const known = KINDS.get(name);
  if (known !== undefined) return known;
  if (name.length === 0) return FieldKind.MALFORMED;
  for (let i = 0; i < name.length; i++) {
    if ((CLASSES[name.charCodeAt(i)] & NOT_NAME) !== 0) return FieldKind.MALFORMED;
  }
  return FieldKind.REGULAR;
}

/**
 * The kind of a field: that of its name, or MALFORMED where the value is not allowed. `bytes[0..length)` are the value's
 * bytes.
 */
export function kindOfField(name: string, nameKind: number, bytes: Uint8Array, length: number): number {
  if (nameKind === FieldKind.MALFORMED) return nameKind;
  let seen = 0;
  for (let i = 0; i < length; i++) seen |= CLASSES[bytes[i]];
  if ((seen & NOT_VALUE) !== 0) return FieldKind.MALFORMED;
  if ((seen & SPACE_OR_CONTROL) !== 0) {
    if (nameKind !== FieldKind.REGULAR) return FieldKind.MALFORMED;
    if (isBlank(bytes[0]) || isBlank(bytes[length - 1])) return FieldKind.MALFORMED;
  }
  switch (nameKind) {
    case FieldKind.REGULAR:
      return name === "te" && !isTrailers(bytes, length) ? FieldKind.MALFORMED : nameKind;
    case FieldKind.METHOD:
    case FieldKind.PROTOCOL:
      return length === 0 || (seen & NOT_TOKEN) !== 0 ? FieldKind.MALFORMED : nameKind;
    case FieldKind.SCHEME:
      return length === 0 ? FieldKind.MALFORMED : nameKind;
    case FieldKind.STATUS:
      return length !== 3 || (seen & NOT_DIGIT) !== 0 ? FieldKind.MALFORMED : nameKind;
    case FieldKind.CONTENT_LENGTH:
      // 15 digits stay exact in a double, and no message is that long.
      return length === 0 || length > 15 || (seen & NOT_DIGIT) !== 0 ? FieldKind.MALFORMED : nameKind;
    default:
      return nameKind;
  }
}

function isBlank(byte: number): boolean {
  return byte === 0x20 || byte === 0x09;
}

function isTrailers(bytes: Uint8Array, length: number): boolean {
  const expected = "trailers";
  if (length !== expected.length) return false;
  for (let i = 0; i < length; i++) {
    if ((bytes[i] | 0x20) !== expected.charCodeAt(i)) return false;
  }
  return true;
}
