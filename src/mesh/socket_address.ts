/**
 * `ip:port` and `host:port` as text: socket addresses (`1.2.3.4:80`, `[::1]:80`) and the `:authority` of a CONNECT
 * (RFC 9110 section 9.3.6), which must name a port.
 */
import { canonicalIp, isIpv6, parseDecimal } from "./ip.ts";
import type { SocketAddress } from "./types.ts";

/** RFC 1035 section 2.3.4, as text without the final dot. */
const MAX_HOSTNAME_LENGTH = 253;
const HOSTNAME = /^[a-z0-9_*]([a-z0-9_.*-]*[a-z0-9_])?$/i;

/** What a CONNECT asks for. An unusable one is a value, because a peer may send anything. */
export type Authority =
  | { readonly kind: "address"; readonly ip: string; readonly port: number }
  /** `hostname` is lower case. */
  | { readonly kind: "hostname"; readonly hostname: string; readonly port: number }
  | { readonly kind: "invalid"; readonly message: string };

export function formatSocketAddress(address: SocketAddress): string {
  return isIpv6(address.ip) ? `[${address.ip}]:${address.port}` : `${address.ip}:${address.port}`;
}

/** Port 0 is allowed; undefined for anything that is not an address and a port. */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  const split = splitPort(text);
  if (split === undefined || split.port === undefined) return undefined;
  const ip = canonicalIp(split.host);
  if (ip === undefined || isIpv6(split.host) !== split.bracketed) return undefined;
  return { ip, port: split.port };
}

export function parseAuthority(text: string): Authority {
  const split = splitPort(text);
  if (split === undefined) return invalid(text, "write ip:port, [ip]:port or host:port");
  if (split.port === undefined || split.port === 0) return invalid(text, "it must end in :port, from 1 to 65535");
  const ip = canonicalIp(split.host);
  if (ip !== undefined) {
    if (isIpv6(split.host) !== split.bracketed) return invalid(text, "only an IPv6 address stands in brackets");
    return { kind: "address", ip, port: split.port };
  }
  if (split.bracketed) return invalid(text, "what stands in brackets is not an IPv6 address");
  if (split.host.length > MAX_HOSTNAME_LENGTH || !HOSTNAME.test(split.host) || split.host.includes("..")) {
    return invalid(text, "its host is neither an IP address nor a host name");
  }
  return { kind: "hostname", hostname: split.host.toLowerCase(), port: split.port };
}

interface HostAndPort {
  readonly host: string;
  readonly bracketed: boolean;
  /** Undefined: absent or not a port. */
  readonly port: number | undefined;
}

function splitPort(text: string): HostAndPort | undefined {
  const bracketed = text.startsWith("[");
  const hostEnd = bracketed ? text.indexOf("]") : text.indexOf(":");
  if (hostEnd < 0) return bracketed || text.length === 0 ? undefined : { host: text, bracketed, port: undefined };
  const host = bracketed ? text.slice(1, hostEnd) : text.slice(0, hostEnd);
  const rest = bracketed ? text.slice(hostEnd + 1) : text.slice(hostEnd);
  if (host.length === 0) return undefined;
  if (rest.length === 0) return { host, bracketed, port: undefined };
  if (!rest.startsWith(":")) return undefined;
  return { host, bracketed, port: parsePort(rest.slice(1)) };
}

/** 0 to 65535 in plain decimal digits. */
export function parsePort(text: string): number | undefined {
  const port = parseDecimal(text, 5);
  return port === undefined || port > 65_535 ? undefined : port;
}

/** A peer's text goes into a log line: keep it short. */
const SHOWN_CHARACTERS = 80;

function invalid(text: string, rule: string): Authority {
  const shown = text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
  return { kind: "invalid", message: `invalid authority ${JSON.stringify(shown)}: ${rule}` };
}
