/**
 * What an authorization service decided, made safe to act on: its reply is untrusted text that becomes headers of other messages.
 *
 * A header that no HTTP message can carry, or that would change what the message is (pseudo-headers, Host), makes the reply invalid, and an invalid reply
 * denies. What frames a message (Content-Length and the like) is left out: each message has its own.
 */
import { isFieldValue, isToken } from "../../protocol/http1/mod.ts";
import type { FieldList } from "../http/exchange.ts";
import { has, remove, set } from "../http/fields.ts";
import { lowerCase } from "../match/text.ts";
import { type CheckResponse, decodeCheckResponse, type HeaderAction, type HeaderEdit } from "./check_message.ts";
import { ProtoError } from "./protobuf_wire.ts";

export type Verdict =
  | {
    readonly kind: "allowed";
    readonly requestHeaders: readonly SafeEdit[];
    readonly removeRequestHeaders: readonly string[];
    readonly responseHeaders: readonly SafeEdit[];
    readonly setQuery: readonly (readonly [name: string, value: string])[];
    readonly removeQuery: readonly string[];
    readonly metadata: Readonly<Record<string, unknown>> | undefined;
  }
  | {
    readonly kind: "denied";
    readonly status: number;
    readonly headers: readonly SafeEdit[];
    readonly body: string | Uint8Array;
    readonly metadata: Readonly<Record<string, unknown>> | undefined;
  }
  /** It answered, and its answer cannot be acted on. Denies whatever the failure mode. */
  | { readonly kind: "invalid"; readonly reason: string }
  /** Nobody decided. */
  | { readonly kind: "error"; readonly reason: string };

/** A header that may be put into a message. */
export interface SafeEdit {
  readonly name: string;
  readonly value: string;
  readonly action: HeaderAction;
}

const FORBIDDEN = 403;
/** More would not fit into the head of any message. */
const MAX_EDITS = 256;
const MAX_EDIT_BYTES = 64 * 1024;
const MAX_PARAMETERS = 256;

/** They belong to one message or one connection. */
const FRAMING = new Set([
  "connection",
  "content-length",
  "expect",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

export class InvalidReply extends Error {
  override readonly name = "InvalidReply";
}

/** `otherwise`: where the service does not say. @throws InvalidReply */
export function safeEdits(edits: readonly HeaderEdit[], otherwise: HeaderAction): SafeEdit[] {
  if (edits.length > MAX_EDITS) throw new InvalidReply(`${edits.length} headers are too many`);
  const safe: SafeEdit[] = [];
  let bytes = 0;
  for (const { name, value, action } of edits) {
    const lower = lowerCase(name);
    if (!isToken(lower) || lower === "host") {
      throw new InvalidReply(`${JSON.stringify(name)} is no header that may be changed`);
    }
    if (!isFieldValue(value)) throw new InvalidReply(`the value of ${JSON.stringify(name)} cannot be sent`);
    bytes += lower.length + value.length;
    if (bytes > MAX_EDIT_BYTES) throw new InvalidReply("the headers are too long");
    if (!FRAMING.has(lower)) safe.push({ name: lower, value, action: action ?? otherwise });
  }
  return safe;
}

export function applyEdits(headers: FieldList, edits: readonly SafeEdit[]): void {
  for (const { name, value, action } of edits) {
    switch (action) {
      case "append":
        headers.push(name, value);
        break;
      case "add if absent":
        if (!has(headers, name)) headers.push(name, value);
        break;
      case "overwrite":
        set(headers, name, value);
        break;
      case "overwrite if exists":
        if (has(headers, name)) set(headers, name, value);
        break;
    }
  }
}

/** As Envoy: what cannot be taken away is passed over in silence. */
export function removeHeaders(headers: FieldList, names: readonly string[]): void {
  for (const name of names) {
    const lower = lowerCase(name);
    if (!FRAMING.has(lower)) remove(headers, lower);
  }
}

/** Of a CheckResponse. */
export function grpcVerdict(bytes: Uint8Array): Verdict {
  let response: CheckResponse;
  try {
    response = decodeCheckResponse(bytes);
  } catch (error) {
    if (error instanceof ProtoError) return { kind: "error", reason: `no CheckResponse: ${error.message}` };
    throw error;
  }
  const { status, http, metadata } = response;
  try {
    // Unlike Envoy, a refusal that comes with the status OK is one: who forgot the status meant to refuse.
    if (status !== 0 || http?.kind === "denied") {
      const denied = http?.kind === "denied" ? http : undefined;
      return {
        kind: "denied",
        status: safeStatus(denied?.status ?? 0),
        headers: safeEdits(denied?.headers ?? [], "overwrite"),
        body: denied?.body ?? "",
        metadata,
      };
    }
    return {
      kind: "allowed",
      // Not to append is the default that the API's documentation gives these: a client's header must not stand beside the service's.
      requestHeaders: safeEdits(http?.headers ?? [], "overwrite"),
      removeRequestHeaders: http?.remove ?? [],
      responseHeaders: safeEdits(http?.responseHeaders ?? [], "append"),
      setQuery: bounded(http?.setQuery ?? []),
      removeQuery: bounded(http?.removeQuery ?? []),
      metadata: http?.metadata ?? metadata,
    };
  } catch (error) {
    if (error instanceof InvalidReply) return { kind: "invalid", reason: error.message };
    throw error;
  }
}

/** A status that ends a request; 403 for any other. */
export function safeStatus(status: number): number {
  return status >= 200 && status <= 599 ? status : FORBIDDEN;
}

function bounded<T>(list: readonly T[]): readonly T[] {
  if (list.length > MAX_PARAMETERS) throw new InvalidReply(`${list.length} query parameters are too many`);
  return list;
}

// ---- query parameters

/** The path with parameters set and taken out; the others stay as they are, in their order. */
export function changeQuery(
  path: string,
  setQuery: readonly (readonly [name: string, value: string])[],
  removeQuery: readonly string[],
): string {
  if (setQuery.length === 0 && removeQuery.length === 0) return path;
  const hash = path.indexOf("#");
  const whole = hash < 0 ? path : path.slice(0, hash);
  const question = whole.indexOf("?");
  const parameters = question < 0 ? [] : whole.slice(question + 1).split("&").filter((part) => part !== "");
  const changes = new Map(setQuery);
  const removed = new Set(removeQuery);
  const kept = parameters.filter((parameter) => {
    const name = nameOf(parameter);
    return !removed.has(name) && !changes.has(name);
  });
  for (const [name, value] of changes) {
    if (!removed.has(name)) kept.push(`${escaped(name).replaceAll("=", "%3D")}=${escaped(value)}`);
  }
  const name = question < 0 ? whole : whole.slice(0, question);
  return kept.length === 0 ? name : `${name}?${kept.join("&")}`;
}

function nameOf(parameter: string): string {
  const equals = parameter.indexOf("=");
  const name = equals < 0 ? parameter : parameter.slice(0, equals);
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/** What would end the parameter, the query or the request line is percent-encoded; an encoding that is there stays. */
function escaped(text: string): string {
  return text.replace(/[^A-Za-z0-9\-._~!$'()*+,;:@/?%=]/gu, (char) => {
    let out = "";
    for (const byte of new TextEncoder().encode(char)) {
      out += `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
    }
    return out;
  });
}
