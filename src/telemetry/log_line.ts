/**
 * The two forms of a log line, as Istio's ztunnel writes them. Pure: text in, text out.
 *
 * A plain line is `time TAB level TAB target TAB message [TAB k=v k=v] LF`. Every value that may
 * come from a peer is quoted or checked, so that no peer can forge a line or a field.
 */
import type { Level } from "./log_filter.ts";

/** A value that stands without quotes: an address. It is quoted all the same if it holds anything odd. */
export interface Bare {
  readonly bare: string;
}

export type FieldValue = string | number | bigint | boolean | Bare | undefined;

/** In the order they are written; `undefined` is left out. */
export type Fields = Readonly<Record<string, FieldValue>>;

export function bare(text: string): Bare {
  return { bare: text };
}

/** Control characters that JSON leaves as they are, C1 and the line separators, would act in a terminal. */
const UNESCAPED_CONTROLS = /[\x7f-\x9f\u2028\u2029]/g;

/** Printable ASCII without quote and backslash: nearly every value there is, and needs no escaping. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** Quoted and escaped, so that it holds no control character. */
export function quoted(text: string): string {
  if (PLAIN.test(text)) return '"' + text + '"';
  return JSON.stringify(text).replace(
    UNESCAPED_CONTROLS,
    (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"),
  );
}

/** As it is when it is printable ASCII without blank, quote and equals sign, else quoted. */
export function bareText(text: string): string {
  return /^[!#-<>-~]+$/.test(text) ? text : quoted(text);
}

/** ztunnel's own crate: left off in plain lines, kept in JSON. */
const CRATE = "ztunnel::";

export function formatPlain(time: string, level: Level, target: string, message: string, fields?: Fields): string {
  const scope = target.startsWith(CRATE) ? target.slice(CRATE.length) : target;
  let line = time + "\t" + level + "\t" + scope + "\t" + cleaned(message);
  let separator = "\t";
  for (const key in fields) {
    const value = fields[key];
    if (value === undefined) continue;
    line += separator + key + "=" + plainValue(value);
    separator = " ";
  }
  return line + "\n";
}

export function formatJson(time: string, level: Level, target: string, message: string, fields?: Fields): string {
  let line = `{"level":"${level}","time":"${time}","scope":${quoted(target)}`;
  if (message !== "") line += ',"message":' + quoted(message);
  for (const key in fields) {
    const value = fields[key];
    if (value !== undefined) line += "," + quoted(key) + ":" + jsonValue(value);
  }
  return line + "}\n";
}

/** A message is our own text, but may carry an error's: it must stay on its line. */
function cleaned(message: string): string {
  // deno-lint-ignore no-control-regex
  return /[\x00-\x1f\x7f-\x9f\u2028\u2029]/.test(message) ? quoted(message).slice(1, -1) : message;
}

function plainValue(value: Exclude<FieldValue, undefined>): string {
  if (typeof value === "string") return quoted(value);
  return typeof value === "object" ? bareText(value.bare) : String(value);
}

function jsonValue(value: Exclude<FieldValue, undefined>): string {
  if (typeof value === "string") return quoted(value);
  if (typeof value === "object") return quoted(value.bare);
  return typeof value === "number" && !Number.isFinite(value) ? `"${value}"` : String(value);
}

let lastSecond = -1;
let lastSecondText = "";

/** RFC 3339 in UTC with microseconds; `nowMs` is milliseconds since the epoch, fractions counting. */
export function formatTime(nowMs: number): string {
  const second = Math.floor(nowMs / 1000);
  if (second !== lastSecond) {
    lastSecond = second;
    lastSecondText = new Date(second * 1000).toISOString().slice(0, 20);
  }
  const micros = Math.floor((nowMs - second * 1000) * 1000);
  return lastSecondText + String(1_000_000 + Math.min(micros, 999_999)).slice(1) + "Z";
}
