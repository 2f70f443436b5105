/** The hash of a request by which its host is chosen, waypoint.md 4.5. */
import { first } from "../http/fields.ts";
import { headerValue, queryValue } from "../match/head.ts";
import type { HashPolicySpec } from "../spec/mod.ts";
import type { RequestContext } from "../engine/request_context.ts";
import { hash53 } from "./xxhash64.ts";

/** Made for each request that comes without the cookie it is to be known by. */
export type RandomText = () => string;

export interface HashOutcome {
  /** Undefined: no policy found anything to hash. */
  readonly hash: number | undefined;
  /** For the answer. */
  readonly setCookie: string | undefined;
}

const NO_HASH: HashOutcome = { hash: undefined, setCookie: undefined };

export function requestHash(
  policies: readonly HashPolicySpec[],
  context: RequestContext,
  random: RandomText,
): HashOutcome {
  if (policies.length === 0) return NO_HASH;
  let combined: string | undefined;
  let setCookie: string | undefined;
  for (const policy of policies) {
    let part: string | undefined;
    if (policy.kind === "header") part = headerValue(context.head, policy.name);
    else if (policy.kind === "query") part = queryValue(context.head.path, policy.name);
    else if (policy.kind === "source ip") part = context.connection.source.ip;
    else {
      part = cookieValue(context.head.headers, policy.name);
      if (part === undefined && policy.ttlSeconds !== undefined) {
        part = random();
        setCookie = cookieText(policy, part);
      }
    }
    if (part === undefined || part === "") continue;
    combined = combined === undefined ? part : `${combined}\0${part}`;
    if (policy.terminal) break;
  }
  return { hash: combined === undefined ? undefined : hash53(combined), setCookie };
}

function cookieText(policy: Extract<HashPolicySpec, { kind: "cookie" }>, value: string): string {
  const age = policy.ttlSeconds === 0 ? "" : `; Max-Age=${Math.floor(policy.ttlSeconds ?? 0)}`;
  const path = policy.path === "" ? "" : `; Path=${policy.path}`;
  const attributes = policy.attributes.map(({ name, value }) => value === "" ? `; ${name}` : `; ${name}=${value}`).join(
    "",
  );
  return `${policy.name}="${value}"${age}${path}${attributes}; HttpOnly`;
}

/** RFC 6265 section 5.4, without quotes around it. */
export function cookieValue(headers: readonly string[], name: string): string | undefined {
  const all = first(headers, "cookie");
  if (all === undefined) return undefined;
  for (const pair of all.split(";")) {
    const equals = pair.indexOf("=");
    if (equals < 0 || pair.slice(0, equals).trim() !== name) continue;
    const value = pair.slice(equals + 1).trim();
    return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
  }
  return undefined;
}
