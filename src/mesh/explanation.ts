/** What explain.ts says of a connection: plain data, the same in JSON. */
import type { PolicyFinding } from "./authorize/findings.ts";
import type { PolicyKey } from "./types.ts";

export interface Explanation {
  readonly from: ClientFacts;
  readonly to: { readonly address: string; readonly service: string | undefined };
  /** `depends`: some of the possible ends refuse. */
  readonly outcome: "allowed" | "denied" | "depends";
  /** One sentence. */
  readonly summary: string;
  /** Every way it may go; more than one where a choice by chance is made. */
  readonly routes: readonly Route[];
  /** Every pod it may end at, as far as known. */
  readonly destinations: readonly Destination[];
  /** What cannot be known here, and what was left out. */
  readonly notes: readonly string[];
}

export interface ClientFacts {
  readonly workload: string;
  readonly uid: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly identity: string;
  readonly ip: string;
  readonly node: string;
  /** Its traffic goes through a ztunnel. */
  readonly inMesh: boolean;
}

export interface Route {
  readonly kind: "direct" | "waypoint" | "gateway" | "plain" | "passthrough" | "refused";
  readonly protocol: "HBONE" | "DOUBLEHBONE" | "TCP" | undefined;
  /** `ip:port` that is connected to; a host name where DNS decides. */
  readonly nextHop: string | undefined;
  /** The workload at the next hop. */
  readonly workload: string | undefined;
  /** What the tunnel is asked for. */
  readonly authority: string | undefined;
  /** The next hop must prove one of these. */
  readonly expectedIdentities: readonly string[];
  /** Of a tunnel in the tunnel. */
  readonly innerIdentities: readonly string[];
  /** Why it is refused, and what to try. */
  readonly refusal: { readonly message: string; readonly hint: string } | undefined;
}

export interface Destination {
  readonly workload: string;
  readonly uid: string;
  readonly address: string;
  readonly node: string;
  /** Served by the proxy that answers, whose policies these are. */
  readonly local: boolean;
  /** Whether a ztunnel asks policies there at all. */
  readonly enforced: boolean;
  /** What the destination takes the client for. */
  readonly seenAs: { readonly ip: string; readonly identity: string | undefined };
  readonly allowed: boolean;
  readonly reason: string;
  readonly explanation: string;
  /** Policies that apply and are not known or not readable: they refuse until they come. */
  readonly missing: readonly PolicyKey[];
  readonly policies: readonly PolicyFinding[];
  /** What would be, were the dry-run policies enforced; undefined without any. */
  readonly ifDryRunEnforced: { readonly allowed: boolean; readonly reason: string } | undefined;
}
