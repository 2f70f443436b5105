/** Rules of Gateway API routes in few words: matches and filters. Routes and backends themselves: objects.ts. */

/** A rule, match, filter or part of one, as the API has it. */
export type Rule = Readonly<Record<string, unknown>>;

/** A rule for all below a path. */
export function below(path: string, rest: Rule): Rule {
  return { matches: [prefix(path)], ...rest };
}

export function prefix(value: string): Rule {
  return { path: { type: "PathPrefix", value } };
}

export interface HeaderChange {
  readonly set?: Readonly<Record<string, string>>;
  readonly add?: Readonly<Record<string, string>>;
  readonly remove?: readonly string[];
}

export function requestHeaders(change: HeaderChange): Rule {
  return { type: "RequestHeaderModifier", requestHeaderModifier: modifier(change) };
}

export function responseHeaders(change: HeaderChange): Rule {
  return { type: "ResponseHeaderModifier", responseHeaderModifier: modifier(change) };
}

function modifier({ set, add, remove }: HeaderChange): Rule {
  const list = (entries: Readonly<Record<string, string>>) =>
    Object.entries(entries).map(([name, value]) => ({ name, value }));
  return {
    ...(set === undefined ? {} : { set: list(set) }),
    ...(add === undefined ? {} : { add: list(add) }),
    ...(remove === undefined ? {} : { remove }),
  };
}

export function redirect(to: Rule): Rule {
  return { type: "RequestRedirect", requestRedirect: to };
}

export function rewrite(to: Rule): Rule {
  return { type: "URLRewrite", urlRewrite: to };
}

/** The `path` of a redirect or rewrite. */
export const replacePrefix = (value: string): Rule => ({ type: "ReplacePrefixMatch", replacePrefixMatch: value });
export const replaceAll = (value: string): Rule => ({ type: "ReplaceFullPath", replaceFullPath: value });
