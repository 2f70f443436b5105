/** Path matchers. They get the path without its query, after normalization. */
import type { PathMatch } from "../spec/mod.ts";
import { compileRegex, lowerCase, type TextPredicate } from "./text.ts";

/** A request's path without query and fragment. */
export function withoutQuery(path: string): string {
  const question = path.indexOf("?");
  const whole = question < 0 ? path : path.slice(0, question);
  const hash = whole.indexOf("#");
  return hash < 0 ? whole : whole.slice(0, hash);
}

export function compilePath(match: PathMatch): TextPredicate {
  switch (match.kind) {
    case "regex":
      return compileRegex(match.pattern);
    case "template":
      return compileTemplate(match.template);
    default: {
      const path = match.ignoreCase ? lowerCase(match.path) : match.path;
      const test = comparisons[match.kind];
      return match.ignoreCase ? (value) => test(lowerCase(value), path) : (value) => test(value, path);
    }
  }
}

const comparisons: Readonly<Record<"exact" | "prefix" | "separated", (value: string, path: string) => boolean>> = {
  exact: (value, path) => value === path,
  prefix: (value, path) => value.startsWith(path),
  separated: (value, path) => value.startsWith(path) && (value.length === path.length || value[path.length] === "/"),
};

/** What a segment of a template may hold beside the two wildcards. */
const LITERAL = /^[\w.~!$&'()+,;=:@%-]*$/;

/**
 * Envoy's URI template: `*` or `{name}` one segment, `**` any number of them, and a literal before or behind `**` in the last place. Of
 * AuthorizationPolicy come `{*}` and `{**}`. @throws Error for any other form: the policy that holds it must not run
 */
export function compileTemplate(template: string): TextPredicate {
  const segments = template.split("/");
  if (segments[0] !== "") throw new Error(`the path template ${template} does not begin with a slash`);
  const parts = segments.slice(1).map((segment) => {
    const inner = /^\{(?:\w+=)?(\*\*?)\}$/.exec(segment)?.[1] ?? (/^\{\w+\}$/.test(segment) ? "*" : segment);
    if (inner === "*") return "[^/]+";
    if (inner === "**") return ".*";
    if (!LITERAL.test(inner)) throw new Error(`the path template ${template} cannot be read at ${segment}`);
    return inner.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  });
  // Only literals, classes of one character and `.*`: linear, as RE2 runs it.
  return compileRegex(`/${parts.join("/")}`);
}
