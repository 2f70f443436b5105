/**
 * One declarative table of options per role drives everything: flags, environment variables,
 * defaults, validation and `--help`. A flag wins over its variable, a variable over the default.
 */
import { nearest, shown, UsageError } from "./errors.ts";
import { formatDuration, parseBoolean, parseDuration, parseInteger } from "./values.ts";

/** One option. `T` is the type of its value with the default applied. */
export interface Option<T> {
  /** Without the leading dashes. */
  readonly flag: string;
  /** Other spellings of the flag that Istio's own commands use. */
  readonly flagAliases: readonly string[];
  /** In order of precedence; empty: flag only. */
  readonly env: readonly string[];
  /** The word for the value in help. */
  readonly metavar: string;
  readonly help: string;
  readonly fallback: T;
  /** How the default reads in help; "" when there is none. */
  readonly fallbackText: string;
  /** A boolean flag may stand without a value, meaning true. */
  readonly isBoolean: boolean;
  /** Throws an Error whose message completes "…: must be …". */
  readonly parse: (text: string) => T;
}

/** A repeatable option: flag `--xds-header name=value`, variables `XDS_HEADER_<name>=value`. */
export interface PrefixOption {
  readonly flag: string;
  readonly envPrefix: string;
  readonly metavar: string;
  readonly help: string;
  readonly parseName: (text: string) => string;
}

export type OptionTable = Readonly<Record<string, Option<unknown> | PrefixOption>>;
export type Pairs = readonly (readonly [name: string, value: string])[];

/** The values of a table, one property per option. */
export type ValuesOf<Table> = {
  readonly [K in keyof Table]: Table[K] extends PrefixOption ? Pairs : Table[K] extends Option<infer T> ? T : never;
};

export type Environment = Readonly<Record<string, string | undefined>>;

interface Naming {
  /** Variable name(s); the flag is derived from the first. */
  readonly env?: string | readonly string[];
  readonly flag?: string;
  readonly flagAliases?: readonly string[];
  readonly metavar?: string;
}

function named(naming: Naming): Pick<Option<unknown>, "flag" | "flagAliases" | "env"> {
  const env = naming.env === undefined ? [] : typeof naming.env === "string" ? [naming.env] : naming.env;
  const flag = naming.flag ?? env[0]?.toLowerCase().replaceAll("_", "-");
  if (flag === undefined) throw new Error("an option needs a flag or a variable");
  return { flag, flagAliases: naming.flagAliases ?? [], env };
}

/** An option with a parser of its own. `fallbackText` is what help shows as the default. */
export function custom<T>(
  naming: Naming & { readonly metavar: string },
  fallback: T,
  fallbackText: string,
  help: string,
  parse: (text: string) => T,
): Option<T> {
  return { ...named(naming), metavar: naming.metavar, fallback, fallbackText, help, isBoolean: false, parse };
}

export function text(naming: Naming, fallback: string, help: string): Option<string> {
  return custom({ metavar: "TEXT", ...naming }, fallback, fallback, help, (value) => value);
}

/** Text without a default. */
export function optionalText(naming: Naming, help: string): Option<string | undefined> {
  return custom<string | undefined>({ metavar: "TEXT", ...naming }, undefined, "", help, (value) => value);
}

export function boolean(naming: Naming, fallback: boolean, help: string): Option<boolean> {
  const base = custom({ metavar: "true|false", ...naming }, fallback, String(fallback), help, parseBoolean);
  return { ...base, isBoolean: true };
}

export function optionalBoolean(naming: Naming, fallbackText: string, help: string): Option<boolean | undefined> {
  const base = custom<boolean | undefined>(
    { metavar: "true|false", ...naming },
    undefined,
    fallbackText,
    help,
    parseBoolean,
  );
  return { ...base, isBoolean: true };
}

export function integer(naming: Naming, fallback: number, min: number, max: number, help: string): Option<number> {
  return custom(
    { metavar: "N", ...naming },
    fallback,
    String(fallback),
    help,
    (value) => parseInteger(value, min, max),
  );
}

export function optionalInteger(
  naming: Naming,
  fallbackText: string,
  min: number,
  max: number,
  help: string,
): Option<number | undefined> {
  const parse = (value: string) => parseInteger(value, min, max);
  return custom<number | undefined>({ metavar: "N", ...naming }, undefined, fallbackText, help, parse);
}

/** A duration; the value is in milliseconds. */
export function duration(naming: Naming, fallbackMs: number, help: string): Option<number> {
  return custom({ metavar: "DURATION", ...naming }, fallbackMs, formatDuration(fallbackMs), help, parseDuration);
}

export function choice<const T extends string>(
  naming: Naming,
  choices: readonly T[],
  fallback: T,
  help: string,
): Option<T> {
  return custom({ metavar: choices.join("|"), ...naming }, fallback, fallback, help, (value) => {
    const found = choices.find((candidate) => candidate === value);
    if (found === undefined) throw new Error(`must be ${choices.join(" or ")}`);
    return found;
  });
}

export function prefixed(
  flag: string,
  envPrefix: string,
  metavar: string,
  help: string,
  parseName: (text: string) => string,
): PrefixOption {
  return { flag, envPrefix, metavar, help, parseName };
}

