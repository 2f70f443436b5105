/** Answers that the waypoint gives itself: to gRPC clients as trailers alone, since they read no body (waypoint.md appendix E). */
import type { RequestHead } from "../http/exchange.ts";
import { first } from "../http/fields.ts";
import type { LocalAnswer } from "./request_context.ts";

export function isGrpc(head: RequestHead): boolean {
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
  readonly body: string;
}

export function localResponse(head: RequestHead, answer: LocalAnswer): LocalResponse {
  const headers = [...answer.headers ?? []];
  if (isGrpc(head)) {
    const grpcStatus = answer.grpcStatus ?? grpcStatusOf(answer.status);
    headers.push("content-type", "application/grpc", "grpc-status", String(grpcStatus));
    if (answer.body !== "") headers.push("grpc-message", percentEncoded(answer.body));
    return { status: 200, headers, body: "" };
  }
  if (answer.body !== "" && first(headers, "content-type") === undefined) headers.push("content-type", "text/plain");
  headers.push("content-length", String(answer.body.length));
  return { status: answer.status, headers, body: head.method === "HEAD" ? "" : answer.body };
}

/** As grpc-message is written: everything but printable ASCII, and the percent sign itself. */
function percentEncoded(text: string): string {
  return text.replace(/[^\x20-\x24\x26-\x7e]/g, (char) => {
    return [...new TextEncoder().encode(char)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`)
      .join("");
  });
}
