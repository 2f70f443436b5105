/**
 * Reads plain data into typed fields and collects what is wrong with it, each with its path, instead of stopping at the first.
 */
import type { SourcePath } from "./yaml_source.ts";

export interface FieldProblem {
  readonly path: SourcePath;
  readonly message: string;
}

export type Fields = Readonly<Record<string, unknown>>;

/** Kubernetes' rule for names; ambit also makes file names of them. */
const NAME = /^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$/;

export class FieldReader {
  readonly problems: FieldProblem[] = [];

  fail(path: SourcePath, message: string): undefined {
    this.problems.push({ path, message });
    return undefined;
  }

  /** A mapping; anything else is a problem and reads as empty. */
  object(value: unknown, path: SourcePath): Fields {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
    this.fail(path, `must be a mapping (key: value), is ${kindOf(value)}`);
    return {};
  }

  /** A list of mappings, with the path of each; absent reads as empty. */
  objects(value: unknown, path: SourcePath): readonly { readonly fields: Fields; readonly path: SourcePath }[] {
    if (value === undefined || value === null) return [];
    if (!Array.isArray(value)) {
      this.fail(path, `must be a list (lines that begin with "- "), is ${kindOf(value)}`);
      return [];
    }
    return value.map((item: unknown, index) => ({
      fields: this.object(item, [...path, index]),
      path: [...path, index],
    }));
  }

  /** The list of mappings at `key`. One that is there without a value is a problem: left out by mistake, it would mean something else. */
  list(fields: Fields, key: string, path: SourcePath): ReturnType<FieldReader["objects"]> {
    if (fields[key] !== null) return this.objects(fields[key], [...path, key]);
    this.fail([...path, key], `${key} has no value; write a list, or leave it out`);
    return [];
  }

  name(fields: Fields, key: string, path: SourcePath, fallback?: string): string {
    const value = fields[key] ?? fallback;
    if (value === undefined) {
      this.fail(path, `${key} is missing`);
    } else if (typeof value !== "string" || !NAME.test(value)) {
      this.fail(
        [...path, key],
        `${key} must be lower-case letters, digits, "-" and ".", at most 63, is ${JSON.stringify(value)}`,
      );
    } else return value;
    return "";
  }

  flag(fields: Fields, key: string, path: SourcePath, fallback: boolean): boolean {
    const value = fields[key] ?? fallback;
    if (typeof value === "boolean") return value;
    this.fail([...path, key], `${key} must be true or false, is ${kindOf(value)}`);
    return fallback;
  }

  /** A mapping to texts; numbers and booleans, which YAML makes of bare words, count as their text. */
  texts(fields: Fields, key: string, path: SourcePath): Readonly<Record<string, string>> {
    if (fields[key] === undefined) return {};
    const texts: Record<string, string> = {};
    for (const [name, value] of Object.entries(this.object(fields[key], [...path, key]))) {
      if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
        texts[name] = `${value}`;
      } else this.fail([...path, key, name], `${name} must be a text, is ${kindOf(value)}`);
    }
    return texts;
  }

  /** A text or a list of texts, as a list; absent reads as undefined. */
  textOrTexts(fields: Fields, key: string, path: SourcePath): readonly string[] | undefined {
    const value = fields[key];
    if (value === undefined) return undefined;
    const list: readonly unknown[] = Array.isArray(value) ? value : [value];
    if (list.length > 0 && list.every((item): item is string => typeof item === "string")) return list;
    return this.fail([...path, key], `${key} must be a text or a list of texts, is ${kindOf(value)}`);
  }

  /** A text that is not empty; absent reads as undefined. */
  text(fields: Fields, key: string, path: SourcePath): string | undefined {
    const value = fields[key];
    if (value === undefined || (typeof value === "string" && value !== "")) return value;
    if (typeof value !== "number" && typeof value !== "boolean") {
      return this.fail([...path, key], `${key} must be a text, is ${value === "" ? "an empty one" : kindOf(value)}`);
    }
    return this.fail([...path, key], `${key} must be a text, is ${kindOf(value)}; write it in quotes`);
  }

  requiredText(fields: Fields, key: string, path: SourcePath): string {
    if (fields[key] === undefined) this.fail(path, `${key} is missing`);
    return this.text(fields, key, path) ?? "";
  }

  /** A list of texts that are not empty, with the path of each; absent reads as an empty list. */
  textItems(
    fields: Fields,
    key: string,
    path: SourcePath,
  ): readonly { readonly text: string; readonly path: SourcePath }[] {
    const list = fields[key];
    if (list === undefined) return [];
    if (!Array.isArray(list)) {
      this.fail([...path, key], `${key} must be a list of texts, is ${kindOf(list)}`);
      return [];
    }
    return list.flatMap((item: unknown, index) => {
      if (typeof item === "string" && item !== "") return [{ text: item, path: [...path, key, index] }];
      const what = item === "" ? "an empty text" : kindOf(item);
      this.fail([...path, key, index], `${key} must be a list of texts (numbers in quotes), holds ${what}`);
      return [];
    });
  }

  textList(fields: Fields, key: string, path: SourcePath): readonly string[] {
    return this.textItems(fields, key, path).map(({ text }) => text);
  }

  /** One of `choices`; absent reads as undefined. */
  choice<const T extends string>(
    fields: Fields,
    key: string,
    path: SourcePath,
    choices: readonly T[],
  ): T | undefined {
    const value = fields[key];
    const choice = choices.find((choice) => choice === value);
    if (choice !== undefined || value === undefined) return choice;
    return this.fail([...path, key], `${key} must be ${choices.join(" or ")}, is ${kindOf(value)}`);
  }

  /** A whole number from `min` to `max`; absent reads as undefined. */
  integer(fields: Fields, key: string, path: SourcePath, min: number, max: number): number | undefined {
    const value = fields[key];
    if (value === undefined) return undefined;
    if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) return value;
    return this.fail([...path, key], `${key} must be a whole number from ${min} to ${max}, is ${kindOf(value)}`);
  }

  /** Reports every key that is not in `known`; one of `refused` with what is said there. */
  onlyKnown(
    fields: Fields,
    known: readonly string[],
    path: SourcePath,
    refused: Readonly<Record<string, string>> = {},
  ): void {
    for (const key of Object.keys(fields)) {
      if (known.includes(key)) continue;
      const why = Object.hasOwn(refused, key) ? refused[key]! : `unknown key "${key}"; known are ${known.join(", ")}`;
      this.fail([...path, key], why);
    }
  }
}

/** What a value is, for a message. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return "empty";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "a mapping" : `the ${typeof value} ${JSON.stringify(value)}`;
}
