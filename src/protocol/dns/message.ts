/** A DNS message as data (RFC 1035 section 4.1; RFC 6891 for EDNS). Names are in the text form of name.ts. */

export interface Question {
  /** As it was asked, case included: an answer repeats it exactly. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
}

export interface ResourceRecord {
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** Seconds. */
  readonly ttl: number;
  /** Names in it are written out, never compressed. */
  readonly data: Uint8Array;
}

/** The OPT pseudo-record. */
export interface Edns {
  /** Largest UDP answer that its sender takes. */
  readonly payloadBytes: number;
  readonly version: number;
  /** DO: DNSSEC records are wanted. */
  readonly dnssecOk: boolean;
  /** Options as on the wire. They are between neighbours, and not passed on. */
  readonly options: Uint8Array;
}

export interface Header {
  readonly id: number;
  /** QR: an answer, not a question. */
  readonly response: boolean;
  readonly opcode: number;
  /** AA */
  readonly authoritative: boolean;
  /** TC */
  readonly truncated: boolean;
  /** RD */
  readonly recursionDesired: boolean;
  /** RA */
  readonly recursionAvailable: boolean;
  /** AD, RFC 4035 */
  readonly authenticData: boolean;
  /** CD, RFC 4035 */
  readonly checkingDisabled: boolean;
  /** Twelve bits with EDNS, else four. */
  readonly rcode: number;
}

export interface Message extends Header {
  readonly questions: readonly Question[];
  readonly answers: readonly ResourceRecord[];
  readonly authorities: readonly ResourceRecord[];
  /** Without the OPT record, which is `edns`. */
  readonly additionals: readonly ResourceRecord[];
  readonly edns: Edns | undefined;
}

export const HEADER_BYTES = 12;
export const MAX_MESSAGE_BYTES = 65_535;
/** What every UDP client takes (RFC 1035 section 4.2.1). */
export const MIN_UDP_BYTES = 512;
