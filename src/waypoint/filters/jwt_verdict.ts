/** What a token came to, in the words of Envoy's jwt_verify_lib, which clients and dashboards know. */

export interface VerifiedToken {
  readonly payload: Readonly<Record<string, unknown>>;
  readonly header: Readonly<Record<string, unknown>>;
  /** As it came, base64url. */
  readonly encodedPayload: string;
}

export type JwtFailure =
  | "Jwt is missing"
  | "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
  | "Jwt header is an invalid Base64url encoded"
  | "Jwt payload is an invalid Base64url encoded"
  | "Jwt issuer is not configured"
  | "Audiences in Jwt are not allowed"
  | "Jwt is expired"
  | "Jwt not yet valid"
  | "Jwks doesn't have key to match kid or alg from Jwt"
  | "Jwt verification fails"
  | "Jwks remote fetch is failed"
  | "Jwt header [alg] is not supported"
  | "Jwt subject is not allowed";

export type TokenVerdict =
  | { readonly ok: true; readonly token: VerifiedToken }
  | { readonly ok: false; readonly failure: JwtFailure };

/**
 * Judges signatures. It answers later, from another turn, or at once for a token that it has judged before: keys are looked up and signatures
 * checked on the main thread, so that a worker never waits.
 */
export interface TokenVerifier {
  verify(provider: string, token: string, done: (verdict: TokenVerdict) => void): void;
}
