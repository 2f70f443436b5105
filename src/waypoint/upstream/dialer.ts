/** From an endpoint to a byte stream: what clusters ask for. A worker has worker_dialer.ts for it, a test streams in memory. */
import type { EndpointReach, TransportSpec } from "../spec/mod.ts";
import type { OwnedStream } from "../transport/owned_stream.ts";
import type { UpstreamFailure, Wait } from "./upstream.ts";

/** Both ends of a client's connection, as a PROXY header tells them. */
export interface ProxiedEnds {
  readonly source: { readonly ip: string; readonly port: number };
  readonly destination: { readonly ip: string; readonly port: number };
}

export interface DialRequest {
  /** Hosts of `direct` are addresses by now. */
  readonly reach: EndpointReach;
  /** Of the bytes inside: `raw`, TLS, behind a PROXY header. */
  readonly transport: TransportSpec;
  /** For TLS with `autoSni` and `autoSan`: the request's host, or the SNI. */
  readonly serverName: string;
  /** Asked for by ALPN where the configuration names none; "" nothing. */
  readonly protocol: "h2" | "http/1.1" | "";
  /** From the first packet to the last handshake. */
  readonly timeoutMs: number;
  readonly keepalive:
    | { readonly idleSeconds: number; readonly intervalSeconds: number; readonly probes: number }
    | undefined;
  /** Undefined where no PROXY header is asked for. */
  readonly ends: ProxiedEnds | undefined;
}

/** A stream that tells its pool when it is over. */
export type DialedStream = OwnedStream;

/** Told once. */
export interface DialWaiter {
  /** Set the sink before returning. `localAddress`: `ip:port` of our end, "" unknown. */
  dialed(stream: DialedStream, localAddress: string): void;
  dialFailed(failure: UpstreamFailure): void;
}

export interface Dialer {
  /** May answer from within; `cancel` gives up without a further call. */
  dial(request: DialRequest, waiter: DialWaiter): Wait;
}
