import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { datagramPeer, sendDatagram } from "../../../src/platform/datagram.ts";
import { AF_INET, type SocketAddress } from "../../../src/platform/sockaddr.ts";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import { addressRecord, cnameRecord, encodeMessage, type Message, RCODE, TYPE } from "../../../src/protocol/dns/mod.ts";
import { Exchange, type UpstreamQuestion } from "../../../src/ztunnel/dns/exchange.ts";
import { deadAddress, FakeServer, Loop, PLAIN_SOCKETS, type Saying } from "./support.ts";

const QUESTION: UpstreamQuestion = {
  name: "Www.Example",
  type: TYPE.A,
  class: 1,
  recursionDesired: true,
  checkingDisabled: true,
  authenticData: false,
  dnssecOk: true,
};
const GOOD: Saying = { answers: [addressRecord("www.example", Uint8Array.of(192, 0, 2, 1), 60)] };
const OTHER: Saying = { answers: [addressRecord("www.example", Uint8Array.of(192, 0, 2, 2), 60)] };

const servers: FakeServer[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

interface Outcome {
  answer?: Message;
  reason?: string;
}

/** Starts an exchange; what comes of it is in the outcome. */
function start(
  loop: Loop,
  addresses: readonly SocketAddress[],
  question = QUESTION,
): { exchange: Exchange; outcome: Outcome } {
  const outcome: Outcome = {};
  let id = 1000;
  const exchange = new Exchange({ io: loop.io, sockets: PLAIN_SOCKETS, randomId: () => id++ }, question, addresses, {
    exchanged: (answer) => {
      assert.deepEqual(outcome, {}, "told once");
      outcome.answer = answer;
    },
    exchangeFailed: (reason) => {
      assert.deepEqual(outcome, {}, "told once");
      outcome.reason = reason;
    },
  });
  exchange.start();
  return { exchange, outcome };
}

function over({ answer, reason }: Outcome): boolean {
  return answer !== undefined || reason !== undefined;
}

function serve(loop: Loop, says: ConstructorParameters<typeof FakeServer>[1]): FakeServer {
  const server = new FakeServer(loop, says);
  servers.push(server);
  return server;
}

/** All descriptors of an exchange that is over are closed. */
function assertNothingOpen(loop: Loop, before: number): void {
  assert.equal(loop.reactor.openDescriptors, before);
}

test("dns exchange: asks as it was asked, with EDNS of its own", () => {
  const loop = new Loop();
  const server = serve(loop, () => GOOD);
  const before = loop.reactor.openDescriptors;
  const { outcome } = start(loop, [server.address]);
  loop.until(() => over(outcome), "the answer");
  assert.deepEqual(outcome.answer!.answers, GOOD.answers);
  const { request } = server.asked[0];
  assert.deepEqual(request.questions, [{ name: "Www.Example", type: TYPE.A, class: 1 }]);
  assert.ok(request.recursionDesired && request.checkingDisabled && !request.response);
  assert.deepEqual(request.edns, { payloadBytes: 1232, version: 0, dnssecOk: true, options: new Uint8Array(0) });
  assertNothingOpen(loop, before);
});

test("dns exchange: two servers are asked at once, and the first good answer counts", () => {
  const loop = new Loop();
  const silent = serve(loop, () => undefined);
  const good = serve(loop, () => GOOD);
  const before = loop.reactor.openDescriptors;
  const { outcome } = start(loop, [silent.address, good.address]);
  loop.until(() => over(outcome), "the answer");
  assert.notEqual(outcome.answer, undefined);
  assert.deepEqual([silent.asked.length, good.asked.length], [1, 1]);
  assertNothingOpen(loop, before);
});

test("dns exchange: a server that fails does not spoil another's answer", () => {
  const loop = new Loop();
  const failing = serve(loop, () => ({ rcode: RCODE.ServFail }));
  let answer = false;
  const slow = serve(loop, () => answer ? GOOD : undefined);
  const { outcome } = start(loop, [failing.address, slow.address]);
  loop.until(() => failing.asked.length === 1 && slow.asked.length === 1, "both asked");
  loop.settle();
  assert.deepEqual(outcome, {});
  answer = true;
  loop.pass(5_100);
  loop.until(() => over(outcome), "the second attempt");
  assert.deepEqual(outcome.answer?.answers, GOOD.answers);
  assert.deepEqual([failing.asked.length, slow.asked.length], [1, 2], "one that refused is not asked again");
});

test("dns exchange: that there is no such name is an answer", () => {
  const loop = new Loop();
  const server = serve(loop, () => ({ rcode: RCODE.NXDomain }));
  const { outcome } = start(loop, [server.address]);
  loop.until(() => over(outcome), "the answer");
  assert.equal(outcome.answer!.rcode, RCODE.NXDomain);
});

test("dns exchange: refused by all: over at once", () => {
  const loop = new Loop();
  const before = loop.reactor.openDescriptors;
  const { outcome } = start(loop, [deadAddress(), deadAddress()]);
  loop.until(() => over(outcome), "the failure");
  assert.match(outcome.reason!, /cannot reach name server 127\.0\.0\.1 port \d+: connection refused/);
  assertNothingOpen(loop, before);
});

test("dns exchange: no server, no answer", () => {
  const { outcome } = start(new Loop(), []);
  assert.equal(outcome.reason, "no name server is known");
});

test("dns exchange: silence is waited for twice, five seconds each", () => {
  const loop = new Loop();
  const server = serve(loop, () => undefined);
  const { outcome } = start(loop, [server.address]);
  loop.until(() => server.asked.length === 1, "the question");
  loop.pass(4_800);
  assert.equal(server.asked.length, 1);
  loop.pass(300);
  loop.until(() => server.asked.length === 2, "the second question");
  assert.notEqual(server.asked[0].request.id, server.asked[1].request.id);
  assert.notEqual(server.asked[0].from.port, server.asked[1].from.port, "from another port");
  loop.pass(5_100);
  assert.match(outcome.reason!, /did not answer within 5 s/);
  assert.equal(server.asked.length, 2);
});

test("dns exchange: a third server has its turn before a silent one is asked again", () => {
  const loop = new Loop();
  const [first, second, third] = [0, 1, 2].map((n) => serve(loop, () => n === 2 ? GOOD : undefined));
  const { outcome } = start(loop, [first.address, second.address, third.address]);
  loop.until(() => first.asked.length + second.asked.length === 2, "the first two");
  assert.equal(third.asked.length, 0);
  loop.pass(5_100);
  loop.until(() => over(outcome), "the third one's answer");
  assert.notEqual(outcome.answer, undefined);
});

test("dns exchange: an answer that was cut is fetched by TCP", () => {
  const loop = new Loop();
  const server = serve(loop, ({ protocol }) => protocol === "udp" ? { truncated: true } : GOOD);
  const before = loop.reactor.openDescriptors;
  const { outcome } = start(loop, [server.address]);
  loop.until(() => over(outcome), "the answer");
  assert.deepEqual(outcome.answer!.answers, GOOD.answers);
  assert.deepEqual(server.asked.map(({ protocol }) => protocol), ["udp", "tcp"]);
  loop.settle();
  // The far end of the TCP connection is the fake server's, and closes when it reads the end.
  assertNothingOpen(loop, before);
});

test("dns exchange: a server from before EDNS is asked without", () => {
  const loop = new Loop();
  const server = serve(
    loop,
    ({ request }) => request.edns === undefined ? GOOD : { rcode: RCODE.FormErr, edns: false },
  );
  const { outcome } = start(loop, [server.address]);
  loop.until(() => over(outcome), "the answer");
  assert.deepEqual(outcome.answer!.answers, GOOD.answers);
  assert.equal(server.asked.length, 2);
});

const FORGERIES: readonly (readonly [what: string, alter: (bytes: Uint8Array) => Uint8Array])[] = [
  ["another id", (bytes) => (bytes[1] ^= 1, bytes)],
  ["another name", (bytes) => (bytes[13] ^= 3, bytes)],
  ["another type", (bytes) => (bytes[12 + 13 + 1] = TYPE.TXT, bytes)],
  ["a question", (bytes) => (bytes[2] &= 0x7f, bytes)],
  ["another opcode", (bytes) => (bytes[2] |= 0x20, bytes)],
  ["half a message", (bytes) => bytes.slice(0, -3)],
  ["nothing", () => new Uint8Array(0)],
];

for (const [what, alter] of FORGERIES) {
  test(`dns exchange: a datagram with ${what} is no answer; the real one still counts`, () => {
    const loop = new Loop();
    const server = serve(loop, () => [{ ...OTHER, alter }, GOOD]);
    const { outcome } = start(loop, [server.address]);
    loop.until(() => over(outcome), "the answer");
    assert.deepEqual(outcome.answer!.answers, GOOD.answers);
  });
}

test("dns exchange: a flood of forged answers moves the question to TCP", () => {
  const loop = new Loop();
  const forged: Saying = { ...OTHER, alter: (bytes) => (bytes[0] ^= 0xff, bytes) };
  const server = serve(loop, ({ protocol }) => protocol === "udp" ? Array(20).fill(forged) : GOOD);
  const { outcome } = start(loop, [server.address]);
  loop.until(() => over(outcome), "the answer");
  assert.deepEqual(outcome.answer!.answers, GOOD.answers);
  assert.equal(server.asked.at(-1)!.protocol, "tcp");
});

test("dns exchange: datagrams from elsewhere do not reach it", () => {
  const loop = new Loop();
  const server = serve(loop, () => undefined);
  const { outcome } = start(loop, [server.address]);
  loop.until(() => server.asked.length === 1, "the question");
  const { from, request } = server.asked[0];
  // The stranger knows id and port.
  sendForged(PLAIN_SOCKETS.bindDatagram("127.0.0.1", 0, false), from, request);
  loop.settle();
  assert.deepEqual(outcome, {});
});

test("dns exchange: given up, it closes everything and says nothing", () => {
  const loop = new Loop();
  const server = serve(loop, () => undefined);
  const before = loop.reactor.openDescriptors;
  const { exchange, outcome } = start(loop, [server.address, deadAddress()]);
  exchange.cancel();
  loop.pass(20_000);
  assert.deepEqual(outcome, {});
  assertNothingOpen(loop, before);
});

test("dns exchange: any other answer may have names in any case, and aliases", () => {
  const loop = new Loop();
  const alias = cnameRecord("WWW.example", "cdn.example", 5);
  const server = serve(loop, () => ({
    answers: [alias],
    alter: (bytes) => (bytes[13] = bytes[13] ^ 0x20, bytes),
  }));
  const { outcome } = start(loop, [server.address]);
  loop.until(() => over(outcome), "the answer");
  assert.deepEqual(outcome.answer!.answers.length, 1);
});

function sendForged(fd: number, to: SocketAddress, request: Message): void {
  const bytes = encodeMessage({ ...request, response: true, answers: OTHER.answers ?? [], edns: undefined });
  assert.equal(sendDatagram(fd, bytes, datagramPeer(to.ip, to.port, AF_INET)), bytes.length);
  closeDescriptor(fd);
}
