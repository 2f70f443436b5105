/**
 * Which TLS is spoken (reference ztunnel 5.9): versions, suites and key exchange. Everything else of a context is the same for all.
 */
import { crypto, opensslVersion, ssl, takeErrors } from "./openssl.ts";
import { type Pointer, runtime } from "./runtime.ts";

export interface TlsPolicy {
  /** TLS 1.2 beside 1.3 (TLS12_ENABLED). */
  readonly tls12: boolean;
  /** Only the hybrid post-quantum key exchange (COMPLIANCE_POLICY=pqc), which leaves TLS 1.3 alone. */
  readonly pqc: boolean;
}

export const DEFAULT_POLICY: TlsPolicy = { tls12: false, pqc: false };

const SSL_CTRL_SET_GROUPS_LIST = 92;
const SSL_CTRL_SET_MIN_PROTO_VERSION = 123;
const SSL_CTRL_SET_MAX_PROTO_VERSION = 124;
const TLS1_2_VERSION = 0x0303;
const TLS1_3_VERSION = 0x0304;

/** ztunnel's suites, the cheaper one first: both are strong, and as a server we choose by our own order. */
const SUITES = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
const TLS12_SUITES =
  "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";

/** OpenSSL has it from 3.5 on. */
const HYBRID_GROUP = "X25519MLKEM768";

const encoder = new TextEncoder();
const text = (value: string) => encoder.encode(value + "\0");
/** They live as long as the module: OpenSSL is given their address only. */
const CLASSIC = text("X25519:P-256:P-384");
const HYBRID = text(HYBRID_GROUP);
/** The client sends its share for the first: a peer that insists on the hybrid one asks for it. */
const CLASSIC_OR_HYBRID = text(`X25519:P-256:P-384:${HYBRID_GROUP}`);
/** Whether the loaded library has the hybrid group; asked once. */
let hybrid: boolean | undefined;

/** Sets it on a fresh context. Throws when the library cannot do what the policy asks for. */
export function configureProtocol(context: Pointer, policy: TlsPolicy = DEFAULT_POLICY): void {
  const { tls12, pqc } = policy;
  const lowest = tls12 && !pqc ? TLS1_2_VERSION : TLS1_3_VERSION;
  must(ssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, lowest, null), "set the lowest version");
  must(ssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_MAX_PROTO_VERSION, TLS1_3_VERSION, null), "set the highest version");
  must(ssl.SSL_CTX_set_ciphersuites(context, text(SUITES)), "set the cipher suites");
  if (lowest === TLS1_2_VERSION) {
    must(ssl.SSL_CTX_set_cipher_list(context, text(TLS12_SUITES)), "set the cipher suites of TLS 1.2");
  }
  hybrid ??= setGroups(context, HYBRID);
  if (pqc && !hybrid) {
    throw new Error(
      `TLS context: COMPLIANCE_POLICY=pqc needs the key exchange ${HYBRID_GROUP}, which ${opensslVersion()} does not ` +
        `have: use OpenSSL 3.5 or later, or unset COMPLIANCE_POLICY`,
    );
  }
  if (!setGroups(context, pqc ? HYBRID : hybrid ? CLASSIC_OR_HYBRID : CLASSIC)) {
    throw new Error("TLS context: cannot set the key exchange groups");
  }
}

/** Throws when this machine's OpenSSL cannot do what the policy asks for; to be asked at the start. */
export function provePolicy(policy: TlsPolicy): void {
  const context = ssl.SSL_CTX_new(ssl.TLS_method());
  if (context === null) throw new Error(`TLS context: cannot allocate: ${takeErrors()}`);
  try {
    configureProtocol(context, policy);
  } finally {
    ssl.SSL_CTX_free(context);
  }
}

/** False when the library does not know one of them. */
function setGroups(context: Pointer, list: Uint8Array): boolean {
  const known =
    ssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_GROUPS_LIST, 0, runtime.pointerFrom(runtime.addressOf(list))) === 1;
  crypto.ERR_clear_error();
  return known;
}

function must(outcome: number, what: string): void {
  if (outcome !== 1) throw new Error(`TLS context: cannot ${what}: ${takeErrors()}`);
}
