import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { datagramPeer, sendDatagram } from "../../../src/platform/datagram.ts";
import { AF_INET } from "../../../src/platform/sockaddr.ts";
import { closeDescriptor, localAddress, receive } from "../../../src/platform/socket.ts";
import { addressRecord, frame, RCODE, TYPE } from "../../../src/protocol/dns/mod.ts";
import { cleanUp, cleanups, PodLab, question } from "./pod_lab.ts";
import { PLAIN_SOCKETS } from "./support.ts";

afterEach(cleanUp);

test("pod dns: the mesh's answer, with the TTL that is configured", () => {
  const lab = new PodLab({ ttlSeconds: 7 });
  const answer = lab.ask("shop");
  assert.ok(answer.authoritative);
  assert.deepEqual(answer.answers.map(({ name, ttl }) => [name, ttl]), [["shop", 7], ["shop", 7]]);
  assert.deepEqual(answer.answers.map(({ data }) => data[3]), [2, 1], "shuffled");
  assert.deepEqual(lab.counts, ["request A udp"]);
  assert.deepEqual(JSON.parse(lab.lines[0]), ["debug", "dns", {
    "src.workload": "client",
    "src.namespace": "town",
    query: "A",
    domain: "shop.",
    result: "success",
    endpoints: 2,
  }]);
});

test("pod dns: no address of the family is an empty answer, not a missing name", () => {
  const aaaa = { questions: [{ name: "shop", type: TYPE.AAAA, class: 1 }] };
  for (const ipv6Enabled of [true, false]) {
    const answer = new PodLab({ ipv6Enabled }).ask("shop", aaaa);
    assert.deepEqual([answer.rcode, answer.answers, answer.authoritative], [RCODE.NoError, [], true]);
  }
});

test("pod dns: other types and other classes are forwarded, of names of the mesh too", () => {
  const lab = new PodLab();
  for (const [type, klass] of [[TYPE.TXT, 1], [TYPE.A, 3]] as const) {
    assert.ok(!lab.ask("shop", { questions: [{ name: "shop", type, class: klass }] }).authoritative);
  }
  assert.equal(lab.upstream.asked.length, 2);
  assert.deepEqual(lab.counts.slice(0, 3), ["request TXT udp", "upstream TXT udp", "answered TXT udp"]);
});

test("pod dns: a forwarded answer is remembered, for each set of flags", () => {
  const lab = new PodLab();
  lab.ask("www.example");
  lab.loop.pass(10_000);
  const again = lab.ask("WWW.example");
  assert.deepEqual(again.answers.map(({ name, ttl }) => [name.toLowerCase(), ttl]), [["www.example", 50]]);
  assert.equal(again.questions[0].name, "WWW.example");
  assert.equal(lab.upstream.asked.length, 1);
  lab.ask("www.example", { checkingDisabled: true });
  assert.equal(lab.upstream.asked.length, 2);
});

test("pod dns: the hosts file comes before the name servers, for addresses", () => {
  const lab = new PodLab();
  const answer = lab.ask("fixed.example");
  assert.deepEqual([...answer.answers[0].data], [192, 0, 2, 50]);
  assert.equal(lab.upstream.asked.length, 0);
  lab.ask("fixed.example", { questions: [{ name: "fixed.example", type: TYPE.AAAA, class: 1 }] });
  assert.equal(lab.upstream.asked.length, 1);
});

test("pod dns: the same question of many is asked once", () => {
  let answering = false;
  const lab = new PodLab({
    says: ({ question: { name } }) =>
      answering ? { answers: [addressRecord(name, Uint8Array.of(1, 2, 3, 4), 0)] } : undefined,
  });
  const clients = [0, 1, 2].map(() => lab.connect());
  for (const client of clients) client.write(frame(question("slow.example")));
  lab.loop.until(() => lab.upstream.asked.length === 1, "the question");
  lab.loop.settle();
  assert.equal(lab.upstream.asked.length, 1);
  answering = true;
  lab.loop.pass(5_100);
  lab.loop.until(() => clients.every(({ answers }) => answers.length === 1), "three answers");
});

