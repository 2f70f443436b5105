/** Between HTTP/2's field lists and the engine's heads, RFC 9113 section 8.3 and RFC 8441. */
import type { Fields } from "../../protocol/http2/mod.ts";
import type { FieldList, RequestHead, ResponseHead } from "./exchange.ts";
import { endToEnd, first, wireBytes } from "./fields.ts";

/** A request's head. Cookies that came in crumbs are one header again, for whoever speaks HTTP/1.1 behind. */
export function toRequestHead(fields: Fields, endStream: boolean, upgrades: ReadonlySet<string>): RequestHead {
  let method = "", path = "", authority = "", scheme = "", protocol = "";
  let headersFrom = 0;
  for (; headersFrom < fields.length && fields[headersFrom].startsWith(":"); headersFrom += 2) {
    const value = fields[headersFrom + 1];
    switch (fields[headersFrom]) {
      case ":method":
        method = value;
        break;
      case ":path":
        path = value;
        break;
      case ":authority":
        authority = value;
        break;
      case ":scheme":
        scheme = value;
        break;
      case ":protocol":
        protocol = value.toLowerCase();
        break;
    }
  }
  const headers: FieldList = [];
  let cookieAt = -1;
  for (let i = headersFrom; i < fields.length; i += 2) {
    const name = fields[i];
    if (name === "host") {
      if (authority === "") authority = fields[i + 1];
    } else if (name === "cookie" && cookieAt >= 0) {
      headers[cookieAt] += `; ${fields[i + 1]}`;
    } else {
      if (name === "cookie") cookieAt = headers.length + 1;
      headers.push(name, fields[i + 1]);
    }
  }
  const isUpgrade = method === "CONNECT" && upgrades.has(protocol);
  const length = first(headers, "content-length");
  return {
    method: isUpgrade ? "GET" : method,
    path,
    authority,
    scheme,
    version: "2",
    headers: endToEnd(headers),
    upgrade: isUpgrade ? protocol : "",
    contentLength: isUpgrade ? -1 : endStream ? 0 : length === undefined ? -1 : Number(length),
    expectsContinue: first(headers, "expect")?.toLowerCase() === "100-continue",
    wireBytes: wireBytes(fields),
  };
}

export function fromRequestHead(head: RequestHead): string[] {
  const scheme = head.scheme === "" ? "http" : head.scheme;
  const fields = head.upgrade === ""
    ? [":method", head.method, ":scheme", scheme, ":authority", head.authority, ":path", head.path]
    : [
      ":method",
      "CONNECT",
      ":protocol",
      head.upgrade,
      ":scheme",
      scheme,
      ":authority",
      head.authority,
      ":path",
      head.path,
    ];
  for (const part of endToEnd(head.headers)) fields.push(part);
  return fields;
}

export function toResponseHead(fields: Fields): ResponseHead {
  const headers: FieldList = [];
  for (let i = 2; i < fields.length; i += 2) headers.push(fields[i], fields[i + 1]);
  return { status: Number(fields[1]), headers: endToEnd(headers), version: "2", wireBytes: wireBytes(fields) };
}

export function fromResponseHead(status: number, headers: FieldList): string[] {
  return [":status", String(status), ...endToEnd(headers)];
}
