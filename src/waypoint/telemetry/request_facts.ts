/** A request as formats see it (format/facts.ts). */
import type { RequestContext } from "../engine/request_context.ts";
import type { FormatFacts } from "../format/facts.ts";

/** The route is looked for where nobody has yet: Envoy names it also for a request that a filter answered. */
export function requestFormatFacts(context: RequestContext, nowMs: number): FormatFacts {
  const { facts, exchange: { bytes }, flags } = context;
  return {
    connection: context.connection,
    request: context,
    startedAtWallMs: facts.startedAtWallMs,
    nowMs,
    responseFlags: flags.size === 0 ? "" : [...flags].join(","),
    routeName: context.route()?.name ?? "",
    chainName: context.chain.name,
    upstreamHost: facts.host?.shown ?? "",
    upstreamCluster: facts.upstreamCluster,
    upstreamLocalAddress: facts.upstreamLocalAddress,
    upstreamFailure: facts.upstreamFailure,
    connectionTermination: facts.connectionTermination,
    bytesReceived: bytes.received,
    bytesSent: bytes.sent,
    endedAtMs: facts.endedAtMs,
  };
}
