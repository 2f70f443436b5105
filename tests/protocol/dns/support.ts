/** Messages for the tests of the DNS codec. */
import { type Message, OPCODE_QUERY, type ResourceRecord } from "../../../src/protocol/dns/mod.ts";

export const EMPTY: Message = {
  id: 0,
  response: false,
  opcode: OPCODE_QUERY,
  authoritative: false,
  truncated: false,
  recursionDesired: false,
  recursionAvailable: false,
  authenticData: false,
  checkingDisabled: false,
  rcode: 0,
  questions: [],
  answers: [],
  authorities: [],
  additionals: [],
  edns: undefined,
};

/** Bytes from hexadecimal with blanks, and text in quotes. */
export function bytes(text: string): Uint8Array {
  const out: number[] = [];
  for (const part of text.matchAll(/"([^"]*)"|([0-9a-f]{2})/gi)) {
    if (part[1] !== undefined) out.push(...new TextEncoder().encode(part[1]));
    else out.push(parseInt(part[2], 16));
  }
  return Uint8Array.from(out);
}

export function record(name: string, type: number, data: Uint8Array, ttl = 60): ResourceRecord {
  return { name, type, class: 1, ttl, data };
}
