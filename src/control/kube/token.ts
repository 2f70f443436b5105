/** Bearer tokens of service accounts: read from a file that the kubelet replaces, and described without being shown. */
import { readFileSync } from "node:fs";
import { KubeError } from "./kube_error.ts";

/** Asked before each request. `fresh`: the last one was not accepted, so whatever is remembered is of no use. */
export type TokenSource = (fresh?: boolean) => string | undefined | Promise<string | undefined>;

/** The kubelet renews a token when four fifths of its life are over: nothing is lost by looking rarely. */
const REREAD_MS = 10_000;
const MAX_TOKEN_CHARACTERS = 64 * 1024;

/** @param nowMs a clock that only moves forward */
export function tokenFile(path: string, nowMs: () => number = () => performance.now()): TokenSource {
  let token = "";
  let readMs = -Infinity;
  return (fresh = false) => {
    if (fresh || nowMs() - readMs >= REREAD_MS) {
      token = readToken(path);
      readMs = nowMs();
    }
    return token;
  };
}

/** @throws KubeError */
export function readToken(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, "utf8").trim();
  } catch (error) {
    throw new KubeError(`cannot read the service account's token ${path}: ${(error as Error).message}`, 0, "Token", {
      cause: error,
    });
  }
  if (text === "") throw new KubeError(`the service account's token ${path} is empty`, 0, "Token");
  checkToken(text, path);
  return text;
}

/** RFC 6750's alphabet is smaller; a header carries these. @throws KubeError that does not show the token */
export function checkToken(token: string, origin: string): void {
  if (token.length <= MAX_TOKEN_CHARACTERS && /^[\x21-\x7e]+$/.test(token)) return;
  throw new KubeError(
    `the token of ${origin} is no token: it has characters that a header cannot carry, or too many`,
    0,
    "Token",
  );
}

/** What a person needs to know of a token: whose it is, and whether it has expired. */
export function describeToken(token: string, wallMs: number): string {
  const claims = readClaims(token);
  const subject = typeof claims?.["sub"] === "string" ? `it is of ${JSON.stringify(claims["sub"])}` : "";
  const expiry = claims?.["exp"];
  if (typeof expiry !== "number" || !(Math.abs(expiry) < 8.64e12)) return subject || "nothing is known of it";
  const left = expiry * 1000 - wallMs;
  const when = new Date(expiry * 1000).toISOString().replace(/\.\d+Z$/, "Z");
  const state = left > 0 ? `is valid until ${when} by its own word` : `expired ${duration(-left)} ago, at ${when}`;
  return subject === "" ? `it ${state}` : `${subject} and ${state}`;
}

function readClaims(token: string): Record<string, unknown> | undefined {
  try {
    const payload = token.split(".")[1] ?? "";
    const claims: unknown = JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/")));
    return typeof claims === "object" && claims !== null ? claims as Record<string, unknown> : undefined;
  } catch {
    return undefined;
  }
}

function duration(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return `${Math.floor(ms / 1000)} s`;
  if (minutes < 120) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h`;
}
