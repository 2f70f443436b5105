/**
 * Files of Kubernetes's downward API: one `key="value"` a line, the value as a quoted string of Go (waypoint.md 1.4).
 *
 * The kubelet writes them with `%q`; what cannot be read is passed over, as pilot-agent does: a label is for telemetry, and no reason not to start.
 */

/** Above what a pod's annotations may hold together in Kubernetes (256 KiB), escaped. */
const MAX_CHARS = 1024 * 1024;

export interface DownwardFile {
  readonly entries: Readonly<Record<string, string>>;
  /** Lines that could not be read. */
  readonly skipped: number;
}

export function parseDownwardFile(text: string): DownwardFile {
  const entries = Object.create(null) as Record<string, string>;
  if (text.length > MAX_CHARS) return { entries: { ...entries }, skipped: 1 };
  let skipped = 0;
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    const equals = line.indexOf("=");
    const value = equals <= 0 ? undefined : unquote(line.slice(equals + 1).trim());
    if (value === undefined) skipped++;
    else entries[line.slice(0, equals)] = value;
  }
  return { entries: { ...entries }, skipped };
}

const SIMPLE: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
  "\\": "\\",
  '"': '"',
};
const HEX_DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

/** Go's interpreted string literal; undefined when it is none. Bytes above ASCII that are escaped one by one are read as UTF-8. */
function unquote(text: string): string | undefined {
  if (text.length < 2 || text[0] !== '"' || text[text.length - 1] !== '"') return undefined;
  let result = "";
  const bytes: number[] = [];
  const flush = () => {
    if (bytes.length > 0) result += new TextDecoder().decode(Uint8Array.from(bytes.splice(0)));
  };
  for (let i = 1; i < text.length - 1; i++) {
    const char = text[i];
    if (char === '"') return undefined;
    if (char !== "\\") {
      flush();
      result += char;
      continue;
    }
    const escape = text[++i];
    if (i >= text.length - 1) return undefined;
    const simple = Object.hasOwn(SIMPLE, escape) ? SIMPLE[escape] : undefined;
    if (simple !== undefined) {
      flush();
      result += simple;
      continue;
    }
    const isOctal = /[0-7]/.test(escape);
    const digits = isOctal ? 3 : Object.hasOwn(HEX_DIGITS, escape) ? HEX_DIGITS[escape] : 0;
    const at = isOctal ? i : i + 1;
    const number = text.slice(at, at + digits);
    if (digits === 0 || at + digits > text.length - 1) return undefined;
    if (!(isOctal ? /^[0-7]+$/ : /^[0-9a-fA-F]+$/).test(number)) return undefined;
    const code = parseInt(number, isOctal ? 8 : 16);
    i = at + digits - 1;
    if (isOctal || escape === "x") {
      if (code > 0xff) return undefined;
      bytes.push(code);
    } else {
      if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return undefined;
      flush();
      result += String.fromCodePoint(code);
    }
  }
  flush();
  return result;
}
