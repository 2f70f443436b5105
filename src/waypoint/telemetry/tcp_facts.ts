/** Connections as formats see them (format/facts.ts). */
import type { FormatFacts } from "../format/facts.ts";
import type { TcpFacts } from "../worker/hooks.ts";

export type { TcpFacts } from "../worker/hooks.ts";

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
