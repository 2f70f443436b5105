/**
 * `struct sockaddr_in` and `sockaddr_in6` to and from canonical text and port. A v4-mapped IPv6 address reads as
 * the IPv4 address it is (ztunnel canonicalises every peer, local and original destination address).
 */
import { formatIp, parseIp } from "../mesh/ip.ts";

export const AF_INET = 2;
export const AF_INET6 = 10;
const SOCKADDR_IN_BYTES = 16;
const SOCKADDR_IN6_BYTES = 28;

/** An address and port; `ip` is canonical text. */
export interface SocketAddress {
  readonly ip: string;
  readonly port: number;
}

/** True for IPv6 text. A canonical IPv4 address never holds a colon. */
export function isIpv6(ip: string): boolean {
  return ip.includes(":");
}

/** Bytes of addresses that were encoded of late; a proxy connects to few. Forgotten all at once when there are many. */
const parsed = new Map<string, Uint8Array>();
const MAX_PARSED = 256;

function bytesOf(ip: string): Uint8Array {
  let address = parsed.get(ip);
  if (address !== undefined) return address;
  address = parseIp(ip);
  if (address === undefined) throw new TypeError(`sockaddr: "${ip}" is not an IP address`);
  if (parsed.size >= MAX_PARSED) parsed.clear();
  parsed.set(ip, address);
  return address;
}

/**
 * Encodes for `bind` and `connect`. With `family` AF_INET6 an IPv4 address is written v4-mapped.
 * Throws when `ip` is not an address: callers hold parsed text.
 */
export function encodeSockaddr(ip: string, port: number, family: number): Uint8Array {
  return family === AF_INET
    ? writeIpv4(new Uint8Array(SOCKADDR_IN_BYTES), ip, port)
    : writeIpv6(new Uint8Array(SOCKADDR_IN6_BYTES), ip, port);
}

const sharedIpv4 = new Uint8Array(SOCKADDR_IN_BYTES);
const sharedIpv6 = new Uint8Array(SOCKADDR_IN6_BYTES);

/** The same in memory of this module, valid until the next call: for a system call that reads it at once. */
export function lendSockaddr(ip: string, port: number, family: number): Uint8Array {
  return family === AF_INET ? writeIpv4(sharedIpv4, ip, port) : writeIpv6(sharedIpv6, ip, port);
}

function writeIpv4(bytes: Uint8Array, ip: string, port: number): Uint8Array {
  const address = bytesOf(ip);
  if (address.length !== 4) throw new TypeError(`sockaddr: "${ip}" is not an IPv4 address`);
  bytes[0] = AF_INET;
  bytes[2] = port >> 8;
  bytes[3] = port & 0xff;
  for (let i = 0; i < 4; i++) bytes[4 + i] = address[i];
  return bytes;
}

function writeIpv6(bytes: Uint8Array, ip: string, port: number): Uint8Array {
  const address = bytesOf(ip);
  bytes[0] = AF_INET6;
  bytes[2] = port >> 8;
  bytes[3] = port & 0xff;
  if (address.length === 4) {
    bytes.fill(0, 8, 18);
    bytes[18] = bytes[19] = 0xff;
    bytes.set(address, 20);
  } else {
    bytes.set(address, 8);
  }
  return bytes;
}

/** Texts of IPv4 addresses by the lowest bits of their bytes: most descriptors of a worker have one of few at their other end. */
const TEXTS = 256;
const textKeys = new Uint32Array(TEXTS);
const texts: string[] = new Array(TEXTS).fill("0.0.0.0");

function ipv4Text(a: number, b: number, c: number, d: number): string {
  const key = (a << 24 | b << 16 | c << 8 | d) >>> 0;
  const slot = (d ^ c << 4 ^ b) & TEXTS - 1;
  if (textKeys[slot] !== key) {
    textKeys[slot] = key;
    texts[slot] = `${a}.${b}.${c}.${d}`;
  }
  return texts[slot];
}

/** Decodes what the kernel filled in; undefined for a family that is not IP (a unix socket). */
export function decodeSockaddr(bytes: Uint8Array): SocketAddress | undefined {
  const family = bytes[0] | bytes[1] << 8;
  const port = bytes[2] << 8 | bytes[3];
  if (family === AF_INET) return { ip: ipv4Text(bytes[4], bytes[5], bytes[6], bytes[7]), port };
  if (family === AF_INET6) return { ip: formatIp(bytes.subarray(8, 24)), port };
  return undefined;
}
