/** Text matchers as predicates, made once when their configuration comes. */
import { RE2JS } from "re2js";
import type { TextMatch } from "../spec/mod.ts";

export type TextPredicate = (text: string) => boolean;

/** Verdicts kept for each expression: identities and paths repeat, and RE2 costs microseconds. */
const MAX_KEPT = 1024;
/** Longer texts are not kept: a client could fill memory with them. */
const MAX_KEPT_LENGTH = 256;

/** RE2's syntax, matching the whole text. @throws Error for what RE2 does not take, which the configuration refused before */
export function compileRegex(pattern: string): TextPredicate {
  const regex = RE2JS.compile(pattern);
  const kept = new Map<string, boolean>();
  return (text) => {
    const known = kept.get(text);
    if (known !== undefined) return known;
    const verdict = regex.matches(text);
    if (text.length <= MAX_KEPT_LENGTH) {
      if (kept.size >= MAX_KEPT) kept.clear();
      kept.set(text, verdict);
    }
    return verdict;
  };
}

export function compileText(match: TextMatch): TextPredicate {
  if (match.kind === "regex") return compileRegex(match.pattern);
  const { kind, ignoreCase } = match;
  const text = ignoreCase ? lowerCase(match.text) : match.text;
  const test = comparisons[kind];
  return ignoreCase ? (value) => test(lowerCase(value), text) : (value) => test(value, text);
}

const comparisons: Readonly<Record<Exclude<TextMatch["kind"], "regex">, (value: string, text: string) => boolean>> = {
  exact: (value, text) => value === text,
  prefix: (value, text) => value.startsWith(text),
  suffix: (value, text) => value.endsWith(text),
  contains: (value, text) => value.includes(text),
};

/** ASCII alone: that is what case means in HTTP. A Unicode fold could make two different names equal. */
export function lowerCase(text: string): string {
  return UPPER.test(text) ? text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase()) : text;
}

const UPPER = /[A-Z]/;
