/** Characters and numbers of HTTP/1.1's grammar, RFC 9110 section 5 and RFC 9112. Strict: whatever two parsers might read differently is refused. */

const TOKEN = 1;
const TARGET = 2;
const HOST = 4;
const DIGIT = 8;

const table = new Uint8Array(256);

for (let c = 0x21; c < 0x7f; c++) table[c] |= TARGET;
for (const c of "!#$%&'*+-.^_`|~") table[c.charCodeAt(0)] |= TOKEN;
// A reg-name, an IP literal, and a port: RFC 3986 section 3.2.2, without the user's name and password.
for (const c of "-._~!$&'()*+,;=:[]%") table[c.charCodeAt(0)] |= HOST;
for (let c = 0x30; c <= 0x39; c++) table[c] |= TOKEN | HOST | DIGIT;
for (let c = 0x41; c <= 0x5a; c++) {
  table[c] |= TOKEN | HOST;
  table[c + 32] |= TOKEN | HOST;
}

function all(text: string, start: number, end: number, kind: number): boolean {
  for (let i = start; i < end; i++) {
    // Texts here are read as Latin-1, so no code is above 255.
    if ((table[text.charCodeAt(i)] & kind) === 0) return false;
  }
  return true;
}

/** A method or a field name. */
export function isToken(text: string, start = 0, end = text.length): boolean {
  return end > start && all(text, start, end, TOKEN);
}

/** Names as they come, and in lower case. Most are met in every message: looked at once. */
const names = new Map<string, string>();
const MAX_NAMES = 1024;
const MAX_NAME_LENGTH = 64;

/** A field name in lower case; undefined when it is none. */
export function fieldName(text: string): string | undefined {
  const known = names.get(text);
  if (known !== undefined) return known;
  if (!isToken(text)) return undefined;
  const made = text.toLowerCase();
  if (names.size < MAX_NAMES && text.length <= MAX_NAME_LENGTH) names.set(text, made);
  return made;
}

// deno-lint-ignore no-control-regex
const NOT_IN_VALUE = /[\x00-\x08\x0a-\x1f\x7f\u0100-\uffff]/;

/** No control characters but the tab; bytes above 127 are opaque. */
export function isFieldValue(text: string): boolean {
  return !NOT_IN_VALUE.test(text);
}

/** Visible ASCII only: a space would end the target for one parser and belong to it for another. */
export function isTarget(text: string, start = 0, end = text.length): boolean {
  return end > start && all(text, start, end, TARGET);
}

/** May be empty, as a request for a URI without an authority has it. */
export function isHost(text: string): boolean {
  return all(text, 0, text.length, HOST);
}

/** Longest Content-Length: below 2^53, and so exact. */
const MAX_LENGTH_DIGITS = 15;

/** Digits alone, without sign, space or comma; undefined otherwise, and where it is absurdly long. */
export function readLength(text: string): number | undefined {
  if (text.length === 0 || text.length > MAX_LENGTH_DIGITS || !all(text, 0, text.length, DIGIT)) return undefined;
  return Number(text);
}

/** Value of a hex digit, or -1. */
export function hexValue(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

/** The members of a comma-separated list, lower case, without spaces around them and without empty ones. */
export function listMembers(value: string): string[] {
  return value.toLowerCase().split(",").map((member) => member.trim()).filter((member) => member !== "");
}
