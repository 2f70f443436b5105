/** A redirect's Location, waypoint.md 4.2. */
import type { RequestHead } from "../http/exchange.ts";
import { withoutQuery } from "../match/path.ts";
import type { RouteActionSpec, RouteSpec } from "../spec/mod.ts";
import { compileRewrite } from "./rewrite.ts";

type RedirectSpec = Extract<RouteActionSpec, { readonly kind: "redirect" }>;

export function compileRedirect(spec: RedirectSpec, match: RouteSpec["path"]): (head: RequestHead) => string {
  const rewrite = compileRewrite(spec, match);
  return (head) => {
    const from = head.scheme === "" ? "http" : head.scheme;
    const scheme = spec.scheme ?? from;
    return `${scheme}://${authority(spec, head, scheme, from)}${path(spec, head, rewrite)}`;
  };
}

function authority(spec: RedirectSpec, head: RequestHead, scheme: string, from: string): string {
  const { host, port } = splitAuthority(head.authority);
  const chosen = spec.host ?? host;
  let chosenPort = spec.port ?? (spec.host === undefined ? port : undefined);
  // A port that is only its old scheme's own goes with the scheme.
  if (spec.port === undefined && scheme !== from && chosenPort === defaultPort(from)) chosenPort = undefined;
  return chosenPort === undefined || chosenPort === defaultPort(scheme) ? chosen : `${chosen}:${chosenPort}`;
}

function defaultPort(scheme: string): number | undefined {
  return scheme === "https" ? 443 : scheme === "http" ? 80 : undefined;
}

export function splitAuthority(authority: string): { readonly host: string; readonly port: number | undefined } {
  const found = /^(.*?|\[.*\]):(\d{1,5})$/.exec(authority);
  return found === null ? { host: authority, port: undefined } : { host: found[1], port: Number(found[2]) };
}

function path(spec: RedirectSpec, head: RequestHead, rewrite: ((path: string) => string) | undefined): string {
  const name = withoutQuery(head.path);
  const query = spec.stripQuery ? "" : head.path.slice(name.length);
  if (spec.path !== undefined) return spec.path.includes("?") ? spec.path : spec.path + query;
  return (rewrite === undefined ? name : rewrite(name)) + query;
}
