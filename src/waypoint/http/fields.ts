/** Header lists on their way from one connection to another: what belongs to one connection stays there, RFC 9110 section 7.6.1. */
import { listMembers } from "../../protocol/http1/mod.ts";
import type { FieldList } from "./exchange.ts";

const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
  "te",
]);
/** A message cannot lose these by being told that they belong to the connection. */
const NEVER_NOMINATED = new Set([
  "host",
  "content-length",
  "content-type",
  "cookie",
  "authorization",
  "expect",
  "close",
  "keep-alive",
]);

/** A fresh list without what belongs to the connection; `te: trailers` stays, as gRPC asks for it. */
export function endToEnd(fields: readonly string[]): FieldList {
  let nominated: Set<string> | undefined;
  for (let i = 0; i < fields.length; i += 2) {
    if (fields[i] !== "connection") continue;
    for (const name of listMembers(fields[i + 1])) {
      if (!HOP_BY_HOP.has(name) && !NEVER_NOMINATED.has(name)) (nominated ??= new Set()).add(name);
    }
  }
  const kept: FieldList = [];
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i];
    if (HOP_BY_HOP.has(name)) {
      if (name === "te" && fields[i + 1].toLowerCase() === "trailers") kept.push(name, "trailers");
      continue;
    }
    if (nominated === undefined || !nominated.has(name)) kept.push(name, fields[i + 1]);
  }
  return kept;
}

/** The first value of a name; undefined when it is not there. */
export function first(fields: readonly string[], name: string): string | undefined {
  for (let i = 0; i < fields.length; i += 2) if (fields[i] === name) return fields[i + 1];
  return undefined;
}

export function has(fields: readonly string[], name: string): boolean {
  return first(fields, name) !== undefined;
}

/** Takes all of a name out, in place. */
export function remove(fields: FieldList, name: string): void {
  let to = 0;
  for (let from = 0; from < fields.length; from += 2) {
    if (fields[from] === name) continue;
    fields[to] = fields[from];
    fields[to + 1] = fields[from + 1];
    to += 2;
  }
  fields.length = to;
}

/** One value in place of all that were there. */
export function set(fields: FieldList, name: string, value: string): void {
  remove(fields, name);
  fields.push(name, value);
}

/** Bytes of a list as HTTP/1.1 would write it, for metrics. */
export function wireBytes(fields: readonly string[]): number {
  let bytes = 0;
  for (let i = 0; i < fields.length; i += 2) bytes += fields[i].length + fields[i + 1].length + 4;
  return bytes;
}
