/** Issuers of tokens: keys of their own, and JWTs by node:crypto alone, so that a wrong one can be made too. */
import { Buffer } from "node:buffer";
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";

type Json = Readonly<Record<string, unknown>>;

const base64 = (value: Json | Uint8Array): string =>
  (value instanceof Uint8Array ? Buffer.from(value) : Buffer.from(JSON.stringify(value))).toString("base64url");

export class Issuer {
  readonly name: string;
  readonly #algorithm: "RS256" | "ES256";
  readonly #privateKey: KeyObject;
  readonly #publicKey: KeyObject;

  constructor(name: string, algorithm: "RS256" | "ES256" = "ES256") {
    this.name = name;
    this.#algorithm = algorithm;
    const { privateKey, publicKey } = algorithm === "RS256"
      ? generateKeyPairSync("rsa", { modulusLength: 2048 })
      : generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.#privateKey = privateKey;
    this.#publicKey = publicKey;
  }

  get keySet(): string {
    const key = this.#publicKey.export({ format: "jwk" });
    return JSON.stringify({ keys: [{ ...key, kid: this.name, alg: this.#algorithm, use: "sig" }] });
  }

  /** Good for an hour, unless the claims say otherwise. */
  token(claims: Json = {}, header: Json = {}): string {
    const now = Math.floor(Date.now() / 1000);
    const payload = { iss: this.name, sub: "ann", iat: now, exp: now + 3600, ...claims };
    const signed = `${base64({ alg: this.#algorithm, typ: "JWT", kid: this.name, ...header })}.${base64(payload)}`;
    return `${signed}.${base64(this.#sign(signed))}`;
  }

  #sign(text: string): Uint8Array {
    return sign("sha256", Buffer.from(text), { key: this.#privateKey, dsaEncoding: "ieee-p1363" });
  }
}

/** Signed by nobody. */
export function unsignedToken(claims: Json): string {
  return `${base64({ alg: "none", typ: "JWT" })}.${base64(claims)}.`;
}

export function payloadOf(token: string): Json {
  return JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()) as Json;
}

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
