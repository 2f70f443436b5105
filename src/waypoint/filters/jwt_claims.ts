/** What a token says of itself, judged each time that it is used: who it is from, who it is for, and when. */
import { Buffer } from "node:buffer";
import type { TextPredicate } from "../match/text.ts";
import type { JwtProviderSpec } from "../spec/mod.ts";
import type { JwtFailure, TokenVerdict } from "./jwt_verdict.ts";

export interface CompiledProvider {
  readonly spec: JwtProviderSpec;
  readonly subject: TextPredicate | undefined;
}

/** Undefined: it is good. Of several faults the one is named that Envoy finds first: what it claims, and only then who signed it. */
export function judgeToken(
  verdict: TokenVerdict,
  token: string,
  provider: CompiledProvider,
  audiences: readonly string[],
  nowSeconds: number,
): JwtFailure | undefined {
  if (verdict.ok) return judgeClaims(verdict.token.payload, provider, audiences, nowSeconds);
  const claims = unverifiedClaims(token);
  return (claims && judgeClaims(claims, provider, audiences, nowSeconds)) ?? verdict.failure;
}

/** Who it is from, who it is for, and when. */
function judgeClaims(
  payload: Readonly<Record<string, unknown>>,
  { spec, subject }: CompiledProvider,
  audiences: readonly string[],
  nowSeconds: number,
): JwtFailure | undefined {
  if (spec.issuer !== "" && payload["iss"] !== spec.issuer) return "Jwt issuer is not configured";
  if (subject !== undefined && !(typeof payload["sub"] === "string" && subject(payload["sub"]))) {
    return "Jwt subject is not allowed";
  }
  const { exp, nbf } = payload;
  if (
    exp === undefined ? spec.requireExpiration : !(typeof exp === "number" && nowSeconds <= exp + spec.clockSkewSeconds)
  ) {
    return "Jwt is expired";
  }
  if (nbf !== undefined && !(typeof nbf === "number" && nowSeconds >= nbf - spec.clockSkewSeconds)) {
    return "Jwt not yet valid";
  }
  if (audiences.length === 0) return undefined;
  const given = Array.isArray(payload["aud"]) ? payload["aud"] : [payload["aud"]];
  const isFor = given.some((audience) =>
    typeof audience === "string" && audiences.some((one) => plain(one) === plain(audience))
  );
  return isFor ? undefined : "Audiences in Jwt are not allowed";
}

/** Envoy compares audiences without scheme and without a slash at the end. */
function plain(audience: string): string {
  return audience.replace(/^https?:\/\//, "").replace(/\/$/, "");
}

/** For the words of a refusal only. Undefined for what is no token. */
function unverifiedClaims(token: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
    return typeof claims === "object" && claims !== null && !Array.isArray(claims)
      ? claims as Readonly<Record<string, unknown>>
      : undefined;
  } catch {
    return undefined;
  }
}