test("pod dns: a failure is not asked for again at once", () => {
  const lab = new PodLab({ says: () => ({ rcode: RCODE.ServFail }) });
  assert.equal(lab.ask("broken.example").rcode, RCODE.ServFail);
  assert.equal(lab.ask("broken.example").rcode, RCODE.ServFail);
  assert.equal(lab.upstream.asked.length, 1);
  lab.loop.pass(1_100);
  lab.ask("broken.example");
  assert.equal(lab.upstream.asked.length, 2);
  assert.ok(lab.counts.includes("failure A udp"));
});

test("pod dns: a main thread that does not answer: SERVFAIL", () => {
  const lab = new PodLab({ deaf: true });
  const client = lab.connect();
  client.write(frame(question("shop")));
  lab.loop.settle();
  lab.loop.pass(4_000);
  assert.equal(client.answers.length, 0);
  lab.loop.pass(3_000);
  lab.loop.until(() => client.answers.length === 1, "the answer");
  assert.equal(client.answers[0].rcode, RCODE.ServFail);
});

test("pod dns: too many questions at once are refused", () => {
  const lab = new PodLab({ says: () => undefined });
  const clients = Array.from({ length: 33 }, () => lab.connect());
  for (const [number, client] of clients.entries()) {
    for (let i = 0; i < 32; i++) client.write(frame(question(`q${i}.c${number}.example`)));
  }
  lab.loop.until(() => clients.some(({ answers }) => answers.length > 0), "a refusal");
  const refused = clients.flatMap(({ answers }) => answers);
  assert.equal(refused.length, 33 * 32 - 1024);
  assert.ok(refused.every(({ rcode }) => rcode === RCODE.ServFail));
  assert.equal(lab.limits[0], "dns_in_flight");
});

test("pod dns: who answers answers is not answered, if that could go on for ever", () => {
  const lab = new PodLab();
  const port = localAddress(lab.udp)!.port;
  // From the proxy's own port, as a forged datagram could be.
  const twin = PLAIN_SOCKETS.bindDatagram("127.0.0.2", port, false);
  assert.ok(twin >= 0);
  cleanups.push(() => closeDescriptor(twin));
  const answer = question("shop", { response: true });
  sendDatagram(twin, answer, datagramPeer("127.0.0.1", port, AF_INET));
  lab.loop.settle();
  assert.equal(receive(twin, new Uint8Array(512), 0, 512), -11);
  assert.equal(lab.ask("shop", { response: true }).rcode, RCODE.FormErr);
});

test("pod dns: at its end it takes what still came, answers everything, and lets go", () => {
  let answering = false;
  const lab = new PodLab({
    says: ({ question: { name } }) =>
      answering ? { answers: [addressRecord(name, Uint8Array.of(1, 2, 3, 4), 0)] } : undefined,
  });
  const [idle, waiting] = [lab.connect(), lab.connect()];
  waiting.write(frame(question("slow.example")));
  lab.loop.until(() => lab.upstream.asked.length === 1, "the question");
  assert.ok(!lab.dns.finish());
  lab.loop.until(() => idle.ended, "the idle client's end");
  // One more comes by UDP, which nobody watches any more.
  const client = PLAIN_SOCKETS.bindDatagram("127.0.0.1", 0, false);
  cleanups.push(() => closeDescriptor(client));
  const to = datagramPeer("127.0.0.1", localAddress(lab.udp)!.port, AF_INET);
  sendDatagram(client, question("late.example"), to);
  answering = true;
  lab.loop.pass(5_100);
  lab.loop.until(() => waiting.answers.length === 1, "the answer");
  assert.ok(!lab.dns.finish(), "the late question is on its way");
  lab.loop.until(() => lab.dns.finish(), "the end");
  const answer = new Uint8Array(512);
  assert.ok(receive(client, answer, 0, 512) > 12);
  lab.loop.until(() => waiting.ended, "the client's end");
  assert.ok(lab.dns.closed);
});

test("pod dns: closed, it keeps no descriptor and says nothing more", () => {
  const lab = new PodLab({ says: () => undefined });
  const client = lab.connect();
  client.write(frame(question("slow.example")));
  lab.loop.until(() => lab.upstream.asked.length === 1, "the question");
  const before = lab.loop.reactor.openDescriptors;
  lab.dns.close();
  lab.loop.until(() => client.ended, "the client's end");
  // The UDP socket, the question upstream, both ends of the client's connection.
  assert.equal(before - lab.loop.reactor.openDescriptors, 4);
  lab.loop.pass(20_000);
});
