/**
 * DNS messages from bytes. Sans-io. Nothing is trusted: every length is checked, names end (name.ts), and a message is read whole or
 * not at all. Work and memory are bounded by the message: a record is at least eleven bytes, a name at most 255.
 */
import { TYPE } from "./constants.ts";
import { type Edns, type Header, HEADER_BYTES, type Message, type Question, type ResourceRecord } from "./message.ts";
import { NameReader } from "./name.ts";
import { mergeNames } from "./encode.ts";
import { nameLayout } from "./records.ts";

const QUESTION_FIXED_BYTES = 4;
const RECORD_FIXED_BYTES = 10;
/** RFC 2181 section 8: a TTL with the top bit set counts as 0. */
const MAX_TTL = 2 ** 31 - 1;

/** The header alone, which is what can still be answered of a message that is malformed behind it. Undefined: too short. */
export function decodeHeader(bytes: Uint8Array): Header | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const high = bytes[2];
  const low = bytes[3];
  return {
    id: bytes[0] << 8 | bytes[1],
    response: (high & 0x80) !== 0,
    opcode: high >> 3 & 0xf,
    authoritative: (high & 4) !== 0,
    truncated: (high & 2) !== 0,
    recursionDesired: (high & 1) !== 0,
    recursionAvailable: (low & 0x80) !== 0,
    authenticData: (low & 0x20) !== 0,
    checkingDisabled: (low & 0x10) !== 0,
    rcode: low & 0xf,
  };
}

/** The message, or undefined when it is malformed. Bytes behind it are ignored, as other servers do. */
export function decodeMessage(bytes: Uint8Array): Message | undefined {
  const header = decodeHeader(bytes);
  if (header === undefined) return undefined;
  const reader = new Reader(bytes);
  const questions: Question[] = [];
  for (let i = count(bytes, 4); i > 0; i--) {
    const question = reader.question();
    if (question === undefined) return undefined;
    questions.push(question);
  }
  const answers = reader.section(count(bytes, 6));
  const authorities = answers && reader.section(count(bytes, 8));
  const additionals = authorities && reader.section(count(bytes, 10), true);
  if (answers === undefined || authorities === undefined || additionals === undefined) return undefined;
  const { edns, extendedRcode } = reader;
  return { ...header, rcode: header.rcode | extendedRcode << 4, questions, answers, authorities, additionals, edns };
}

function count(bytes: Uint8Array, offset: number): number {
  return bytes[offset] << 8 | bytes[offset + 1];
}

class Reader {
  edns: Edns | undefined;
  extendedRcode = 0;
  readonly #bytes: Uint8Array;
  readonly #names: NameReader;
  #at = HEADER_BYTES;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#names = new NameReader(bytes);
  }

  question(): Question | undefined {
    const name = this.#names.read(this.#at);
    if (name === undefined) return undefined;
    const at = this.#names.next;
    if (at + QUESTION_FIXED_BYTES > this.#bytes.length) return undefined;
    this.#at = at + QUESTION_FIXED_BYTES;
    return { name, type: count(this.#bytes, at), class: count(this.#bytes, at + 2) };
  }

  /** An OPT record is allowed once, and among the additional records only. */
  section(records: number, optAllowed = false): ResourceRecord[] | undefined {
    const section: ResourceRecord[] = [];
    for (let i = records; i > 0; i--) {
      const name = this.#names.read(this.#at);
      if (name === undefined) return undefined;
      const at = this.#names.next;
      const start = at + RECORD_FIXED_BYTES;
      if (start > this.#bytes.length) return undefined;
      const end = start + count(this.#bytes, at + 8);
      if (end > this.#bytes.length) return undefined;
      this.#at = end;
      const type = count(this.#bytes, at);
      if (type === TYPE.OPT) {
        if (!optAllowed || this.edns !== undefined || name !== "" || !this.#opt(at, start, end)) return undefined;
        continue;
      }
      const data = this.#data(type, start, end);
      if (data === undefined) return undefined;
      const ttl = this.#bytes[at + 4] * 2 ** 24 + (this.#bytes[at + 5] << 16 | count(this.#bytes, at + 6));
      section.push({ name, type, class: count(this.#bytes, at + 2), ttl: ttl > MAX_TTL ? 0 : ttl, data });
    }
    return section;
  }

  /** Options are length-prefixed; one that runs over the record makes it malformed. */
  #opt(at: number, start: number, end: number): boolean {
    for (let option = start; option < end;) {
      if (option + 4 > end) return false;
      option += 4 + count(this.#bytes, option + 2);
      if (option > end) return false;
    }
    this.extendedRcode = this.#bytes[at + 4];
    this.edns = {
      payloadBytes: count(this.#bytes, at + 2),
      version: this.#bytes[at + 5],
      dnssecOk: (this.#bytes[at + 6] & 0x80) !== 0,
      options: this.#bytes.slice(start, end),
    };
    return true;
  }

  /** A copy of the data with its names written out. */
  #data(type: number, start: number, end: number): Uint8Array | undefined {
    const layout = nameLayout(type);
    // No data at all: as in the updates of RFC 2136, and harmless in any other message.
    if (layout === undefined || start === end) return this.#bytes.slice(start, end);
    let at = start + layout.fixed;
    for (let i = layout.strings; i > 0; i--) {
      if (at >= end) return undefined;
      at += 1 + this.#bytes[at];
    }
    if (at > end) return undefined;
    const names: string[] = [];
    const head = this.#bytes.subarray(start, at);
    for (let i = layout.names; i > 0; i--) {
      const name = this.#names.read(at, end);
      if (name === undefined) return undefined;
      names.push(name);
      at = this.#names.next;
    }
    if (at !== end && !layout.rest) return undefined;
    return mergeNames(head, names, this.#bytes.subarray(at, end));
  }
}
