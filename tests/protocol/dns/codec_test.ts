import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { mergeNames } from "../../../src/protocol/dns/encode.ts";
import {
  addressRecord,
  cnameRecord,
  decodeHeader,
  decodeMessage,
  encodeMessage,
  MAX_MESSAGE_BYTES,
  type Message,
  NameReader,
  RCODE,
  type ResourceRecord,
  soaMinimum,
  targetName,
  TYPE,
  typeName,
} from "../../../src/protocol/dns/mod.ts";
import { bytes, EMPTY, record } from "./support.ts";

const HEADER = "12 34 81 80 00 01 00 01 00 00 00 00";
const QUESTION = '03 "www" 07 "example" 03 "com" 00 00 01 00 01';

test("dns codec: reads a question as resolvers send it", () => {
  const message = decodeMessage(
    bytes(`ab cd 01 20 00 01 00 00 00 00 00 01 ${QUESTION} 00 00 29 04 d0 00 00 80 00 00 00`),
  )!;
  assert.deepEqual(message, {
    ...EMPTY,
    id: 0xabcd,
    recursionDesired: true,
    authenticData: true,
    questions: [{ name: "www.example.com", type: TYPE.A, class: 1 }],
    edns: { payloadBytes: 1232, version: 0, dnssecOk: true, options: new Uint8Array(0) },
  });
});

test("dns codec: RFC 1035 section 4.1.4: names that point to earlier ones", () => {
  const message = new Uint8Array(93);
  message.set(bytes('01 "F" 03 "ISI" 04 "ARPA" 00'), 20);
  message.set(bytes('03 "FOO" c0 14'), 40);
  message.set(bytes("c0 1a"), 64);
  const reader = new NameReader(message);
  for (
    const [at, name, next] of [[20, "F.ISI.ARPA", 32], [40, "FOO.F.ISI.ARPA", 46], [64, "ARPA", 66], [
      92,
      "",
      93,
    ]] as const
  ) {
    assert.deepEqual([reader.read(at), reader.next], [name, next]);
  }
  const questions =
    `12 34 01 00 00 02 00 00 00 00 00 00 01 "F" 03 "ISI" 04 "ARPA" 00 00 01 00 01 03 "FOO" c0 0c 00 01 00 01`;
  assert.deepEqual(decodeMessage(bytes(questions))!.questions.map(({ name }) => name), [
    "F.ISI.ARPA",
    "FOO.F.ISI.ARPA",
  ]);
});

test("dns codec: reads answers, and writes out the names in their data", () => {
  const message = decodeMessage(bytes(`
    ${HEADER.replace("00 01 00 01 00 00", "00 01 00 03 00 01")} ${QUESTION}
    c0 0c 00 05 00 01 00 00 00 3c 00 06 03 "cdn" c0 10
    c0 2d 00 01 00 01 00 00 00 1e 00 04 c0 00 02 01
    c0 0c 00 21 00 01 00 00 00 1e 00 0a 00 01 00 02 00 50 01 "s" c0 10
    c0 10 00 06 00 01 00 00 03 84 00 1d 02 "ns" c0 10 01 "a" c0 10 00 00 00 01 00 00 00 02 00 00 00 03 00 00 00 04 00 00 02 58
  `))!;
  assert.notEqual(message, undefined);
  assert.deepEqual(message.answers.map(({ name, type, ttl }) => [name, type, ttl]), [
    ["www.example.com", TYPE.CNAME, 60],
    ["cdn.example.com", TYPE.A, 30],
    ["www.example.com", TYPE.SRV, 30],
  ]);
  assert.equal(targetName(message.answers[0]), "cdn.example.com");
  assert.deepEqual(message.answers[1].data, bytes("c0 00 02 01"));
  assert.deepEqual(message.answers[2].data, bytes('00 01 00 02 00 50 01 "s" 07 "example" 03 "com" 00'));
  assert.equal(soaMinimum(message.authorities[0]), 600);
  assert.deepEqual(message.authorities[0].data.subarray(0, 16), bytes('02 "ns" 07 "example" 03 "com" 00'));
});

