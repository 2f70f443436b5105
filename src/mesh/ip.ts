/**
 * IP addresses and CIDR ranges, text and bytes. Canonical text is RFC 5952, and a v4-mapped IPv6 address is the IPv4
 * address it carries, so that equal addresses are equal strings everywhere in the model.
 */

const DOT = 46;
const COLON = 58;
const ZERO = 48;

/** True for IPv6 text. Canonical IPv4 text never holds a colon. */
export function isIpv6(ip: string): boolean {
  return ip.includes(":");
}

/** The 4 or 16 bytes of an address; undefined if `text` is none. A v4-mapped IPv6 address gives 4 bytes. Zone ids are refused. */
export function parseIp(text: string): Uint8Array | undefined {
  if (!text.includes(":")) return parseIpv4(text);
  const bytes = parseIpv6(text);
  return bytes !== undefined && isV4Mapped(bytes) ? bytes.slice(12) : bytes;
}

/** Canonical text of any text form; undefined if it is not an address. */
export function canonicalIp(text: string): string | undefined {
  const bytes = parseIp(text);
  return bytes === undefined ? undefined : formatIp(bytes);
}

/** Canonical text of 4 or 16 bytes. Throws a TypeError for another length. */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  if (bytes.length !== 16) throw new TypeError(`an IP address has 4 or 16 bytes, not ${bytes.length}`);
  if (isV4Mapped(bytes)) return `${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}`;
  const run = longestZeroRun(bytes);
  let text = "";
  for (let group = 0; group < 8; group++) {
    if (group === run.start) {
      text += "::";
      group += run.length - 1;
      continue;
    }
    if (group > 0 && group !== run.start + run.length) text += ":";
    text += groupAt(bytes, group).toString(16);
  }
  return text;
}

/** An address range. `bytes` has its host bits cleared. */
export interface Cidr {
  readonly bytes: Uint8Array;
  /** In bits. */
  readonly prefixLength: number;
}

/** `ip/length`, or a bare address for itself alone; undefined for anything else. Host bits are cleared. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf("/");
  const ipText = slash < 0 ? text : text.slice(0, slash);
  const bytes = parseIp(ipText);
  if (bytes === undefined) return undefined;
  const bits = bytes.length * 8;
  if (slash < 0) return { bytes, prefixLength: bits };
  const length = parseDecimal(text.slice(slash + 1), 3);
  if (length === undefined) return undefined;
  // A v4-mapped range counts its length in IPv6 bits; one that is wider than all of IPv4 has no canonical meaning.
  const prefixLength = bits === 32 && isIpv6(ipText) ? length - 96 : length;
  if (prefixLength < 0 || prefixLength > bits) return undefined;
  return { bytes: maskIp(bytes, prefixLength), prefixLength };
}

export function formatCidr(cidr: Cidr): string {
  return `${formatIp(cidr.bytes)}/${cidr.prefixLength}`;
}

/** Whether a range holds an address given as bytes. Families never match each other. */
export function cidrContains(cidr: Cidr, ip: Uint8Array): boolean {
  if (cidr.bytes.length !== ip.length) return false;
  const whole = cidr.prefixLength >> 3;
  for (let i = 0; i < whole; i++) {
    if (cidr.bytes[i] !== ip[i]) return false;
  }
  const rest = cidr.prefixLength & 7;
  return rest === 0 || ((cidr.bytes[whole] ^ ip[whole]) >> (8 - rest)) === 0;
}

/** A copy with all bits after the first `prefixLength` cleared. */
export function maskIp(ip: Uint8Array, prefixLength: number): Uint8Array {
  const masked = new Uint8Array(ip.length);
  const whole = prefixLength >> 3;
  masked.set(ip.subarray(0, whole));
  const rest = prefixLength & 7;
  if (rest > 0) masked[whole] = ip[whole] & (0xff << (8 - rest));
  return masked;
}

/** Decimal digits without a leading zero, at most `maxDigits`. */
export function parseDecimal(text: string, maxDigits: number): number | undefined {
  if (text.length === 0 || text.length > maxDigits) return undefined;
  if (text.length > 1 && text.charCodeAt(0) === ZERO) return undefined;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - ZERO;
    if (digit < 0 || digit > 9) return undefined;
    value = value * 10 + digit;
  }
  return value;
}

function parseIpv4(text: string): Uint8Array | undefined {
  if (text.length < 7 || text.length > 15) return undefined;
  const bytes = new Uint8Array(4);
  let index = 0;
  let value = 0;
  let digits = 0;
  for (let i = 0; i <= text.length; i++) {
    const code = i === text.length ? DOT : text.charCodeAt(i);
    if (code === DOT) {
      if (digits === 0 || index === 4) return undefined;
      bytes[index++] = value;
      value = digits = 0;
      continue;
    }
    const digit = code - ZERO;
    // A leading zero would be octal to some readers and decimal to others.
    if (digit < 0 || digit > 9 || (digits > 0 && value === 0)) return undefined;
    value = value * 10 + digit;
    digits++;
    if (value > 255) return undefined;
  }
  return index === 4 ? bytes : undefined;
}

function parseIpv6(text: string): Uint8Array | undefined {
  if (text.length < 2 || text.length > 45) return undefined;
  const bytes = new Uint8Array(16);
  let at = 0;
  let gap = -1;
  let i = 0;
  if (text.startsWith("::")) {
    gap = 0;
    i = 2;
  }
  while (i < text.length) {
    let end = i;
    while (end < text.length && text.charCodeAt(end) !== COLON) end++;
    const part = text.slice(i, end);
    if (part.includes(".")) {
      const v4 = end === text.length && at <= 12 ? parseIpv4(part) : undefined;
      if (v4 === undefined) return undefined;
      bytes.set(v4, at);
      at += 4;
      i = end;
      break;
    }
    const value = parseHexGroup(part);
    if (value === undefined || at > 14) return undefined;
    bytes[at++] = value >> 8;
    bytes[at++] = value & 0xff;
    if (end === text.length) {
      i = end;
      break;
    }
    i = end + 1;
    if (text.charCodeAt(i) === COLON) {
      if (gap >= 0) return undefined;
      gap = at;
      i++;
    } else if (i === text.length) {
      return undefined;
    }
  }
  if (gap < 0) return at === 16 ? bytes : undefined;
  if (at === 16) return undefined;
  bytes.copyWithin(16 - (at - gap), gap, at);
  bytes.fill(0, gap, 16 - (at - gap));
  return bytes;
}

function parseHexGroup(text: string): number | undefined {
  if (text.length === 0 || text.length > 4) return undefined;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i) | 0x20;
    const digit = code >= 0x61 ? code - 0x57 : text.charCodeAt(i) - ZERO;
    if (digit < 0 || digit > 15 || (code < 0x61 && digit > 9)) return undefined;
    value = value << 4 | digit;
  }
  return value;
}

function isV4Mapped(bytes: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) {
    if (bytes[i] !== 0) return false;
  }
  return bytes[10] === 0xff && bytes[11] === 0xff;
}

function groupAt(bytes: Uint8Array, group: number): number {
  return bytes[group * 2] << 8 | bytes[group * 2 + 1];
}

/** The first longest run of at least two zero groups. */
function longestZeroRun(bytes: Uint8Array): { start: number; length: number } {
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let end = start;
    while (end < 8 && groupAt(bytes, end) === 0) end++;
    if (end - start > best.length) best = { start, length: end - start };
    start = Math.max(start, end);
  }
  return best.start < 0 ? { start: -1, length: 0 } : best;
}
