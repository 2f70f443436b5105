/**
 * Domain names between wire and text (RFC 1035 sections 3.1, 4.1.4 and 5.1). Text is the presentation form without the final dot,
 * the root being "": a dot or backslash within a label is escaped, any byte that is not printable ASCII is `\DDD`. So two names are
 * equal, but for case, exactly when their texts are, and every name survives the way there and back.
 *
 * A name on the wire may end in a pointer to an earlier one. Each pointer must lead further back than the name it was found in began,
 * so that reading always ends.
 */

export const MAX_NAME_BYTES = 255;
export const MAX_LABEL_BYTES = 63;

const DOT = 46;
const BACKSLASH = 92;
const POINTER = 0xc0;

/** Reads names out of one message. `next` is the place behind the name just read. */
export class NameReader {
  next = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The name at `offset`; undefined when it is malformed or does not end before `end`. */
  read(offset: number, end = this.#bytes.length): string | undefined {
    const bytes = this.#bytes;
    let text = "";
    let wireBytes = 1;
    let at = offset;
    let limit = end;
    /** Where the part that is being read began: a pointer must lead before it. */
    let partStart = offset;
    let jumped = false;
    while (true) {
      if (at >= limit) return undefined;
      const length = bytes[at];
      if (length >= POINTER) {
        if (at + 2 > limit) return undefined;
        const target = (length & 0x3f) << 8 | bytes[at + 1];
        if (target >= partStart) return undefined;
        if (!jumped) this.next = at + 2;
        jumped = true;
        limit = partStart;
        at = partStart = target;
        continue;
      }
      // 0x40 and 0x80 were meant for other kinds of labels, and never came to be used (RFC 6891 section 5).
      if (length > MAX_LABEL_BYTES) return undefined;
      if (length === 0) {
        if (!jumped) this.next = at + 1;
        return text;
      }
      wireBytes += length + 1;
      if (wireBytes > MAX_NAME_BYTES || at + 1 + length > limit) return undefined;
      if (text !== "") text += ".";
      text += labelText(bytes, at + 1, at + 1 + length);
      at += 1 + length;
    }
  }
}

function labelText(bytes: Uint8Array, start: number, end: number): string {
  let text = "";
  for (let i = start; i < end; i++) {
    const byte = bytes[i];
    if (byte === DOT || byte === BACKSLASH) text += `\\${String.fromCharCode(byte)}`;
    else if (byte > 32 && byte < 127) text += String.fromCharCode(byte);
    else text += `\\${byte.toString().padStart(3, "0")}`;
  }
  return text;
}

/** The labels of a name, still escaped. The root has none. */
export function splitName(name: string): string[] {
  if (name === "") return [];
  if (!name.includes("\\")) return name.split(".");
  const labels: string[] = [];
  let start = 0;
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i);
    if (code === BACKSLASH) i++;
    else if (code === DOT) {
      labels.push(name.slice(start, i));
      start = i + 1;
    }
  }
  labels.push(name.slice(start));
  return labels;
}

/** The bytes of one label; undefined when it is empty, too long, or escaped wrongly. */
export function labelBytes(label: string): Uint8Array | undefined {
  const bytes = new Uint8Array(MAX_LABEL_BYTES);
  let length = 0;
  for (let i = 0; i < label.length; i++) {
    let code = label.charCodeAt(i);
    if (code === BACKSLASH) {
      const decimal = /^[0-9]{3}/.exec(label.slice(i + 1, i + 4))?.[0];
      if (decimal !== undefined) {
        code = Number(decimal);
        i += 3;
      } else {
        i++;
        if (i === label.length) return undefined;
        code = label.charCodeAt(i);
      }
    }
    if (code > 255 || length === MAX_LABEL_BYTES) return undefined;
    bytes[length++] = code;
  }
  return length === 0 ? undefined : bytes.subarray(0, length);
}

/**
 * A name that people or files wrote, in the text form used here: without the final dot, in lower case, escapes made canonical.
 * Undefined when it is no name.
 */
export function parseName(text: string): string | undefined {
  const withoutDot = text === "." ? "" : text.endsWith(".") && !text.endsWith("\\.") ? text.slice(0, -1) : text;
  let wireBytes = 1;
  const labels: string[] = [];
  for (const label of splitName(withoutDot)) {
    const bytes = labelBytes(label);
    if (bytes === undefined) return undefined;
    wireBytes += bytes.length + 1;
    labels.push(labelText(bytes, 0, bytes.length));
  }
  return wireBytes > MAX_NAME_BYTES ? undefined : lowerName(labels.join("."));
}

/** DNS compares names without regard to the case of ASCII letters. Text has no other letters: those are `\DDD`. */
export function lowerName(name: string): string {
  return name.toLowerCase();
}
