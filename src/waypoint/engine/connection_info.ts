/**
 * What is known of a connection before its first byte: waypoint.md appendix B, in place of Envoy's filter state. Names of Envoy's keys are mapped to it
 * where formats and policies name them.
 */
import type { WorkloadSpec } from "../spec/mod.ts";

export interface ConnectionInfo {
  /** `:authority` of the CONNECT request. */
  readonly authority: string;
  /** Where the client wanted to go: `ip:port` of a service or pod. */
  readonly destination: { readonly ip: string; readonly port: number };
  /** The client pod's address: the peer of the HBONE connection. */
  readonly source: { readonly ip: string; readonly port: number };
  /** Verified SPIFFE id of the client; "" never on 15008. */
  readonly peerPrincipal: string;
  readonly localPrincipal: string;
  /** Who the source address belongs to; undefined when istiod did not say. */
  readonly downstreamPeer: WorkloadSpec | undefined;
  /** Of a TLS client hello inside the connection, where it was looked at. */
  readonly sni: string;
  /** From the clock of the worker, milliseconds. */
  readonly startedAtMs: number;
  /** Unique in this process. */
  readonly id: number;
}
