/** Why a call to istiod failed, in words for an operator, and of which kind, for who decides what to do next. */
import { Code, ConnectError } from "@connectrpc/connect";

/**
 * `connect`: there was no connection. `status`: istiod answered with an error. `stream`: the connection was lost, or what came over
 * it was no gRPC. `limit`: istiod sent more than is taken. `local`: something of our own is missing: the token, the roots.
 */
export type IstiodErrorKind = "connect" | "status" | "stream" | "limit" | "local";

export class IstiodError extends Error {
  override readonly name = "IstiodError";
  readonly kind: IstiodErrorKind;
  /** The gRPC status where there is one: `unavailable`, `unauthenticated`. */
  readonly status: string | undefined;

  constructor(kind: IstiodErrorKind, message: string, status?: string, cause?: unknown) {
    super(message, { cause });
    this.kind = kind;
    this.status = status;
  }
}

const STATUS_HINTS: Partial<Record<Code, string>> = {
  [Code.Unauthenticated]:
    "check that the token (AUTH_TOKEN of a ztunnel) is one of the proxy's own service account, for istiod's audience",
  [Code.PermissionDenied]: "check that istiod trusts the service account (for a ztunnel: CA_TRUSTED_NODE_ACCOUNTS)",
  [Code.Unimplemented]: "is this istiod, and is ambient mode enabled there?",
};

/** Text and kind of anything a call can fail with. */
export function toIstiodError(cause: unknown, address: string): IstiodError {
  if (cause instanceof IstiodError) return cause;
  if (!(cause instanceof ConnectError)) {
    return new IstiodError("stream", `${address}: ${textOf(cause)}`, undefined, cause);
  }
  const own = ownError(cause);
  if (own !== undefined) return own;
  const status = statusName(cause.code);
  // What the runtime's HTTP/2 reports is wrapped by connect, with the original as cause; a status from the server has none. What
  // connect itself finds wrong with a stream begins like this.
  if (cause.cause !== undefined || /^(?:http\/2 |protocol error)/.test(cause.rawMessage)) {
    const text = cause.cause === undefined ? cause.rawMessage : textOf(cause.cause);
    return new IstiodError("stream", `the connection to ${address} broke: ${text}`, status, cause);
  }
  const hint = STATUS_HINTS[cause.code];
  const text = `${address} answered ${status}: ${cause.rawMessage || "no reason given"}`;
  return new IstiodError("status", hint === undefined ? text : `${text} (${hint})`, status, cause);
}

function ownError(error: ConnectError): IstiodError | undefined {
  let cause: unknown = error.cause;
  for (let depth = 0; depth < 4 && cause instanceof Error; depth++, cause = cause.cause) {
    if (cause instanceof IstiodError) return cause;
  }
  return undefined;
}

/** `DeadlineExceeded` → `deadline_exceeded`, as gRPC writes it. */
function statusName(code: Code): string {
  return Code[code].replace(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}

export function textOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** Why no connection came about. `roots`: where the roots came from. */
export function describeConnectFailure(cause: unknown, address: string, roots: string): string {
  const code = (cause as { code?: unknown } | undefined)?.code;
  const text = textOf(cause);
  switch (code) {
    case "ECONNREFUSED":
      return `cannot reach ${address}: connection refused; is istiod running and ready?`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `cannot reach ${address}: its name does not resolve (${text})`;
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return `cannot trust ${address}: its certificate is for another name (${text}); if that is right, set ` +
        "ALT_XDS_HOSTNAME or ALT_CA_HOSTNAME";
    case "CERT_HAS_EXPIRED":
    case "CERT_NOT_YET_VALID":
      return `cannot trust ${address}: ${text}; check the clocks of both machines`;
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
    case "UNABLE_TO_GET_ISSUER_CERT":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
    case "SELF_SIGNED_CERT_IN_CHAIN":
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "CERT_SIGNATURE_FAILURE":
      // Deno says no more than this, whatever is wrong.
      return `cannot trust ${address}: its certificate does not chain to a root in ${roots}, or is not valid now (${text})`;
    default:
      return `cannot reach ${address}: ${text}`;
  }
}
