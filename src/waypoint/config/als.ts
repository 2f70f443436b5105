/** Records of Envoy's gRPC access log service as its messages. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Duration, DurationSchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { AddressSchema } from "../../gen/envoy/config/core/v3/address_pb.ts";
import { RequestMethod } from "../../gen/envoy/config/core/v3/base_pb.ts";
import {
  AccessLogCommonSchema,
  HTTPAccessLogEntry_HTTPVersion as HttpVersion,
  HTTPAccessLogEntrySchema,
  ResponseFlags_Unauthorized_Reason as UnauthorizedReason,
  ResponseFlagsSchema,
  TCPAccessLogEntrySchema,
} from "../../gen/envoy/data/accesslog/v3/accesslog_pb.ts";
import { StreamAccessLogsMessageSchema } from "../../gen/envoy/service/accesslog/v3/als_pb.ts";
import type { GrpcLogRecord } from "../telemetry/messages.ts";

export const ALS_PATH = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

/** The first message of a stream: who writes. */
export function encodeAlsIdentity(
  node: { readonly id: string; readonly cluster: string },
  logName: string,
): Uint8Array {
  return toBinary(
    StreamAccessLogsMessageSchema,
    create(StreamAccessLogsMessageSchema, { identifier: { node, logName } }),
  );
}

/** Requests, and connections, each in a message: one has place for either. */
export function encodeAls(records: readonly GrpcLogRecord[]): Uint8Array[] {
  const http = records.filter(({ request }) => request !== undefined).map(httpEntry);
  const tcp = records.filter(({ request }) => request === undefined).map((record) =>
    create(TCPAccessLogEntrySchema, {
      commonProperties: common(record),
      connectionProperties: {
        receivedBytes: BigInt(record.bytesReceived),
        sentBytes: BigInt(record.bytesSent),
      },
    })
  );
  const messages: Uint8Array[] = [];
  if (http.length > 0) messages.push(encode({ case: "httpLogs", value: { logEntry: http } }));
  if (tcp.length > 0) messages.push(encode({ case: "tcpLogs", value: { logEntry: tcp } }));
  return messages;
}

type LogEntries = NonNullable<
  Exclude<MessageInitShape<typeof StreamAccessLogsMessageSchema>, { $typeName: string }>["logEntries"]
>;

function encode(logEntries: LogEntries): Uint8Array {
  return toBinary(StreamAccessLogsMessageSchema, create(StreamAccessLogsMessageSchema, { logEntries }));
}

const VERSIONS = { "1.0": HttpVersion.HTTP10, "1.1": HttpVersion.HTTP11, "2": HttpVersion.HTTP2 };

function httpEntry(record: GrpcLogRecord) {
  const request = record.request!;
  const method = RequestMethod[request.method as keyof typeof RequestMethod] ?? RequestMethod.METHOD_UNSPECIFIED;
  return create(HTTPAccessLogEntrySchema, {
    commonProperties: common(record),
    protocolVersion: VERSIONS[request.version],
    request: {
      requestMethod: method,
      scheme: request.scheme,
      authority: request.authority,
      path: request.path,
      userAgent: request.userAgent,
      referer: request.referer,
      forwardedFor: request.forwardedFor,
      requestId: request.requestId,
      requestHeadersBytes: BigInt(request.headBytesReceived),
      requestBodyBytes: BigInt(record.bytesReceived),
    },
    response: {
      responseCode: request.status,
      responseCodeDetails: request.details,
      responseHeadersBytes: BigInt(request.headBytesSent),
      responseBodyBytes: BigInt(record.bytesSent),
    },
  });
}

function common(record: GrpcLogRecord) {
  const { source, destination, peerPrincipal, localPrincipal, sni, request } = record;
  const subject = (principal: string) =>
    principal === "" ? undefined : { subjectAltName: [{ san: { case: "uri" as const, value: principal } }] };
  return create(AccessLogCommonSchema, {
    downstreamRemoteAddress: address(source),
    downstreamDirectRemoteAddress: address(source),
    downstreamLocalAddress: address(destination),
    tlsProperties: {
      tlsSniHostname: sni,
      peerCertificateProperties: subject(peerPrincipal),
      localCertificateProperties: subject(localPrincipal),
    },
    startTime: timestampFromMs(Math.floor(record.startMs)),
    timeToLastDownstreamTxByte: duration(record.durationMs),
    duration: duration(record.durationMs),
    upstreamRemoteAddress: addressOfText(record.upstreamHost),
    upstreamLocalAddress: addressOfText(record.upstreamLocalAddress),
    upstreamCluster: record.upstreamCluster,
    upstreamTransportFailureReason: record.upstreamFailure,
    routeName: record.routeName,
    responseFlags: flags(record.flags),
    connectionTerminationDetails: record.terminationDetails,
    upstreamRequestAttemptCount: request?.attempts ?? 0,
  });
}

function duration(ms: number): Duration {
  const nanos = Math.round(ms * 1e6);
  return create(DurationSchema, { seconds: BigInt(Math.floor(nanos / 1e9)), nanos: nanos % 1e9 });
}

function address({ ip, port }: { readonly ip: string; readonly port: number }) {
  return create(AddressSchema, {
    address: {
      case: "socketAddress",
      value: { address: ip, portSpecifier: { case: "portValue", value: port } },
    },
  });
}

/** `ip:port`, or with the way to it before; undefined where there is none. */
function addressOfText(text: string) {
  const found = /(?:^|\/)\[?([0-9A-Fa-f.:]+?)\]?:(\d+)$/.exec(text);
  return found === null ? undefined : address({ ip: found[1], port: Number(found[2]) });
}

const FLAG_FIELDS: Readonly<Record<string, string>> = {
  UH: "noHealthyUpstream",
  UF: "upstreamConnectionFailure",
  UO: "upstreamOverflow",
  NR: "noRouteFound",
  NC: "noClusterFound",
  URX: "upstreamRetryLimitExceeded",
  UT: "upstreamRequestTimeout",
  DC: "downstreamConnectionTermination",
  UC: "upstreamConnectionTermination",
  UR: "upstreamRemoteReset",
  LR: "localReset",
  LH: "failedLocalHealthcheck",
  DPE: "downstreamProtocolError",
  UPE: "upstreamProtocolError",
  FI: "faultInjected",
  DI: "delayInjected",
  RL: "rateLimited",
  SI: "streamIdleTimeout",
  IH: "invalidEnvoyRequestHeaders",
  DT: "durationTimeout",
  UMSDR: "upstreamMaxStreamDurationReached",
  OM: "overloadManager",
  DF: "dnsResolutionFailure",
};

function flags(names: readonly string[]) {
  const known = names.flatMap((name) => FLAG_FIELDS[name] === undefined ? [] : [[FLAG_FIELDS[name], true] as const]);
  const unauthorizedDetails = names.includes("UAEX") ? { reason: UnauthorizedReason.EXTERNAL_SERVICE } : undefined;
  return create(ResponseFlagsSchema, { ...Object.fromEntries(known), unauthorizedDetails });
}
