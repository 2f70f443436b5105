/**
 * The main thread's part of jwt_authn: keys, inline or fetched and kept, and signatures, by jose. What a token claims is judged in the workers, each
 * time: a verdict here says only who signed it.
 */
import { Buffer } from "node:buffer";
import { compactVerify, createLocalJWKSet, errors, type JSONWebKeySet } from "jose";
import type { JwtProviderSpec } from "../spec/mod.ts";
import type { JwtFailure, TokenVerdict } from "./jwt_verdict.ts";

type RemoteKeys = Extract<JwtProviderSpec["keys"], { readonly kind: "remote" }>;

/** Gets the text of a key set. Rejects with why not. */
export type FetchKeys = (source: RemoteKeys) => Promise<string>;

export interface TokenJudge {
  judge(provider: JwtProviderSpec, token: string): Promise<TokenVerdict>;
}

/** jwt_verify_lib's; never `none`. */
const ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "HS256",
  "HS384",
  "HS512",
  "EdDSA",
];
const MAX_TOKEN_LENGTH = 16 * 1024;
/** A token with an unknown key is the first to tell that keys were rotated; a flood of such tokens fetches no oftener. */
const REFETCH_MS = 10_000;
const RETRY_MS = 1_000;

interface KeySet {
  readonly find: ReturnType<typeof createLocalJWKSet> | undefined;
  readonly atMs: number;
}

/** `nowMs`: monotonic. */
export function createTokenJudge(fetchKeys: FetchKeys, nowMs: () => number): TokenJudge {
  /** By the text itself: an update of the policy brings its keys along. */
  const inline = new Map<string, KeySet>();
  const remote = new Map<string, KeySet>();
  const fetching = new Map<string, Promise<KeySet>>();

  function inlineKeys(text: string): KeySet {
    let known = inline.get(text);
    if (known === undefined) {
      // Only the providers in force have keys worth keeping.
      if (inline.size > 1000) inline.clear();
      known = { find: readKeys(text), atMs: nowMs() };
      inline.set(text, known);
    }
    return known;
  }

  function fetchNow(source: RemoteKeys): Promise<KeySet> {
    const key = `${source.cluster}\n${source.uri}`;
    let running = fetching.get(key);
    if (running === undefined) {
      running = fetchKeys(source).then(
        (text): KeySet => ({ find: readKeys(text), atMs: nowMs() }),
        (): KeySet => ({ find: remote.get(key)?.find, atMs: nowMs() - source.cacheMs + RETRY_MS }),
      ).then((keys) => {
        remote.set(key, keys);
        fetching.delete(key);
        return keys;
      });
      fetching.set(key, running);
    }
    return running;
  }

  async function keysOf({ keys }: JwtProviderSpec, unknownKey: boolean): Promise<KeySet> {
    if (keys.kind === "inline") return inlineKeys(keys.jwks);
    const known = remote.get(`${keys.cluster}\n${keys.uri}`);
    const ageMs = known === undefined ? Infinity : nowMs() - known.atMs;
    if (known !== undefined && ageMs < keys.cacheMs && !(unknownKey && ageMs >= REFETCH_MS)) return known;
    return await fetchNow(keys);
  }

  async function judge(provider: JwtProviderSpec, token: string, again: boolean): Promise<TokenVerdict> {
    const shape = shapeFault(token);
    if (shape !== undefined) return { ok: false, failure: shape };
    const { find } = await keysOf(provider, again);
    if (find === undefined) return { ok: false, failure: "Jwks remote fetch is failed" };
    try {
      const { payload, protectedHeader } = await compactVerify(token, find, { algorithms: ALGORITHMS });
      const claims: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
      if (typeof claims !== "object" || claims === null || Array.isArray(claims)) {
        return { ok: false, failure: "Jwt payload is an invalid Base64url encoded" };
      }
      return {
        ok: true,
        token: {
          payload: claims as Readonly<Record<string, unknown>>,
          header: protectedHeader as Readonly<Record<string, unknown>>,
          encodedPayload: token.split(".")[1],
        },
      };
    } catch (error) {
      const failure = failureOf(error);
      if (
        failure === "Jwks doesn't have key to match kid or alg from Jwt" && provider.keys.kind === "remote" && !again
      ) {
        return await judge(provider, token, true);
      }
      return { ok: false, failure };
    }
  }

  return { judge: (provider, token) => judge(provider, token, false) };
}

/** Undefined for a text that is no key set. */
function readKeys(text: string): KeySet["find"] {
  try {
    return createLocalJWKSet(JSON.parse(text) as JSONWebKeySet);
  } catch {
    return undefined;
  }
}

const BASE64URL = /^[A-Za-z0-9_-]+$/;

function shapeFault(token: string): JwtFailure | undefined {
  const sections = token.split(".");
  if (sections.length !== 3 || token.length > MAX_TOKEN_LENGTH) {
    return "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
  }
  const [header, payload, signature] = sections;
  if (!BASE64URL.test(header) || !isJsonObject(header)) return "Jwt header is an invalid Base64url encoded";
  if (!BASE64URL.test(payload) || !isJsonObject(payload)) return "Jwt payload is an invalid Base64url encoded";
  return BASE64URL.test(signature) ? undefined : "Jwt verification fails";
}

function isJsonObject(encoded: string): boolean {
  try {
    const value: unknown = JSON.parse(Buffer.from(encoded, "base64url").toString("utf8"));
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

function failureOf(error: unknown): JwtFailure {
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys) {
    return "Jwks doesn't have key to match kid or alg from Jwt";
  }
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) {
    return "Jwt header [alg] is not supported";
  }
  return "Jwt verification fails";
}
