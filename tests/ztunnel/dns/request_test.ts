import assert from "node:assert/strict";
import { test } from "node:test";
import {
  addressRecord,
  decodeMessage,
  encodeMessage,
  type Message,
  RCODE,
  TYPE,
} from "../../../src/protocol/dns/mod.ts";
import { encodeResponse, parseRequest, respond, respondEmpty } from "../../../src/ztunnel/dns/request.ts";
import { EMPTY } from "../../protocol/dns/support.ts";

const NONE = new Uint8Array(0);
const REQUEST: Message = {
  ...EMPTY,
  id: 77,
  recursionDesired: true,
  checkingDisabled: true,
  questions: [{ name: "Shop.Town", type: TYPE.A, class: 1 }],
  edns: { payloadBytes: 100, version: 0, dnssecOk: true, options: Uint8Array.of(0, 10, 0, 1, 9) },
};

function rejection(message: Message, alter: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes): Message {
  const parsed = parseRequest(alter(encodeMessage(message)));
  assert.equal(parsed.kind, "reject");
  return decodeMessage(encodeResponse((parsed as { readonly response: Message }).response, undefined, true))!;
}

test("dns request: an ordinary question", () => {
  const parsed = parseRequest(encodeMessage(REQUEST));
  assert.equal(parsed.kind, "question");
  assert.deepEqual(parsed, { kind: "question", request: REQUEST, question: REQUEST.questions[0] });
});

test("dns request: what is refused, and how", () => {
  assert.equal(parseRequest(new Uint8Array(11)).kind, "ignore");
  assert.equal(rejection({ ...REQUEST, opcode: 4 }).rcode, RCODE.NotImp);
  assert.equal(rejection({ ...REQUEST, response: true }).rcode, RCODE.FormErr);
  assert.equal(rejection({ ...REQUEST, questions: [] }).rcode, RCODE.FormErr);
  assert.equal(rejection({ ...REQUEST, questions: [REQUEST.questions[0], REQUEST.questions[0]] }).rcode, RCODE.FormErr);
  assert.equal(rejection(REQUEST, (bytes) => bytes.slice(0, 20)).rcode, RCODE.FormErr);
  assert.equal(rejection({ ...REQUEST, edns: { ...REQUEST.edns!, version: 1 } }).rcode, RCODE.BadVers);
  const transfer = rejection({ ...REQUEST, questions: [{ name: "town", type: TYPE.AXFR, class: 1 }] });
  assert.equal(transfer.rcode, RCODE.NotImp);
  assert.equal(transfer.id, 77);
});

test("dns request: an answer repeats the question and says what this server is", () => {
  const answer = respond(
    REQUEST,
    { rcode: 0, authenticData: true, answers: [], authorities: [], additionals: [] },
    true,
  );
  assert.deepEqual(decodeMessage(encodeMessage(answer)), {
    ...EMPTY,
    id: 77,
    response: true,
    authoritative: true,
    recursionDesired: true,
    recursionAvailable: true,
    authenticData: true,
    checkingDisabled: true,
    questions: REQUEST.questions,
    edns: { payloadBytes: 512, version: 0, dnssecOk: true, options: NONE },
  });
  const plain = respondEmpty({ ...REQUEST, edns: undefined, authenticData: false }, RCODE.NXDomain);
  assert.deepEqual([plain.edns, plain.authoritative, plain.rcode], [undefined, false, RCODE.NXDomain]);
});

test("dns request: only who asks for AD gets it", () => {
  const answer = { rcode: 0, authenticData: true, answers: [], authorities: [], additionals: [] };
  assert.ok(!respond({ ...REQUEST, edns: undefined }, answer, false).authenticData);
  assert.ok(respond({ ...REQUEST, edns: undefined, authenticData: true }, answer, false).authenticData);
});

test("dns request: a UDP answer is as long as the client takes, from 512 to 4096 bytes", () => {
  const answers = Array.from({ length: 500 }, (_, i) => addressRecord("large", Uint8Array.of(10, 0, i >> 8, i), 1));
  const limits = [[undefined, 512], [100, 512], [1232, 1232], [65_535, 4096]] as const;
  for (const [payloadBytes, limit] of limits) {
    const request = { ...REQUEST, edns: payloadBytes === undefined ? undefined : { ...REQUEST.edns!, payloadBytes } };
    const response = respond(
      request,
      { rcode: 0, authenticData: false, answers, authorities: [], additionals: [] },
      true,
    );
    const udp = encodeResponse(response, request, true);
    assert.ok(udp.length <= limit && udp.length > limit - 32, `${udp.length} of ${limit}`);
    assert.ok(decodeMessage(udp)!.truncated);
    assert.equal(decodeMessage(encodeResponse(response, request, false))!.answers.length, 500);
  }
});
