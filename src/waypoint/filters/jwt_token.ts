/** Where a request's tokens are, waypoint.md 3.4: each place belongs to providers, and only those may take what is found there. */
import type { RequestHead } from "../http/exchange.ts";
import { remove } from "../http/fields.ts";
import { queryValue } from "../match/head.ts";
import { cookieValue } from "../router/hash_policy.ts";
import type { JwtProviderSpec } from "../spec/mod.ts";

export interface FoundToken {
  readonly token: string;
  /** Takes it out of the request, unless it is to be passed on. */
  strip(head: RequestHead): void;
}

const DEFAULT_HEADERS = [{ name: "authorization", prefix: "Bearer " }] as const;
const DEFAULT_PARAMS = ["access_token"] as const;

/** Everything in the request that may be a token of this provider, in the order in which Envoy looks. */
export function findTokens(provider: JwtProviderSpec, head: RequestHead): readonly FoundToken[] {
  const isDefault = provider.fromHeaders.length === 0 && provider.fromParams.length === 0 &&
    provider.fromCookies.length === 0;
  const found: FoundToken[] = [];
  for (const { name, prefix } of isDefault ? DEFAULT_HEADERS : provider.fromHeaders) {
    for (let i = 0; i < head.headers.length; i += 2) {
      if (head.headers[i] !== name) continue;
      const token = afterPrefix(head.headers[i + 1], prefix);
      if (token !== undefined) found.push({ token, strip: ({ headers }) => remove(headers, name) });
    }
  }
  for (const name of isDefault ? DEFAULT_PARAMS : provider.fromParams) {
    const token = queryValue(head.path, name);
    if (token !== undefined && token !== "") found.push({ token, strip: (head) => stripParam(head, name) });
  }
  for (const name of provider.fromCookies) {
    const token = cookieValue(head.headers, name);
    if (token !== undefined && token !== "") found.push({ token, strip() {} });
  }
  return found;
}

/** What stands behind the prefix, as far as it can be a token. */
function afterPrefix(value: string, prefix: string): string | undefined {
  if (prefix === "") return value.trim() || undefined;
  const at = value.indexOf(prefix);
  if (at < 0) return undefined;
  return /^[A-Za-z0-9_.-]+/.exec(value.slice(at + prefix.length))?.[0];
}

function stripParam(head: RequestHead, name: string): void {
  const question = head.path.indexOf("?");
  if (question < 0) return;
  const kept = head.path.slice(question + 1).split("&").filter((pair) => pair !== name && !pair.startsWith(`${name}=`));
  head.path = head.path.slice(0, question) + (kept.length === 0 ? "" : `?${kept.join("&")}`);
}