test("dns codec: a name that is compressed in any type that old servers compress is written out", () => {
  for (
    const [type, before, names] of [
      [TYPE.MX, "00 0a", 1],
      [TYPE.NS, "", 1],
      [TYPE.PTR, "", 1],
      [14, "", 2],
      [17, "", 2],
      [18, "00 01", 1],
      [26, "00 01", 2],
      [36, "00 01", 1],
      [TYPE.NAPTR, '00 01 00 02 01 "s" 03 "abc" 00', 1],
    ] as const
  ) {
    const prefix = bytes(before);
    const length = (prefix.length + 2 * names).toString(16).padStart(4, "0");
    const answer = `c0 0c ${type.toString(16).padStart(4, "0")} 00 01 00 00 00 3c ${length} ${before} ${
      "c0 0c ".repeat(names)
    }`;
    const message = decodeMessage(bytes(`${HEADER} ${QUESTION} ${answer}`));
    const name = bytes('03 "www" 07 "example" 03 "com" 00');
    assert.deepEqual(
      [...message!.answers[0].data],
      [...prefix, ...Array.from({ length: names }, () => [...name]).flat()],
      `type ${type}`,
    );
  }
});

const MALFORMED: readonly (readonly [what: string, text: string])[] = [
  ["nothing", ""],
  ["less than a header", "00 01 00 00 00 01 00 00 00 00 00"],
  ["a question that is missing", "00 01 00 00 00 01 00 00 00 00 00 00"],
  ["a name that runs over the end", '00 01 00 00 00 01 00 00 00 00 00 00 05 "abc"'],
  ["a question without its class", '00 01 00 00 00 01 00 00 00 00 00 00 01 "a" 00 00 01 00'],
  ["a pointer to itself", "00 01 00 00 00 01 00 00 00 00 00 00 c0 0c 00 01 00 01"],
  ["a pointer forwards", '00 01 00 00 00 01 00 00 00 00 00 00 c0 12 00 01 00 01 01 "a" 00'],
  ["a pointer into the own labels", '00 01 00 00 00 01 00 00 00 00 00 00 01 "a" c0 0c 00 01 00 01'],
  ["half a pointer", "00 01 00 00 00 01 00 00 00 00 00 00 c0"],
  ["a label of an unknown kind", '00 01 00 00 00 01 00 00 00 00 00 00 41 "a" 00 00 01 00 01'],
  ["a record shorter than its fixed part", `${HEADER} ${QUESTION} c0 0c 00 01 00 01 00 00 00 3c 00`],
  ["data that runs over the end", `${HEADER} ${QUESTION} c0 0c 00 01 00 01 00 00 00 3c 00 05 01 02 03 04`],
  ["a name in data that runs over the data", `${HEADER} ${QUESTION} c0 0c 00 05 00 01 00 00 00 3c 00 02 03 "www" 00`],
  ["bytes behind a name in data", `${HEADER} ${QUESTION} c0 0c 00 05 00 01 00 00 00 3c 00 03 c0 0c 00`],
  [
    "OPT twice",
    "00 01 00 00 00 00 00 00 00 00 00 02 00 00 29 04 d0 00 00 00 00 00 00 00 00 29 04 d0 00 00 00 00 00 00",
  ],
  ["OPT in the answer", "00 01 80 00 00 00 00 01 00 00 00 00 00 00 29 04 d0 00 00 00 00 00 00"],
  ["OPT with a name", '00 01 00 00 00 00 00 00 00 00 00 01 01 "a" 00 00 29 04 d0 00 00 00 00 00 00'],
  [
    "an option that runs over OPT",
    "00 01 00 00 00 00 00 00 00 00 00 01 00 00 29 04 d0 00 00 00 00 00 05 00 0a 00 02 01",
  ],
];

for (const [what, text] of MALFORMED) {
  test(`dns codec: refuses ${what}`, () => {
    const input = bytes(text);
    assert.equal(decodeMessage(input), undefined);
    assert.equal(decodeHeader(input) === undefined, input.length < 12);
  });
}

test("dns codec: refuses a name longer than 255 bytes, also when it is put together of short ones", () => {
  const label = `3f ${"61 ".repeat(63)}`;
  const name = (labels: number, rest: string) =>
    `00 01 00 00 00 01 00 00 00 00 00 00 ${label.repeat(labels)} ${rest} 00 00 01 00 01`;
  // 3 × 64 + 62 + 1 = 255
  assert.notEqual(decodeMessage(bytes(name(3, `3d ${"62 ".repeat(61)}`))), undefined);
  assert.equal(decodeMessage(bytes(name(3, `3e ${"62 ".repeat(62)}`))), undefined);
  const pointed = `00 01 00 00 00 02 00 00 00 00 00 00 ${label.repeat(3)} 00 00 01 00 01 ${label} c0 0c 00 01 00 01`;
  assert.equal(decodeMessage(bytes(pointed)), undefined);
});