export function isPrefixOption(option: Option<unknown> | PrefixOption): option is PrefixOption {
  return "envPrefix" in option;
}

/** What a command line says: flag values in order, and what is not a flag. */
export interface ParsedArguments {
  readonly flags: ReadonlyMap<string, readonly string[]>;
  readonly positionals: readonly string[];
  readonly helpWanted: boolean;
  /** Unknown flags that were let through because `tolerateUnknown` was set. */
  readonly ignored: readonly string[];
}

/**
 * Splits a command line by the table. `--` ends the flags. `tolerateUnknown` is for Istio's own
 * argument form of the waypoint, whose template passes flags that only Envoy understands.
 * @throws UsageError for an unknown flag or a missing value.
 */
export function parseArguments(
  argv: readonly string[],
  table: OptionTable,
  settings: { readonly tolerateUnknown?: boolean } = {},
): ParsedArguments {
  const byFlag = new Map<string, Option<unknown> | PrefixOption>();
  for (const option of Object.values(table)) {
    byFlag.set(option.flag, option);
    if (!isPrefixOption(option)) { for (const alias of option.flagAliases) byFlag.set(alias, option); }
  }
  const flags = new Map<string, string[]>();
  const positionals: string[] = [];
  const ignored: string[] = [];
  let helpWanted = false;

  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i];
    if (argument === "--") {
      positionals.push(...argv.slice(i + 1));
      break;
    }
    if (argument === "--help" || argument === "-h") {
      helpWanted = true;
      continue;
    }
    if (!argument.startsWith("-") || argument === "-") {
      positionals.push(argument);
      continue;
    }
    const equals = argument.indexOf("=");
    const typed = (equals < 0 ? argument : argument.slice(0, equals)).replace(/^--/, "");
    const option = argument.startsWith("--") ? byFlag.get(typed) : undefined;
    const next = argv[i + 1];
    if (option === undefined) {
      if (!settings.tolerateUnknown) throw unknownFlag(argument, byFlag.keys());
      ignored.push(argument);
      if (equals < 0 && next !== undefined && !next.startsWith("-")) i++;
      continue;
    }
    let value: string;
    if (equals >= 0) value = argument.slice(equals + 1);
    else if (!isPrefixOption(option) && option.isBoolean && next !== "true" && next !== "false") value = "true";
    else if (next === undefined) throw new UsageError(`flag --${typed} needs a value: --${typed}=${option.metavar}`);
    else {
      value = next;
      i++;
    }
    const values = flags.get(option.flag);
    if (values === undefined) flags.set(option.flag, [value]);
    else values.push(value);
  }
  return { flags, positionals, helpWanted, ignored };
}

function unknownFlag(argument: string, known: Iterable<string>): UsageError {
  const typed = argument.replace(/=.*$/s, "");
  const near = nearest(typed.replace(/^-+/, ""), known);
  const hint = near === undefined ? "see --help for the flags there are" : `did you mean --${near}?`;
  return new UsageError(`unknown flag ${shown(typed)}: ${hint}`);
}

/**
 * The value of every option: the last flag, else the first variable that is set, else the default.
 * @throws UsageError that names the flag or variable, the text and what is allowed.
 */
export function resolveOptions<Table extends OptionTable>(
  table: Table,
  parsed: ParsedArguments,
  env: Environment,
): ValuesOf<Table> {
  const values: Record<string, unknown> = {};
  for (const [key, option] of Object.entries(table)) {
    values[key] = isPrefixOption(option) ? resolvePairs(option, parsed, env) : resolveOne(option, parsed, env);
  }
  return Object.freeze(values) as ValuesOf<Table>;
}

function resolveOne(option: Option<unknown>, parsed: ParsedArguments, env: Environment): unknown {
  const given = parsed.flags.get(option.flag)?.at(-1);
  if (given !== undefined) return parseFrom(option.parse, given, `flag --${option.flag}`);
  for (const name of option.env) {
    const value = env[name];
    if (value !== undefined) return parseFrom(option.parse, value, `environment variable ${name}`);
  }
  return option.fallback;
}

function resolvePairs(option: PrefixOption, parsed: ParsedArguments, env: Environment): Pairs {
  const pairs = new Map<string, string>();
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || !name.startsWith(option.envPrefix)) continue;
    const key = parseFrom(option.parseName, name.slice(option.envPrefix.length), `environment variable ${name}`);
    pairs.set(key, value);
  }
  for (const given of parsed.flags.get(option.flag) ?? []) {
    const equals = given.indexOf("=");
    if (equals <= 0) throw new UsageError(`flag --${option.flag}=${shown(given)}: must be ${option.metavar}`);
    const key = parseFrom(option.parseName, given.slice(0, equals), `flag --${option.flag}`);
    pairs.set(key, given.slice(equals + 1));
  }
  return [...pairs];
}

function parseFrom<T>(parse: (text: string) => T, value: string, origin: string): T {
  try {
    return parse(value);
  } catch (error) {
    throw new UsageError(`${origin}: ${shown(value)} ${error instanceof Error ? error.message : String(error)}`);
  }
}
