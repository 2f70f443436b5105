/** What a client asks, and the shape of what it is told (RFC 1035 section 4.1, RFC 6891 sections 6 and 7). Pure. */
import {
  decodeHeader,
  decodeMessage,
  type Edns,
  encodeMessage,
  type Header,
  type Message,
  MIN_UDP_BYTES,
  OPCODE_QUERY,
  type Question,
  RCODE,
  TYPE,
} from "../../protocol/dns/mod.ts";
import type { Answer } from "./answer_cache.ts";

export type ParsedRequest =
  /** Nothing that could be answered. */
  | { readonly kind: "ignore" }
  | { readonly kind: "reject"; readonly response: Message }
  | { readonly kind: "question"; readonly request: Message; readonly question: Question };

/** Larger UDP answers than this nobody gets, whatever he says he takes. */
const MAX_UDP_BYTES = 4096;
const NO_OPTIONS = new Uint8Array(0);
const EMPTY: Answer = { rcode: RCODE.NoError, authenticData: false, answers: [], authorities: [], additionals: [] };

export function parseRequest(bytes: Uint8Array): ParsedRequest {
  const header = decodeHeader(bytes);
  if (header === undefined) return { kind: "ignore" };
  if (header.response) return reject(header, RCODE.FormErr);
  if (header.opcode !== OPCODE_QUERY) return reject(header, RCODE.NotImp);
  const request = decodeMessage(bytes);
  if (request === undefined) return reject(header, RCODE.FormErr);
  const [question] = request.questions;
  if (request.questions.length !== 1) return reject(request, RCODE.FormErr);
  if (request.edns !== undefined && request.edns.version > 0) return reject(request, RCODE.BadVers);
  // A transfer of a zone takes many messages: none of what this proxy passes on.
  if (question.type === TYPE.AXFR || question.type === TYPE.IXFR) return reject(request, RCODE.NotImp);
  return { kind: "question", request, question };
}

/** The answer to a request. `authoritative`: it comes from the mesh. */
export function respond(request: Message, answer: Answer, authoritative: boolean): Message {
  return {
    ...answer,
    id: request.id,
    response: true,
    opcode: request.opcode,
    authoritative,
    truncated: false,
    recursionDesired: request.recursionDesired,
    recursionAvailable: true,
    // Who does not ask for it does not get it (RFC 6840 section 5.8).
    authenticData: answer.authenticData && (request.authenticData || (request.edns?.dnssecOk ?? false)),
    checkingDisabled: request.checkingDisabled,
    questions: request.questions,
    edns: echo(request.edns),
  };
}

export function respondEmpty(request: Message, rcode: number, authoritative = false): Message {
  return respond(request, { ...EMPTY, rcode }, authoritative);
}

/** The bytes of an answer; by UDP as many records as the client takes. */
export function encodeResponse(response: Message, request: Message | undefined, udp: boolean): Uint8Array {
  if (!udp) return encodeMessage(response);
  const taken = request?.edns?.payloadBytes ?? MIN_UDP_BYTES;
  return encodeMessage(response, Math.min(Math.max(taken, MIN_UDP_BYTES), MAX_UDP_BYTES));
}

function reject(request: Header | Message, rcode: number): ParsedRequest {
  const { questions, edns } = "questions" in request ? request : { questions: [], edns: undefined };
  const response = respondEmpty({ ...request, questions, answers: [], authorities: [], additionals: [], edns }, rcode);
  return { kind: "reject", response: { ...response, questions: questions.length === 1 ? questions : [] } };
}

function echo(edns: Edns | undefined): Edns | undefined {
  if (edns === undefined) return undefined;
  const payloadBytes = Math.max(edns.payloadBytes, MIN_UDP_BYTES);
  return { payloadBytes, version: 0, dnssecOk: edns.dnssecOk, options: NO_OPTIONS };
}
