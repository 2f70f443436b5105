/** JSON formats as functions, made once: a member of one command keeps its type, any other is text, and what has nothing to say is null. */
import type { Format, JsonFormat } from "../spec/mod.ts";
import { makeValue } from "./commands.ts";
import { compileFormat } from "./compile.ts";
import type { EvaluateValue, FormatEnvironment } from "./environment.ts";
import type { FormatFacts } from "./facts.ts";

/** A member, with the text that stands before its value. */
interface Member {
  readonly name: string;
  readonly label: string;
  readonly value: EvaluateValue | readonly Member[];
}

/** `omitEmpty`: members with nothing to say are left out. */
export function compileJson(
  format: JsonFormat,
  environment: FormatEnvironment,
  omitEmpty: boolean,
): (facts: FormatFacts) => string {
  const members = compileMembers(format, environment, omitEmpty);
  return (facts) => render(members, facts, omitEmpty);
}

/** The same as a value, for loggers that have an encoding of their own. */
export function compileJsonValue(
  format: JsonFormat,
  environment: FormatEnvironment,
): (facts: FormatFacts) => Record<string, unknown> {
  const members = compileMembers(format, environment, true);
  return (facts) => collect(members, facts);
}

function compileMembers(format: JsonFormat, environment: FormatEnvironment, omitEmpty: boolean): readonly Member[] {
  return Object.entries(format).map(([name, part]) => ({
    name,
    label: `${JSON.stringify(name)}:`,
    value: isFormat(part)
      ? compileTyped(part, environment, omitEmpty)
      : compileMembers(part as JsonFormat, environment, omitEmpty),
  }));
}

function isFormat(part: Format | JsonFormat): part is Format {
  return Array.isArray(part);
}

/** One command keeps its type. */
export function compileTyped(format: Format, environment: FormatEnvironment, omitEmpty: boolean): EvaluateValue {
  const [only] = format;
  if (format.length !== 1 || !("command" in only)) {
    return compileFormat(format, environment, omitEmpty ? "" : "-");
  }
  const evaluate = makeValue(only.command, only.argument, environment);
  if (evaluate === undefined) return () => undefined;
  const { maxLength } = only;
  return (facts) => {
    const value = evaluate(facts);
    if (value === "") return undefined;
    return maxLength !== undefined && typeof value === "string" ? value.slice(0, maxLength) : value;
  };
}

function render(members: readonly Member[], facts: FormatFacts, omitEmpty: boolean): string {
  let text = "{";
  for (const { label, value } of members) {
    let shown: string;
    if (typeof value === "function") {
      const found = value(facts);
      if (found === undefined && omitEmpty) continue;
      shown = jsonText(found);
    } else {
      shown = render(value, facts, omitEmpty);
      if (omitEmpty && shown === "{}") continue;
    }
    text += text.length === 1 ? label + shown : "," + label + shown;
  }
  return text + "}";
}

function jsonText(value: unknown): string {
  if (value === undefined) return "null";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "null";
  return JSON.stringify(value) ?? "null";
}

function collect(members: readonly Member[], facts: FormatFacts): Record<string, unknown> {
  const record: Record<string, unknown> = {};
  for (const { name, value } of members) {
    const found = typeof value === "function" ? value(facts) : collect(value, facts);
    if (found !== undefined) record[name] = found;
  }
  return record;
}
