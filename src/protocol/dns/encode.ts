/**
 * DNS messages to bytes. Sans-io. Names are compressed where every reader follows (owner names, and the data of the first types).
 * What does not fit is left out by whole records, and the message says so (TC) when an answer or authority is missing.
 */
import { CLASS_IN, TYPE } from "./constants.ts";
import { HEADER_BYTES, MAX_MESSAGE_BYTES, type Message, type ResourceRecord } from "./message.ts";
import { labelBytes, MAX_NAME_BYTES, NameReader, splitName } from "./name.ts";
import { mayCompress, nameLayout } from "./records.ts";

/** Offsets in pointers have fourteen bits. */
const MAX_POINTER = 0x3fff;
const OPT_FIXED_BYTES = 11;
const FIRST_BYTES = 512;

/** At most `maxBytes`; the question and the OPT record are never left out. Throws a TypeError for a name that is none. */
export function encodeMessage(message: Message, maxBytes = MAX_MESSAGE_BYTES): Uint8Array {
  const writer = new Writer(Math.min(maxBytes, MAX_MESSAGE_BYTES));
  const optBytes = message.edns === undefined ? 0 : OPT_FIXED_BYTES + message.edns.options.length;
  writer.skip(HEADER_BYTES);
  for (const { name, type, class: klass } of message.questions) {
    writer.name(name, true);
    writer.u16(type);
    writer.u16(klass);
  }
  writer.limit -= optBytes;
  const answers = writer.records(message.answers);
  const authorities = answers < message.answers.length ? 0 : writer.records(message.authorities);
  const cut = answers < message.answers.length || authorities < message.authorities.length;
  const additionals = cut ? 0 : writer.records(message.additionals);
  writer.limit += optBytes;
  if (message.edns !== undefined) writer.opt(message.edns, message.rcode);
  writer.header(message, cut, [
    message.questions.length,
    answers,
    authorities,
    additionals + (message.edns === undefined ? 0 : 1),
  ]);
  return writer.bytes();
}

/** Record data made of fixed bytes, names and what follows. */
export function mergeNames(head: Uint8Array, names: readonly string[], rest: Uint8Array): Uint8Array {
  const writer = new Writer(head.length + names.length * MAX_NAME_BYTES + rest.length);
  writer.raw(head);
  for (const name of names) writer.name(name, false);
  writer.raw(rest);
  return writer.bytes();
}

class Writer {
  limit: number;
  #bytes: Uint8Array;
  #at = 0;
  /** Where each name, or tail of one, stands. */
  readonly #offsets = new Map<string, number>();

  constructor(limit: number) {
    this.limit = limit;
    this.#bytes = new Uint8Array(Math.min(limit, FIRST_BYTES));
  }

  bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#at);
  }

  skip(length: number): void {
    this.#room(length);
    this.#at += length;
  }

  u16(value: number): void {
    this.#room(2);
    this.#bytes[this.#at++] = value >> 8;
    this.#bytes[this.#at++] = value;
  }

  raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** With `compress` tails that stand in the message already become pointers, and later ones may point here. */
  name(name: string, compress: boolean): void {
    const labels = splitName(name);
    let wireBytes = 1;
    for (let i = 0; i < labels.length; i++) {
      if (compress) {
        const tail = i === 0 ? name : labels.slice(i).join(".");
        const offset = this.#offsets.get(tail);
        if (offset !== undefined) return this.u16(0xc000 | offset);
        if (this.#at <= MAX_POINTER) this.#offsets.set(tail, this.#at);
      }
      const bytes = labelBytes(labels[i]);
      if (bytes === undefined) throw new TypeError(`dns: "${name}" is not a domain name`);
      wireBytes += bytes.length + 1;
      if (wireBytes > MAX_NAME_BYTES) throw new TypeError(`dns: "${name}" is longer than ${MAX_NAME_BYTES} bytes`);
      this.#room(1);
      this.#bytes[this.#at++] = bytes.length;
      this.raw(bytes);
    }
    this.#room(1);
    this.#bytes[this.#at++] = 0;
  }

  /** As many as fit; how many that were. */
  records(records: readonly ResourceRecord[]): number {
    for (let i = 0; i < records.length; i++) {
      const start = this.#at;
      this.#record(records[i]);
      if (this.#at <= this.limit) continue;
      this.#at = start;
      return i;
    }
    return records.length;
  }

  opt({ payloadBytes, version, dnssecOk, options }: NonNullable<Message["edns"]>, rcode: number): void {
    this.#room(1);
    this.#bytes[this.#at++] = 0;
    this.u16(TYPE.OPT);
    this.u16(payloadBytes);
    this.u16(rcode >> 4 << 8 | version);
    this.u16(dnssecOk ? 0x8000 : 0);
    this.u16(options.length);
    this.raw(options);
  }

  header(message: Message, cut: boolean, counts: readonly number[]): void {
    const end = this.#at;
    this.#at = 0;
    this.u16(message.id);
    const high = (message.response ? 0x80 : 0) | message.opcode << 3 | (message.authoritative ? 4 : 0) |
      (message.truncated || cut ? 2 : 0) | (message.recursionDesired ? 1 : 0);
    const low = (message.recursionAvailable ? 0x80 : 0) | (message.authenticData ? 0x20 : 0) |
      (message.checkingDisabled ? 0x10 : 0) | message.rcode & 0xf;
    this.u16(high << 8 | low);
    for (const value of counts) this.u16(value);
    this.#at = end;
  }

  #record({ name, type, class: klass, ttl, data }: ResourceRecord): void {
    this.name(name, true);
    this.u16(type);
    this.u16(klass);
    this.u16(ttl >>> 16);
    this.u16(ttl & 0xffff);
    const lengthAt = this.#at;
    this.u16(0);
    if (mayCompress(type) && klass === CLASS_IN) this.#compressed(type, data);
    else this.raw(data);
    const length = this.#at - lengthAt - 2;
    this.#bytes[lengthAt] = length >> 8;
    this.#bytes[lengthAt + 1] = length;
  }

  #compressed(type: number, data: Uint8Array): void {
    const layout = nameLayout(type)!;
    const reader = new NameReader(data);
    const names: string[] = [];
    let at = layout.fixed;
    for (let i = layout.names; i > 0; i--) {
      const name = reader.read(at);
      if (name === undefined) return this.raw(data);
      names.push(name);
      at = reader.next;
    }
    this.raw(data.subarray(0, layout.fixed));
    for (const name of names) this.name(name, true);
    this.raw(data.subarray(at));
  }

  #room(length: number): void {
    const needed = this.#at + length;
    if (needed <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
    larger.set(this.#bytes);
    this.#bytes = larger;
  }
}
