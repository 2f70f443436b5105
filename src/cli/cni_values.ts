/**
 * Parsers of the node agent's values. Its original reads them with Go's libraries: a variable that is set and empty counts as
 * not set, booleans are Go's, numbers may be octal.
 */
import { custom, type Option } from "./options.ts";

interface Naming {
  readonly env?: string | readonly string[];
  readonly flag?: string;
  readonly flagAliases?: readonly string[];
  readonly metavar?: string;
}

/** Go's strconv.ParseBool. @throws Error completing "…: must be …" */
export function parseGoBoolean(text: string): boolean {
  if (/^(?:1|t|T|TRUE|true|True)$/.test(text)) return true;
  if (/^(?:0|f|F|FALSE|false|False)$/.test(text)) return false;
  throw new Error("must be true or false");
}

/** A whole number as Go's base-0 parser reads it: `384`, `0600`, `0o600`, `0x180`. @throws Error completing "…: must be …" */
export function parseGoInteger(text: string, min: number, max: number): number {
  const match = /^(-?)(?:0[xX]([0-9a-fA-F]{1,12})|0[bB]([01]{1,48})|0[oO]?([0-7]{1,16})|([1-9][0-9]{0,14}|0))$/.exec(
    text,
  );
  let value = NaN;
  if (match !== null) {
    const [, sign, hex, binary, octal, decimal] = match;
    value = hex !== undefined
      ? parseInt(hex, 16)
      : binary !== undefined
      ? parseInt(binary, 2)
      : octal !== undefined
      ? parseInt(octal, 8)
      : Number(decimal);
    if (sign === "-") value = value === 0 ? 0 : -value;
  }
  if (!(value >= min && value <= max)) throw new Error(`must be a whole number from ${min} to ${max}`);
  return value;
}

/** A boolean whose empty value is the default. */
export function flagLike(naming: Naming, fallback: boolean, help: string): Option<boolean> {
  const parse = (value: string) => value === "" ? fallback : parseGoBoolean(value);
  const base = custom({ metavar: "true|false", ...naming }, fallback, String(fallback), help, parse);
  return { ...base, isBoolean: true };
}

/** A number whose empty value is the default. */
export function numberLike(
  naming: Naming,
  fallback: number,
  fallbackText: string,
  min: number,
  max: number,
  help: string,
): Option<number> {
  const parse = (value: string) => value === "" ? fallback : parseGoInteger(value, min, max);
  return custom({ metavar: "N", ...naming }, fallback, fallbackText, help, parse);
}

/** A text whose empty value is the default. */
export function textLike(naming: Naming, fallback: string, help: string): Option<string> {
  return custom(
    { metavar: "TEXT", ...naming },
    fallback,
    fallback,
    help,
    (value) => value === "" ? fallback : value,
  );
}

/** A text without default; empty is none. */
export function optionalTextLike(naming: Naming, help: string, fallbackText = ""): Option<string | undefined> {
  return custom<string | undefined>(
    { metavar: "TEXT", ...naming },
    undefined,
    fallbackText,
    help,
    (value) => value === "" ? undefined : value,
  );
}

/** A comma list; blanks around items and empty items are dropped. */
export function listLike(naming: Naming, help: string): Option<readonly string[]> {
  const parse = (value: string) =>
    Object.freeze([...new Set(value.split(",").map((part) => part.trim()).filter((part) => part !== ""))]);
  return custom<readonly string[]>({ metavar: "NAME,...", ...naming }, Object.freeze([]), "", help, parse);
}

/** Registered so that the original's command line and environment work, and without effect. */
export function withoutEffect(naming: Naming, help: string): Option<string | undefined> {
  return custom<string | undefined>(
    { metavar: "TEXT", ...naming },
    undefined,
    "",
    `${help} Accepted and without effect.`,
    (value) => value,
  );
}
