/** Connections and refused CONNECT requests as formats see them (format/facts.ts). */
import type { ConnectionInfo } from "../engine/connection_info.ts";
import type { RequestContext, RequestFacts } from "../engine/request_context.ts";
import type { FormatFacts } from "../format/facts.ts";
import type { ConnectRefusal, TcpFacts } from "../worker/hooks.ts";

export type { ConnectRefusal, TcpFacts } from "../worker/hooks.ts";

export function tcpFormatFacts(facts: TcpFacts, nowMs: number): FormatFacts {
  const { connection, chain, host } = facts;
  return {
    connection,
    request: undefined,
    startedAtWallMs: facts.startedAtWallMs,
    nowMs,
    responseFlags: facts.flags,
    routeName: "",
    chainName: chain.name,
    upstreamHost: host?.shown ?? "",
    host,
    upstreamCluster: facts.upstreamCluster,
    upstreamLocalAddress: facts.upstreamLocalAddress,
    upstreamFailure: facts.upstreamFailure,
    connectionTermination: facts.connectionTermination.replaceAll(" ", "_"),
    bytesReceived: facts.bytesReceived,
    bytesSent: facts.bytesSent,
    endedAtMs: facts.endedAtMs,
  };
}

/** Envoy logs it as a request of the listener; there is no chain and no connection inside. */
export function connectFormatFacts(refusal: ConnectRefusal, localPrincipal: string, nowMs: number): FormatFacts {
  const { authority, source, peerPrincipal, status, reason, flags, startedAtWallMs } = refusal;
  const connection: ConnectionInfo = {
    authority,
    destination: { ip: "0.0.0.0", port: 15008 },
    source,
    peerPrincipal,
    localPrincipal,
    downstreamPeer: undefined,
    sni: "",
    startedAtMs: nowMs,
    id: 0,
  };
  const facts: RequestFacts = {
    startedAtMs: nowMs,
    startedAtWallMs,
    requestEndedAtMs: undefined,
    upstreamStartedAtMs: undefined,
    upstreamRequestEndedAtMs: undefined,
    upstreamRespondedAtMs: undefined,
    responseStartedAtMs: nowMs,
    endedAtMs: nowMs,
    status,
    responseHeaders: [],
    responseTrailers: [],
    grpcStatus: "",
    requestMessages: 0,
    responseMessages: 0,
    host: undefined,
    upstreamCluster: "",
    upstreamLocalAddress: "",
    upstreamFailure: "",
    connectionTermination: "",
    attempts: 0,
    cut: undefined,
  };
  const none = () => {};
  const request = {
    id: 0,
    connection,
    head: {
      method: "CONNECT",
      path: "",
      authority,
      scheme: "",
      version: "2",
      headers: [],
      upgrade: "",
      contentLength: 0,
      expectsContinue: false,
      wireBytes: 0,
    },
    original: { method: "CONNECT", path: "", authority },
    exchange: { bytes: { received: 0, sent: 0, headReceived: 0, headSent: 0 } },
    route: () => undefined,
    clearRoute: none,
    metadata: new Map(),
    flags: new Set(),
    details: reason,
    answer: none,
    bufferBody: none,
    onResponse: none,
    onEnd: none,
    facts,
  } as unknown as RequestContext;
  return {
    connection,
    request,
    startedAtWallMs,
    nowMs,
    responseFlags: flags,
    routeName: "",
    chainName: "",
    upstreamHost: "",
    upstreamCluster: "",
    upstreamLocalAddress: "",
    upstreamFailure: "",
    connectionTermination: "",
    bytesReceived: 0,
    bytesSent: 0,
    endedAtMs: nowMs,
  };
}
