/**
 * Small decoders for plain values as YAML or JSON give them. A decoder reports every problem with its path and goes on;
 * what it then returns is only a placeholder.
 */

export type Path = readonly (string | number)[];

/** What is wrong and what to do about it; `path` says where. */
export interface ResourceError {
  readonly path: (string | number)[];
  readonly message: string;
}

/** Further ones would only be noise. */
const MAX_ERRORS = 1000;

export class Problems {
  readonly errors: ResourceError[] = [];

  add(path: Path, message: string): void {
    if (this.errors.length < MAX_ERRORS) this.errors.push({ path: [...path], message });
  }
}

export type Decoder<T> = (value: unknown, path: Path, problems: Problems) => T;

/** A field of an object: absent takes the default, without one the field is required. */
export interface Field<T> {
  readonly decode: Decoder<T>;
  readonly fallback: { readonly value: T } | undefined;
  /** Null, which is what YAML makes of a name with nothing behind it, counts as absent. */
  readonly nullable: boolean;
  /** What a wrong value of a required field is replaced with. */
  readonly placeholder: T;
}

export function required<T>(decode: Decoder<T>, placeholder: T): Field<T> {
  return { decode, fallback: undefined, nullable: true, placeholder };
}

export function optional<T, D>(decode: Decoder<T>, value: D): Field<T | D> {
  return { decode, fallback: { value }, nullable: true, placeholder: value };
}

/** For what decides about access: somebody who wrote the name meant to say something, so null is an error. */
export function optionalNotNull<T, D>(decode: Decoder<T>, value: D): Field<T | D> {
  return { decode, fallback: { value }, nullable: false, placeholder: value };
}

type Fields<T> = { readonly [Name in keyof T]: Field<T[Name]> };

/** An object with these fields and no others. `notes` says more about fields that are often tried but refused. */
export function object<T>(fields: Fields<T>, notes: Readonly<Record<string, string>> = {}): Decoder<T> {
  const entries = Object.entries(fields) as [string & keyof T, Field<unknown>][];
  const names = entries.map(([name]) => name);
  return (value, path, problems) => {
    const source = record(value, path, problems);
    for (const name of Object.keys(source)) {
      if (names.includes(name as string & keyof T)) continue;
      const note = Object.hasOwn(notes, name) ? notes[name] : `${suggestion(name, names)}remove it or correct its name`;
      problems.add([...path, name], `unknown field "${shorten(name)}": ${note}`);
    }
    const result: Record<string, unknown> = {};
    for (const [name, field] of entries) {
      const given = Object.hasOwn(source, name) ? source[name] : undefined;
      if (given === null && !field.nullable) {
        result[name] = field.placeholder;
        problems.add([...path, name], `"${name}" has no value: give it one, or remove it`);
      } else if (given !== undefined && given !== null) {
        result[name] = field.decode(given, [...path, name], problems);
      } else if (field.fallback !== undefined) {
        result[name] = field.fallback.value;
      } else {
        result[name] = field.placeholder;
        // A value that is no object was reported already.
        if (isRecord(value)) problems.add([...path, name], `"${name}" is missing: add it`);
      }
    }
    return result as T;
  };
}

export function list<T>(decode: Decoder<T>): Decoder<readonly T[]> {
  return (value, path, problems) => {
    if (Array.isArray(value)) return value.map((entry, index) => decode(entry, [...path, index], problems));
    problems.add(path, `expected a list, got ${describe(value)}: write it as a list`);
    return [];
  };
}

/** An object used as a map. */
export function map<T>(decodeKey: (key: string) => string | undefined, keyRule: string, decode: Decoder<T>) {
  return (value: unknown, path: Path, problems: Problems): Readonly<Record<string, T>> => {
    const result: Record<string, T> = {};
    for (const [name, entry] of Object.entries(record(value, path, problems))) {
      const key = decodeKey(name);
      if (key === undefined) problems.add([...path, name], `the key "${shorten(name)}" is not usable: ${keyRule}`);
      else result[key] = decode(entry, [...path, name], problems);
    }
    return result;
  };
}

export const text: Decoder<string> = (value, path, problems) => {
  if (typeof value === "string") return value;
  problems.add(path, `expected text, got ${describe(value)}: put it in quotes`);
  return "";
};

export const nonEmptyText: Decoder<string> = (value, path, problems) => {
  const read = text(value, path, problems);
  if (value === "") problems.add(path, "expected text, got nothing: fill it in");
  return read;
};

export const flag: Decoder<boolean> = (value, path, problems) => {
  if (typeof value !== "boolean") problems.add(path, `expected true or false, got ${describe(value)}`);
  return value === true;
};

export function integer(min: number, max: number): Decoder<number> {
  return (value, path, problems) => {
    if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) return value;
    problems.add(path, `expected a whole number from ${min} to ${max}, got ${describe(value)}`);
    return min;
  };
}

export function oneOf<T extends string>(...names: readonly T[]): Decoder<T> {
  return (value, path, problems) => {
    const found = names.find((name) => name === value);
    if (found !== undefined) return found;
    const meant = typeof value === "string"
      ? names.find((name) => name.toLowerCase() === value.toLowerCase())
      : undefined;
    const advice = meant === undefined ? "" : `: did you mean "${meant}"?`;
    problems.add(
      path,
      `expected one of ${names.map((name) => `"${name}"`).join(", ")}, got ${describe(value)}${advice}`,
    );
    return names[0];
  };
}

/** Text that `read` understands; `rule` says what that is. */
export function parsed<T>(read: (text: string) => T | undefined, rule: string, placeholder: T): Decoder<T> {
  return (value, path, problems) => {
    const result = typeof value === "string" ? read(value) : undefined;
    if (result !== undefined) return result;
    problems.add(path, `${describe(value)} is not ${rule}`);
    return placeholder;
  };
}

function record(value: unknown, path: Path, problems: Problems): Readonly<Record<string, unknown>> {
  if (isRecord(value)) return value;
  problems.add(path, `expected fields, got ${describe(value)}: write "name: value" pairs`);
  return {};
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** How a wrong value reads in a message. */
export function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(shorten(value));
  if (Array.isArray(value)) return "a list";
  if (value === null || value === undefined) return "nothing";
  if (typeof value === "object") return "an object";
  return shorten(String(value));
}

const SHOWN_CHARACTERS = 60;

function shorten(value: string): string {
  return value.length > SHOWN_CHARACTERS ? `${value.slice(0, SHOWN_CHARACTERS)}…` : value;
}

function suggestion(name: string, known: readonly string[]): string {
  if (name.length > SHOWN_CHARACTERS) return "";
  const nearest = known.find((candidate) => isNear(name.toLowerCase(), candidate.toLowerCase()));
  return nearest === undefined ? "" : `did you mean "${nearest}"? `;
}

/** At most two letters wrong, missing or too many (Levenshtein). */
function isNear(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 2) return false;
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length] <= 2;
}
