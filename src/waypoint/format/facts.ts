/**
 * What a format may speak of: a request, or a connection without one. Logs, header changes and tags of spans read the same facts, waypoint.md 6.3.
 * An empty text is "nothing to say": a log prints a dash, a header stays away.
 */
import type { ConnectionInfo } from "../engine/connection_info.ts";
import type { RequestContext } from "../engine/request_context.ts";
import type { UpstreamHost } from "../upstream/upstream.ts";

export interface FormatFacts {
  readonly connection: ConnectionInfo;
  /** Undefined for a connection's own log. */
  readonly request: RequestContext | undefined;
  readonly startedAtWallMs: number;
  readonly nowMs: number;
  readonly responseFlags: string;
  readonly routeName: string;
  readonly chainName: string;
  readonly upstreamHost: string;
  /** Of a connection without a request: a request knows its own. */
  readonly host?: UpstreamHost | undefined;
  readonly upstreamCluster: string;
  readonly upstreamLocalAddress: string;
  readonly upstreamFailure: string;
  readonly connectionTermination: string;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  readonly endedAtMs: number | undefined;
}
