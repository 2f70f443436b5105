/** Headers and query parameters of a request, as matchers see them. */
import type { RequestHead } from "../http/exchange.ts";
import type { HeaderMatch, QueryMatch } from "../spec/mod.ts";
import { compileText } from "./text.ts";

export type HeadPredicate = (head: RequestHead) => boolean;

/** Value of a header or pseudo-header; several of one name joined by commas; undefined when there is none. */
export function headerValue(head: RequestHead, name: string): string | undefined {
  switch (name) {
    case ":method":
      return head.method;
    case ":path":
      return head.path;
    case ":authority":
    case "host":
      return head.authority;
    case ":scheme":
      return head.scheme;
  }
  return fieldValue(head.headers, name);
}

export function fieldValue(fields: readonly string[], name: string): string | undefined {
  let found: string | undefined;
  for (let i = 0; i < fields.length; i += 2) {
    if (fields[i] === name) found = found === undefined ? fields[i + 1] : `${found},${fields[i + 1]}`;
  }
  return found;
}

export function compileHeader({ name, value, invert, missingIsEmpty }: HeaderMatch): HeadPredicate {
  if (value === undefined) return (head) => (headerValue(head, name) !== undefined) !== invert;
  const test = compileText(value);
  return (head) => {
    const found = headerValue(head, name) ?? (missingIsEmpty ? "" : undefined);
    // Envoy: a header that is not there matches no condition, inverted ones included.
    if (found === undefined) return false;
    return test(found) !== invert;
  };
}

export function compileQuery({ name, value }: QueryMatch): HeadPredicate {
  const test = value && compileText(value);
  return (head) => {
    const found = queryValue(head.path, name);
    return found !== undefined && (test === undefined || test(found));
  };
}

/** The first of its name, percent-decoded; undefined when there is none. */
export function queryValue(path: string, name: string): string | undefined {
  const question = path.indexOf("?");
  if (question < 0) return undefined;
  const hash = path.indexOf("#", question);
  const end = hash < 0 ? path.length : hash;
  for (let at = question + 1; at < end;) {
    const next = path.indexOf("&", at);
    const stop = next < 0 || next > end ? end : next;
    const equals = path.indexOf("=", at);
    const nameEnd = equals < 0 || equals > stop ? stop : equals;
    if (decoded(path.slice(at, nameEnd)) === name) return decoded(path.slice(Math.min(nameEnd + 1, stop), stop));
    at = stop + 1;
  }
  return undefined;
}

/** What is no percent-encoding stays as it is. A plus sign is a plus sign: forms are the application's affair. */
function decoded(text: string): string {
  if (!text.includes("%")) return text;
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
