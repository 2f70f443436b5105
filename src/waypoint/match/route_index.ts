/**
 * Finds the first route that matches without asking all of them: a thousand routes of as many paths cost little more than five.
 *
 * Each route hangs on the longest path of whole segments that every request of its must begin with. A request looks at the routes of its own path
 * and of every path above it, in the order of the list: the first that matches is the first of all.
 */
import type { PathMatch } from "../spec/mod.ts";
import { lowerCase } from "./text.ts";

export class RouteIndex<T> {
  readonly #byPath = new Map<string, number[]>();
  readonly #items: readonly T[];
  /** Longest key in segments. */
  #depth = 0;
  readonly #found: (readonly number[])[] = [];

  constructor(items: readonly T[], pathOf: (item: T) => PathMatch) {
    this.#items = items;
    items.forEach((item, index) => {
      const key = lowerCase(commonPath(pathOf(item)));
      const list = this.#byPath.get(key);
      if (list === undefined) this.#byPath.set(key, [index]);
      else list.push(index);
      this.#depth = Math.max(this.#depth, key.split("/").length - 1);
    });
  }

  /** `path`: without its query. */
  find(path: string, matches: (item: T) => boolean): T | undefined {
    const lists = this.#lists(path);
    const items = this.#items;
    if (lists.length === 1) {
      for (const index of lists[0]) if (matches(items[index])) return items[index];
      return undefined;
    }
    // A merge of few ascending lists. `matches` may search another index, never this one.
    const at = new Array<number>(lists.length).fill(0);
    while (true) {
      let least = Infinity, from = -1;
      for (let i = 0; i < lists.length; i++) {
        const index = lists[i][at[i]];
        if (index < least) {
          least = index;
          from = i;
        }
      }
      if (from < 0) return undefined;
      if (matches(items[least])) return items[least];
      at[from]++;
    }
  }

  #lists(path: string): readonly (readonly number[])[] {
    const found = this.#found;
    found.length = 0;
    const root = this.#byPath.get("");
    if (root !== undefined) found.push(root);
    if (this.#depth === 0) return found;
    const lower = lowerCase(path);
    let end = 0;
    for (let depth = 0; depth < this.#depth && end < lower.length; depth++) {
      const slash = lower.indexOf("/", end + 1);
      end = slash < 0 ? lower.length : slash;
      const list = this.#byPath.get(lower.slice(0, end));
      if (list !== undefined) found.push(list);
    }
    return found;
  }
}

/** The longest `/a/b` without a slash at its end such that every path that matches is it, or lies below it; "" for none. */
export function commonPath(match: PathMatch): string {
  switch (match.kind) {
    case "exact":
      return wholeSegments(match.path, true);
    case "separated":
      return wholeSegments(match.path, true);
    case "prefix":
      // `/ab` is also `/abc`: only what stands before the last slash is whole.
      return wholeSegments(match.path, false);
    case "regex":
      return wholeSegments(literalStart(match.pattern), false);
    case "template":
      return wholeSegments(match.template.slice(0, firstOf(match.template, "*{")), false);
  }
}

function wholeSegments(path: string, isWhole: boolean): string {
  if (!path.startsWith("/")) return "";
  // An exact `/a/` lies below `/a`.
  const end = isWhole && !path.endsWith("/") ? path.length : path.lastIndexOf("/");
  return path.slice(0, end);
}

/** What every match of an anchored expression begins with, as far as that is plain to see. */
function literalStart(pattern: string): string {
  // A choice at the top level, or a flag, makes the beginning uncertain.
  if (pattern.includes("|") || pattern.includes("(?")) return "";
  const text = pattern.startsWith("^") ? pattern.slice(1) : pattern;
  const end = firstOf(text, "\\.+*?()[]{}^$");
  // A repetition makes the character before it optional.
  return "*?{".includes(text[end] ?? " ") ? text.slice(0, Math.max(0, end - 1)) : text.slice(0, end);
}

function firstOf(text: string, characters: string): number {
  for (let i = 0; i < text.length; i++) if (characters.includes(text[i])) return i;
  return text.length;
}
