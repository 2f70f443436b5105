/** Answers that the waypoint gives itself: to gRPC clients as trailers alone, since they read no body (waypoint.md appendix E). */
import type { RequestHead } from "../http/exchange.ts";
import { first, set } from "../http/fields.ts";
import type { LocalAnswer } from "./request_context.ts";

export function isGrpc(head: Pick<RequestHead, "headers">): boolean {
  const type = first(head.headers, "content-type");
  if (type === undefined || !type.startsWith("application/grpc")) return false;
  const next = type["application/grpc".length];
  return next === undefined || next === "+" || next === ";";
}

/** Of an HTTP status, as gRPC's own mapping has it. */
export function grpcStatusOf(status: number): number {
  switch (status) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    default:
      return 2;
  }
}

export interface LocalResponse {
  readonly status: number;
  readonly headers: string[];
  readonly body: Uint8Array;
}

const NO_BODY = new Uint8Array(0);
const UTF8 = new TextEncoder();

export function localResponse(head: RequestHead, answer: LocalAnswer): LocalResponse {
  const headers = [...answer.headers ?? []];
  const body = typeof answer.body === "string" ? UTF8.encode(answer.body) : answer.body;
  if (isGrpc(head)) {
    const grpcStatus = answer.grpcStatus ?? grpcStatusOf(answer.status);
    set(headers, "content-type", "application/grpc");
    set(headers, "grpc-status", String(grpcStatus));
    if (body.length > 0) set(headers, "grpc-message", percentEncoded(body.subarray(0, MAX_GRPC_MESSAGE_BYTES)));
    return { status: 200, headers, body: NO_BODY };
  }
  if (body.length > 0 && first(headers, "content-type") === undefined) headers.push("content-type", "text/plain");
  // RFC 9110 section 8.6: a 204 says nothing of a length.
  if (answer.status !== 204) headers.push("content-length", String(body.length));
  return { status: answer.status, headers, body: head.method === "HEAD" ? NO_BODY : body };
}

/** It is a header, and a client's limit for all of them is often 8 KiB. */
const MAX_GRPC_MESSAGE_BYTES = 2048;

/** As grpc-message is written: everything but printable ASCII, and the percent sign itself. */
function percentEncoded(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    text += isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return text;
}
