/** Requests that never became one, as formats see them (format/facts.ts): CONNECT that was refused, and what is no HTTP. */
import type { ConnectionInfo } from "../engine/connection_info.ts";
import type { RequestContext, RequestFacts } from "../engine/request_context.ts";
import type { FormatFacts } from "../format/facts.ts";
import type { ConnectRefusal, MessageRefusal } from "../worker/hooks.ts";

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
  const head = { method: "CONNECT", path: "", authority, version: "2" } as const;
  return refusedFacts({ connection, head, status, reason, flags, chainName: "", startedAtWallMs, nowMs });
}

/** What it asked for is not known: the log has dashes there, as Envoy's. */
export function messageFormatFacts(refusal: MessageRefusal, nowMs: number): FormatFacts {
  const { chain, ...rest } = refusal;
  const head = { method: "", path: "", authority: "", version: "1.1" } as const;
  return refusedFacts({ ...rest, head, flags: "DPE", chainName: chain.name, nowMs });
}

interface Refused {
  readonly connection: ConnectionInfo;
  readonly head: {
    readonly method: string;
    readonly path: string;
    readonly authority: string;
    readonly version: "1.1" | "2";
  };
  readonly status: number;
  readonly reason: string;
  readonly flags: string;
  readonly chainName: string;
  readonly startedAtWallMs: number;
  readonly nowMs: number;
}

function refusedFacts(
  { connection, head, status, reason, flags, chainName, startedAtWallMs, nowMs }: Refused,
): FormatFacts {
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
  const { method, path, authority } = head;
  const request = {
    id: 0,
    connection,
    head: { ...head, scheme: "", headers: [], upgrade: "", contentLength: 0, expectsContinue: false, wireBytes: 0 },
    original: { method, path, authority },
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
    chainName,
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
