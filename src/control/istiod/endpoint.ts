/** Where istiod is and how it and we prove who we are; xDS and the CA have one each. */
import type { RootSource, TokenSource } from "../../cli/config.ts";

export interface IstiodEndpoint {
  /** `https://host:port`. */
  readonly address: string;
  readonly root: RootSource;
  /** Accepted as the server's name beside the address's own host. */
  readonly altHostname: string | undefined;
  /** Extra metadata, names in lower case. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly token: TokenSource;
  readonly clusterId: string;
  readonly tls12Enabled: boolean;
  /** Only a key exchange that withstands quantum computers. */
  readonly pqc: boolean;
}

/** `limit`s of a connection; tests shorten them. */
export interface ConnectionLimits {
  /** For the TCP connection, and again for TLS. */
  readonly connectMs: number;
  /** Between keepalive PINGs while calls are open. */
  readonly pingIntervalMs: number;
  /** For the answer to one. */
  readonly pingTimeoutMs: number;
}

/** ztunnel's; its TLS handshake has no limit, here it has the same. */
export const CONNECTION_LIMITS: ConnectionLimits = { connectMs: 5_000, pingIntervalMs: 30_000, pingTimeoutMs: 10_000 };
