/** envoy.service.auth.v3.Authorization/Check by gRPC: one message there, one back. */
import { Buffer } from "node:buffer";
import type { ConnectionInfo } from "../engine/connection_info.ts";
import type { RequestContext } from "../engine/request_context.ts";
import type { FieldList, RequestHead } from "../http/exchange.ts";
import { first } from "../http/fields.ts";
import { compileText, type TextPredicate } from "../match/text.ts";
import type { ExtAuthzSpec } from "../spec/mod.ts";
import { type CheckHttp, type CheckPeer, encodeCheckRequest } from "./check_message.ts";
import { grpcVerdict, type Verdict } from "./ext_authz_verdict.ts";
import type { CallReply } from "./upstream_call.ts";

export type GrpcService = Extract<ExtAuthzSpec["service"], { readonly kind: "grpc" }>;

const PATH = "/envoy.service.auth.v3.Authorization/Check";
const PREFIX_BYTES = 5;
/** Whether the body that the service sees is all of it. */
export const PARTIAL_BODY = "x-envoy-auth-partial-body";

/** The body of a request as far as the service is told of it. */
export interface CheckBody {
  readonly bytes: Uint8Array;
  readonly isPartial: boolean;
}

export function grpcHead({ authority, timeoutMs }: GrpcService): RequestHead {
  const headers = ["content-type", "application/grpc", "te", "trailers"];
  if (timeoutMs > 0) headers.push("grpc-timeout", `${timeoutMs}m`);
  return {
    method: "POST",
    path: PATH,
    authority,
    scheme: "http",
    version: "2",
    headers,
    upgrade: "",
    contentLength: -1,
    expectsContinue: false,
    wireBytes: 0,
  };
}

/** `allowed`: names of headers that the service is told; undefined: all. */
export function compileAllowed({ allowedHeaders }: GrpcService): ((name: string) => boolean) | undefined {
  if (allowedHeaders === undefined) return undefined;
  const tests: readonly TextPredicate[] = allowedHeaders.map(compileText);
  return (name) => tests.some((test) => test(name));
}

export function httpCheck(
  context: RequestContext,
  body: CheckBody | undefined,
  bodyAsBytes: boolean,
  allowed: ((name: string) => boolean) | undefined,
): Uint8Array {
  const { connection, head, exchange } = context;
  const size = body !== undefined && !body.isPartial ? body.bytes.length : exchange.bodyEnded ? 0 : head.contentLength;
  const http: CheckHttp = {
    id: String(context.id),
    method: head.method,
    path: head.path,
    host: head.authority,
    scheme: head.scheme,
    protocol: `HTTP/${head.version}`,
    headers: toldHeaders(head, body, allowed),
    size,
    body: body?.bytes,
    bodyAsBytes,
  };
  return framed(encodeCheckRequest({ ...peers(connection), wallMs: context.facts.startedAtWallMs, http }));
}

export function connectionCheck(connection: ConnectionInfo, wallMs: number): Uint8Array {
  return framed(encodeCheckRequest({ ...peers(connection), wallMs, http: undefined }));
}

/** The client by its verified identity, which Envoy's waypoint does not tell: it is not that of the inner connection's TLS. */
function peers(
  { source, destination, peerPrincipal, localPrincipal }: ConnectionInfo,
): { readonly source: CheckPeer; readonly destination: CheckPeer } {
  return {
    source: { ...source, principal: peerPrincipal },
    destination: { ...destination, principal: localPrincipal },
  };
}

/** Each name once, several values joined, as the API's map has them. */
function toldHeaders(
  head: RequestHead,
  body: CheckBody | undefined,
  allowed: ((name: string) => boolean) | undefined,
): FieldList {
  const told = new Map([
    [":authority", head.authority],
    [":method", head.method],
    [":path", head.path],
    [":scheme", head.scheme],
  ]);
  const { headers } = head;
  for (let i = 0; i < headers.length; i += 2) {
    const known = told.get(headers[i]);
    told.set(headers[i], known === undefined ? headers[i + 1] : `${known},${headers[i + 1]}`);
  }
  // A client's own word about it is none.
  told.delete(PARTIAL_BODY);
  const fields: FieldList = [];
  for (const [name, value] of told) if (allowed === undefined || allowed(name)) fields.push(name, value);
  if (body !== undefined) fields.push(PARTIAL_BODY, String(body.isPartial));
  return fields;
}

function framed(message: Uint8Array): Uint8Array {
  const frame = Buffer.alloc(PREFIX_BYTES + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, PREFIX_BYTES);
  return frame;
}

export function grpcReply({ status, headers, body, trailers }: CallReply): Verdict {
  const error = (reason: string): Verdict => ({ kind: "error", reason });
  if (status !== 200) return error(`it answered HTTP ${status}`);
  if (!(first(headers, "content-type") ?? "").startsWith("application/grpc")) return error("it does not speak gRPC");
  const code = first(trailers, "grpc-status") ?? first(headers, "grpc-status");
  if (code !== "0") return error(code === undefined ? "its answer has no gRPC status" : `gRPC status ${code}`);
  if (body.length < PREFIX_BYTES) return error("its answer holds no message");
  // Nothing compressed was asked for.
  if (body[0] !== 0) return error("its message is compressed");
  const size = new DataView(body.buffer, body.byteOffset).getUint32(1);
  if (size !== body.length - PREFIX_BYTES) return error("its answer is not one message");
  return grpcVerdict(body.subarray(PREFIX_BYTES));
}
