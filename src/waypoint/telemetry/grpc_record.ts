/** A record of Envoy's gRPC access log, as plain data: export/als.ts encodes it. */
import type { FormatFacts } from "../format/facts.ts";
import { first } from "../http/fields.ts";
import type { GrpcLogRecord, GrpcLogRequest } from "./messages.ts";

export function grpcRecord(facts: FormatFacts): GrpcLogRecord {
  const { connection, request } = facts;
  const startedAtMs = request?.facts.startedAtMs ?? connection.startedAtMs;
  return {
    kind: "grpc",
    startMs: facts.startedAtWallMs,
    durationMs: Math.max(0, (facts.endedAtMs ?? facts.nowMs) - startedAtMs),
    source: connection.source,
    destination: connection.destination,
    peerPrincipal: connection.peerPrincipal,
    localPrincipal: connection.localPrincipal,
    sni: connection.sni,
    upstreamHost: facts.upstreamHost,
    upstreamLocalAddress: facts.upstreamLocalAddress,
    upstreamCluster: facts.upstreamCluster,
    upstreamFailure: facts.upstreamFailure,
    routeName: facts.routeName,
    flags: facts.responseFlags === "" ? [] : facts.responseFlags.split(","),
    terminationDetails: facts.connectionTermination,
    bytesReceived: facts.bytesReceived,
    bytesSent: facts.bytesSent,
    request: requestOf(facts),
  };
}

function requestOf({ request }: FormatFacts): GrpcLogRequest | undefined {
  if (request === undefined) return undefined;
  const { head, original, facts, exchange: { bytes }, details } = request;
  const header = (name: string) => first(head.headers, name) ?? "";
  return {
    version: head.version,
    method: original.method,
    scheme: head.scheme,
    authority: original.authority,
    path: original.path,
    userAgent: header("user-agent"),
    referer: header("referer"),
    forwardedFor: header("x-forwarded-for"),
    requestId: header("x-request-id"),
    status: facts.status,
    details,
    headBytesReceived: bytes.headReceived,
    headBytesSent: bytes.headSent,
    attempts: facts.attempts,
  };
}