test("dns codec: a TTL with the top bit set counts as 0", () => {
  const message = decodeMessage(bytes(`${HEADER} ${QUESTION} c0 0c 00 01 00 01 80 00 00 01 00 04 01 02 03 04`))!;
  assert.equal(message.answers[0].ttl, 0);
});

test("dns codec: an extended code is in the header and OPT", () => {
  const edns = { payloadBytes: 512, version: 0, dnssecOk: false, options: bytes("00 0a 00 02 01 02") };
  const encoded = encodeMessage({ ...EMPTY, response: true, rcode: RCODE.BadVers, edns });
  assert.equal(encoded[3] & 0xf, 0);
  const decoded = decodeMessage(encoded)!;
  assert.equal(decoded.rcode, RCODE.BadVers);
  assert.deepEqual(decoded.edns, edns);
});

test("dns codec: writes each name once", () => {
  const name = "www.example.com";
  const message: Message = {
    ...EMPTY,
    response: true,
    questions: [{ name, type: TYPE.A, class: 1 }],
    answers: [cnameRecord(name, "cdn.example.com", 60), addressRecord("cdn.example.com", bytes("01 02 03 04"), 60)],
  };
  const encoded = encodeMessage(message);
  assert.deepEqual(
    encoded,
    bytes(`00 00 80 00 00 01 00 02 00 00 00 00 ${QUESTION}
      c0 0c 00 05 00 01 00 00 00 3c 00 06 03 "cdn" c0 10
      c0 2d 00 01 00 01 00 00 00 3c 00 04 01 02 03 04`),
  );
  assert.deepEqual(decodeMessage(encoded), message);
});

test("dns codec: names behind the reach of pointers are written out", () => {
  const filler = record("filler.example", TYPE.TXT, new Uint8Array(60_000).fill(1));
  const late = ["a.late.example", "b.late.example"].map((name) => addressRecord(name, bytes("01 02 03 04"), 1));
  const message = { ...EMPTY, response: true, answers: [filler, ...late] };
  assert.deepEqual(decodeMessage(encodeMessage(message)), message);
});

test("dns codec: what does not fit is left out by whole records, and TC says so", () => {
  const answers = Array.from({ length: 100 }, (_, i) => addressRecord("large.example", Uint8Array.of(10, 0, 0, i), 1));
  const edns = { payloadBytes: 4096, version: 0, dnssecOk: false, options: new Uint8Array(0) };
  const message = {
    ...EMPTY,
    response: true,
    answers,
    edns,
    questions: [{ name: "large.example", type: 1, class: 1 }],
  };
  for (const limit of [512, 513, 527, 528, 1232]) {
    const encoded = encodeMessage(message, limit);
    assert.ok(encoded.length <= limit && encoded.length > limit - 16, `${encoded.length} of ${limit}`);
    const decoded = decodeMessage(encoded)!;
    assert.ok(decoded.truncated);
    assert.deepEqual(decoded.answers, answers.slice(0, decoded.answers.length));
    assert.deepEqual(decoded.edns, edns);
  }
  assert.ok(!decodeMessage(encodeMessage(message, 4096))!.truncated);
});

test("dns codec: additional records may be missing without a word, authorities may not", () => {
  const big = (name: string) => record(name, TYPE.TXT, new Uint8Array(400));
  const additional = decodeMessage(
    encodeMessage({ ...EMPTY, response: true, additionals: [big("a"), big("b")] }, 512),
  )!;
  assert.deepEqual([additional.truncated, additional.additionals.length], [false, 1]);
  const authority = decodeMessage(encodeMessage({ ...EMPTY, response: true, authorities: [big("a"), big("b")] }, 512))!;
  assert.deepEqual([authority.truncated, authority.authorities.length], [true, 1]);
});

