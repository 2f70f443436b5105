/**
 * Envoy's substitution format strings: text with `%COMMAND(ARGUMENT):LENGTH%`, and `%%` for a percent sign. Whether a command is known is the
 * reader's affair; one that is written wrongly is unsupported here.
 */
import type { Format, FormatPart } from "../spec/mod.ts";
import { Unsupported } from "./guard.ts";

const NAME = /[A-Z0-9_]/;

/** @throws Unsupported with the place of what cannot be read */
export function parseFormat(text: string): Format {
  return parse(text, false);
}

/** Of a header change: users write plain values there, in which a percent sign that begins no command stands for itself. */
export function parseHeaderValue(text: string): Format {
  return parse(text, true);
}

function parse(text: string, lenient: boolean): Format {
  const parts: FormatPart[] = [];
  let literal = "";
  for (let at = 0; at < text.length;) {
    if (text[at] !== "%") {
      const next = text.indexOf("%", at);
      const end = next < 0 ? text.length : next;
      literal += text.slice(at, end);
      at = end;
    } else if (text[at + 1] === "%") {
      literal += "%";
      at += 2;
    } else {
      const found = readCommand(text, at);
      if (found === undefined) {
        if (!lenient) {
          throw new Unsupported(`the format ${JSON.stringify(text)} cannot be read from character ${at + 1} on`);
        }
        literal += "%";
        at++;
        continue;
      }
      const { part, end } = found;
      if (literal !== "") parts.push({ text: literal });
      literal = "";
      parts.push(part);
      at = end;
    }
  }
  if (literal !== "") parts.push({ text: literal });
  return parts;
}

/** Undefined when nothing that can be read begins at `start`. */
function readCommand(text: string, start: number): { readonly part: FormatPart; readonly end: number } | undefined {
  let at = start + 1;
  while (at < text.length && NAME.test(text[at])) at++;
  const command = text.slice(start + 1, at);
  if (command === "") return undefined;
  let argument = "";
  if (text[at] === "(") {
    const close = closing(text, at);
    if (close < 0) return undefined;
    argument = text.slice(at + 1, close);
    at = close + 1;
  }
  let maxLength: number | undefined;
  if (text[at] === ":") {
    const digits = /^\d{1,9}/.exec(text.slice(at + 1))?.[0];
    if (digits === undefined) return undefined;
    maxLength = Number(digits);
    at += 1 + digits.length;
  }
  if (text[at] !== "%") return undefined;
  return { part: { command, argument, maxLength }, end: at + 1 };
}

/** The parenthesis that closes the one at `open`; arguments such as CEL's hold pairs of their own. */
function closing(text: string, open: number): number {
  let depth = 0;
  for (let at = open; at < text.length; at++) {
    if (text[at] === "(") depth++;
    else if (text[at] === ")" && --depth === 0) return at;
  }
  return -1;
}
