/** A format as a function, made once. */
import type { Format } from "../spec/mod.ts";
import { COMMANDS, makeCommand } from "./commands.ts";
import type { Evaluate, FormatEnvironment } from "./environment.ts";
import type { FormatFacts } from "./facts.ts";

/** `nothing`: what a command without a value prints; a log's dash, a header's nothing. */
export function compileFormat(
  format: Format,
  environment: FormatEnvironment,
  nothing: string,
): (facts: FormatFacts) => string {
  const parts: (string | Evaluate)[] = format.map((part) => {
    if ("text" in part) return part.text;
    const evaluate = makeCommand(part.command, part.argument, environment);
    if (evaluate === undefined) return nothing;
    const { maxLength } = part;
    return maxLength === undefined ? evaluate : (facts) => evaluate(facts)?.slice(0, maxLength);
  });
  if (parts.length === 1) {
    const [only] = parts;
    return typeof only === "string" ? () => only : (facts) => only(facts) || nothing;
  }
  return (facts) => {
    let text = "";
    for (const part of parts) text += typeof part === "string" ? part : part(facts) || nothing;
    return text;
  };
}

/** Commands of a format that nobody knows here, for a warning when it is configured. */
export function unknownCommands(format: Format): readonly string[] {
  return format.flatMap((part) => "command" in part && !Object.hasOwn(COMMANDS, part.command) ? [part.command] : []);
}
