/** What policies are asked about a connection, and the form in which matchers read it. */
import { parseIp } from "../ip.ts";
import { parseSpiffeId, type SpiffeParts } from "../spiffe.ts";

export interface ConnectionFacts {
  /** The TCP peer's. */
  readonly sourceIp: string;
  /** Proved by mTLS; undefined for plaintext. */
  readonly sourceIdentity: string | undefined;
  /** Of the next hop: the pod's ip and the port that is connected to. */
  readonly destinationIp: string;
  readonly destinationPort: number;
}

/**
 * `ConnectionFacts`, taken apart once for all policies, as far as they ask. An identity that is not an Istio SPIFFE id counts as none:
 * it can satisfy no positive match.
 */
export class PreparedFacts {
  readonly #facts: ConnectionFacts;
  readonly #identity: Identity | undefined;
  #source: Uint8Array | undefined;
  #destination: Uint8Array | undefined;

  constructor(facts: ConnectionFacts) {
    this.#facts = facts;
    this.#identity = facts.sourceIdentity === undefined ? undefined : identityParts(facts.sourceIdentity);
  }

  get source(): Uint8Array | undefined {
    return this.#source ??= parseIp(this.#facts.sourceIp);
  }

  get destination(): Uint8Array | undefined {
    return this.#destination ??= parseIp(this.#facts.destinationIp);
  }

  get destinationPort(): number {
    return this.#facts.destinationPort;
  }

  /** The identity without its scheme; undefined: none. */
  get principal(): string | undefined {
    return this.#identity?.principal;
  }

  /** "" without an identity. */
  get namespace(): string {
    return this.#identity === undefined ? "" : this.#identity.namespace;
  }

  get serviceAccount(): string | undefined {
    return this.#identity?.serviceAccount;
  }
}

export function prepareFacts(facts: ConnectionFacts): PreparedFacts {
  return new PreparedFacts(facts);
}

interface Identity extends SpiffeParts {
  readonly principal: string;
}

/** Identities taken apart of late: a pod has few clients, and each opens many connections. Forgotten all at once when there are many. */
const identities = new Map<string, Identity>();
const MAX_IDENTITIES = 256;

function identityParts(text: string): Identity | undefined {
  const known = identities.get(text);
  if (known !== undefined) return known;
  const parts = parseSpiffeId(text);
  if (parts === undefined) return undefined;
  const identity = { ...parts, principal: text.slice("spiffe://".length) };
  if (identities.size >= MAX_IDENTITIES) identities.clear();
  identities.set(text, identity);
  return identity;
}
