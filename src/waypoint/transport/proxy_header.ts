/**
 * The PROXY header that a DestinationRule may ask for (waypoint.md 5.6), versions 1 and 2 of haproxy's proxy-protocol.txt: the client's address and the
 * one it wanted to reach, before everything else on a connection.
 */
import { Buffer } from "node:buffer";
import { parseIp } from "../../mesh/ip.ts";
import { encodeProxyHeader } from "../../protocol/proxy_protocol.ts";

export interface ProxyEnd {
  readonly ip: string;
  readonly port: number;
}

const UNKNOWN = "PROXY UNKNOWN\r\n";
const ANY = new Uint8Array(4);

/** Addresses of different families, or none, cannot be told: the header says that they are not known. */
export function proxyHeader(version: 1 | 2, source: ProxyEnd, destination: ProxyEnd): Uint8Array {
  const from = parseIp(source.ip);
  const to = parseIp(destination.ip);
  const isTold = from !== undefined && to !== undefined && from.length === to.length;
  if (version === 2) {
    return isTold
      ? encodeProxyHeader({ ip: from, port: source.port }, { ip: to, port: destination.port }, undefined)
      // Two lengths that differ: the header without addresses.
      : encodeProxyHeader({ ip: ANY, port: 0 }, { ip: new Uint8Array(16), port: 0 }, undefined);
  }
  if (!isTold) return Buffer.from(UNKNOWN, "latin1");
  const family = from.length === 4 ? "TCP4" : "TCP6";
  return Buffer.from(
    `PROXY ${family} ${source.ip} ${destination.ip} ${source.port} ${destination.port}\r\n`,
    "latin1",
  );
}