test("dns codec: refuses to write what is no name", () => {
  for (const name of ["a..b", "x".repeat(64), `${"abcdefg.".repeat(32)}abc`, "bad\\", ".a"]) {
    assert.throws(() => encodeMessage({ ...EMPTY, questions: [{ name, type: 1, class: 1 }] }), TypeError, name);
  }
});

test("dns codec: type names", () => {
  assert.deepEqual([1, 28, 33, 65, 4711].map(typeName), ["A", "AAAA", "SRV", "HTTPS", "TYPE4711"]);
});

/** Objects like those that the codec makes. */
function plain<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

const label = fc.uint8Array({ minLength: 1, maxLength: 12 }).map((raw) =>
  [...raw].map((byte) =>
    byte === 46 || byte === 92
      ? `\\${String.fromCharCode(byte)}`
      : byte > 32 && byte < 127
      ? String.fromCharCode(byte)
      : `\\${byte.toString().padStart(3, "0")}`
  ).join("")
);
const name = fc.array(label, { maxLength: 6 }).map((labels) => labels.join("."));
const anyRecord: fc.Arbitrary<ResourceRecord> = fc.oneof(
  plain({
    name,
    type: fc.constantFrom(TYPE.A, TYPE.TXT, TYPE.HTTPS, 4711),
    class: fc.constantFrom(1, 3),
    ttl: fc.nat(2 ** 31 - 1),
    data: fc.uint8Array({ maxLength: 40 }),
  }),
  plain({
    name,
    type: fc.constantFrom(TYPE.CNAME, TYPE.NS, TYPE.PTR, 39),
    class: fc.constantFrom(1, 3),
    ttl: fc.nat(2 ** 31 - 1),
    data: name.map((text) => mergeNames(new Uint8Array(0), [text], new Uint8Array(0))),
  }),
);
const anyMessage: fc.Arbitrary<Message> = plain({
  id: fc.nat(0xffff),
  response: fc.boolean(),
  opcode: fc.nat(15),
  authoritative: fc.boolean(),
  truncated: fc.boolean(),
  recursionDesired: fc.boolean(),
  recursionAvailable: fc.boolean(),
  authenticData: fc.boolean(),
  checkingDisabled: fc.boolean(),
  rcode: fc.nat(15),
  questions: fc.array(plain({ name, type: fc.nat(0xffff), class: fc.nat(0xffff) }), { maxLength: 2 }),
  answers: fc.array(anyRecord, { maxLength: 5 }),
  authorities: fc.array(anyRecord, { maxLength: 3 }),
  additionals: fc.array(anyRecord, { maxLength: 3 }),
  edns: fc.option(
    plain({
      payloadBytes: fc.nat(0xffff),
      version: fc.nat(255),
      dnssecOk: fc.boolean(),
      options: fc.constantFrom(new Uint8Array(0), bytes("00 0a 00 02 01 02")),
    }),
    { nil: undefined },
  ),
});

test("dns codec: reads back exactly what it wrote", () => {
  fc.assert(fc.property(anyMessage, (message) => {
    assert.deepEqual(decodeMessage(encodeMessage(message)), message);
  }));
});

test("dns codec: within any limit it writes a message that can be read, and is a part of the whole", () => {
  fc.assert(fc.property(anyMessage, fc.integer({ min: 300, max: MAX_MESSAGE_BYTES }), (message, limit) => {
    const encoded = encodeMessage(message, limit);
    const decoded = decodeMessage(encoded)!;
    assert.deepEqual(decoded.answers, message.answers.slice(0, decoded.answers.length));
    assert.deepEqual(decoded.questions, message.questions);
    assert.deepEqual(decoded.edns, message.edns);
    if (!decoded.truncated) assert.deepEqual(decoded.authorities, message.authorities);
  }));
});

test("dns codec: every beginning of a message is refused, and no byte changed makes it fail", () => {
  const message = bytes(`${HEADER} ${QUESTION} c0 0c 00 05 00 01 00 00 00 3c 00 06 03 "cdn" c0 10`);
  for (let end = 0; end < message.length; end++) assert.equal(decodeMessage(message.subarray(0, end)), undefined);
  for (let at = 0; at < message.length; at++) {
    for (let value = 0; value < 256; value++) {
      const changed = message.slice();
      changed[at] = value;
      const decoded = decodeMessage(changed);
      if (decoded !== undefined) decodeMessage(encodeMessage(decoded));
    }
  }
});
