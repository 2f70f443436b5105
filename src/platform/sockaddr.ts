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

/**
 * Encodes for `bind` and `connect`. With `family` AF_INET6 an IPv4 address is written v4-mapped.
 * Throws when `ip` is not an address: callers hold parsed text.
 */
export function encodeSockaddr(ip: string, port: number, family: number): Uint8Array {
  const address = parseIp(ip);
  if (address === undefined) throw new TypeError(`sockaddr: "${ip}" is not an IP address`);
  if (family === AF_INET) {
    const bytes = new Uint8Array(SOCKADDR_IN_BYTES);
    bytes[0] = AF_INET;
    bytes[2] = port >> 8;
    bytes[3] = port & 0xff;
    bytes.set(address, 4);
    return bytes;
  }
  const bytes = new Uint8Array(SOCKADDR_IN6_BYTES);
  bytes[0] = AF_INET6;
  bytes[2] = port >> 8;
  bytes[3] = port & 0xff;
  if (address.length === 4) {
    bytes[18] = bytes[19] = 0xff;
    bytes.set(address, 20);
  } else {
    bytes.set(address, 8);
  }
  return bytes;
}

/** Decodes what the kernel filled in; undefined for a family that is not IP (a unix socket). */
export function decodeSockaddr(bytes: Uint8Array): SocketAddress | undefined {
  const family = bytes[0] | bytes[1] << 8;
  const port = bytes[2] << 8 | bytes[3];
  if (family === AF_INET) return { ip: `${bytes[4]}.${bytes[5]}.${bytes[6]}.${bytes[7]}`, port };
  if (family === AF_INET6) return { ip: formatIp(bytes.subarray(8, 24)), port };
  return undefined;
}
