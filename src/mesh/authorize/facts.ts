/** What policies are asked about a connection, and the form in which matchers read it. */
import { parseIp } from "../ip.ts";
import { parseSpiffeId } from "../spiffe.ts";

export interface ConnectionFacts {
  /** The TCP peer's. */
  readonly sourceIp: string;
  /** Proved by mTLS; undefined for plaintext. */
  readonly sourceIdentity: string | undefined;
  /** Of the next hop: the pod's ip and the port that is connected to. */
  readonly destinationIp: string;
  readonly destinationPort: number;
}

/** `ConnectionFacts`, taken apart once for all policies. */
export interface PreparedFacts {
  readonly source: Uint8Array | undefined;
  readonly destination: Uint8Array | undefined;
  readonly destinationPort: number;
  /** The identity without its scheme; undefined: none. */
  readonly principal: string | undefined;
  /** "" without an identity. */
  readonly namespace: string;
  readonly serviceAccount: string | undefined;
}

/** An identity that is not an Istio SPIFFE id counts as none: it can satisfy no positive match. */
export function prepareFacts(facts: ConnectionFacts): PreparedFacts {
  const identity = facts.sourceIdentity === undefined ? undefined : parseSpiffeId(facts.sourceIdentity);
  return {
    source: parseIp(facts.sourceIp),
    destination: parseIp(facts.destinationIp),
    destinationPort: facts.destinationPort,
    principal: identity === undefined ? undefined : facts.sourceIdentity?.slice("spiffe://".length),
    namespace: identity?.namespace ?? "",
    serviceAccount: identity?.serviceAccount,
  };
}
