/** The `forwarded` header (RFC 7239) of an HBONE request: the client's address and the service it asked for. */
import { formatSocketAddress, parseSocketAddress } from "./socket_address.ts";
import type { SocketAddress } from "./types.ts";

export interface Forwarded {
  readonly for: SocketAddress | undefined;
  /** Host name, without a port. */
  readonly host: string | undefined;
}

const MAX_CHARACTERS = 1024;
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** `for="1.2.3.4:80"`, then `;host=` if a service is known. */
export function formatForwarded(client: SocketAddress, serviceHostname: string | undefined): string {
  const source = `for="${formatSocketAddress(client)}"`;
  if (serviceHostname === undefined || serviceHostname === "") return source;
  return `${source};host=${TOKEN.test(serviceHostname) ? serviceHostname : quote(serviceHostname)}`;
}

/** Reads the first element, which the client's own proxy wrote. What cannot be read is absent. */
export function parseForwarded(header: string): Forwarded {
  return read(header, true);
}

/** The host alone. */
export function forwardedHost(header: string): string | undefined {
  return read(header, false).host;
}

function read(header: string, withClient: boolean): Forwarded {
  let client: SocketAddress | undefined;
  let host: string | undefined;
  const text = header.slice(0, MAX_CHARACTERS);
  let at = 0;
  while (at < text.length) {
    const equals = text.indexOf("=", at);
    if (equals < 0) break;
    const name = text.slice(at, equals).trim().toLowerCase();
    const value = readValue(text, equals + 1);
    if (value === undefined) break;
    if (name === "for") {
      if (withClient) client ??= parseSocketAddress(value.text);
    } else if (name === "host" && value.text !== "") host ??= value.text;
    at = skipSpace(text, value.end);
    if (text[at] !== ";") break;
    at++;
  }
  return { for: client, host };
}

/** A token or a quoted string that starts at `at`. */
function readValue(text: string, at: number): { readonly text: string; readonly end: number } | undefined {
  if (text[at] !== '"') {
    let end = at;
    while (end < text.length && text[end] !== ";" && text[end] !== "," && text[end] !== " ") end++;
    return { text: text.slice(at, end), end };
  }
  const end = text.indexOf('"', at + 1);
  if (end < 0) return undefined;
  const plain = text.slice(at + 1, end);
  if (!plain.includes("\\")) return { text: plain, end: end + 1 };
  let value = "";
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] === '"') return { text: value, end: i + 1 };
    if (text[i] === "\\") i++;
    value += text[i] ?? "";
  }
  return undefined;
}

function skipSpace(text: string, at: number): number {
  while (text[at] === " " || text[at] === "\t") at++;
  return at;
}

function quote(value: string): string {
  return `"${value.replace(/["\\]/g, "\\$&")}"`;
}
