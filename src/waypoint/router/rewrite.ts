/** Changes of a request's path and host on its way, waypoint.md 4.2. */
import { RE2JS } from "re2js";
import type { PathMatch, RegexRewriteSpec, RouteSpec } from "../spec/mod.ts";
import { withoutQuery } from "../match/path.ts";

export type PathRewrite = (path: string) => string;

/** Undefined: the path stays. A regular expression replaces every place it matches in, as Envoy has it. */
export function compileRewrite(
  { prefixRewrite, regexRewrite }: {
    readonly prefixRewrite: string | undefined;
    readonly regexRewrite: RegexRewriteSpec | undefined;
  },
  match: RouteSpec["path"],
): PathRewrite | undefined {
  if (regexRewrite !== undefined) {
    const regex = RE2JS.compile(regexRewrite.pattern);
    const substitution = toReplacement(regexRewrite.substitution);
    return (path) => {
      const name = withoutQuery(path);
      return regex.matcher(name).replaceAll(substitution) + path.slice(name.length);
    };
  }
  if (prefixRewrite === undefined) return undefined;
  const length = matchedLength(match);
  return (path) => {
    const rest = path.slice(Math.min(length, withoutQuery(path).length));
    // `/a` → `/` would make `//b` of `/a/b`.
    if (prefixRewrite.endsWith("/") && rest.startsWith("/")) return prefixRewrite + rest.slice(1);
    return prefixRewrite + rest;
  };
}

function matchedLength(match: PathMatch): number {
  switch (match.kind) {
    case "prefix":
    case "separated":
    case "exact":
      return match.path.length;
    default:
      // All of it.
      return Number.MAX_SAFE_INTEGER;
  }
}

/** `\1` of Envoy to `$1` of the library; dollar signs of the text itself are escaped. */
function toReplacement(substitution: string): string {
  let made = "";
  for (let i = 0; i < substitution.length; i++) {
    const char = substitution[i];
    const next = substitution[i + 1];
    if (char === "\\" && next !== undefined && next >= "0" && next <= "9") {
      made += `$${next}`;
      i++;
    } else if (char === "\\" && next === "\\") {
      made += "\\\\";
      i++;
    } else if (char === "$" || char === "\\") {
      made += `\\${char}`;
    } else {
      made += char;
    }
  }
  return made;
}
