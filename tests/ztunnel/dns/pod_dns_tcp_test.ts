import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { addressRecord, frame } from "../../../src/protocol/dns/mod.ts";
import { cleanUp, PodLab, question } from "./pod_lab.ts";

afterEach(cleanUp);

test("pod dns by tcp: many questions in one piece, in any pieces, answered each", () => {
  const lab = new PodLab();
  const client = lab.connect();
  const names = Array.from({ length: 100 }, (_, i) => i % 2 === 0 ? "shop" : `n${i}.example`);
  const stream = Uint8Array.from(names.flatMap((name) => [...frame(question(name))]));
  client.write(stream.subarray(0, 1));
  lab.loop.settle();
  client.write(stream.subarray(1, 1000));
  lab.loop.settle();
  client.write(stream.subarray(1000));
  lab.loop.until(() => client.answers.length === 100, "all answers");
  assert.deepEqual(client.answers.map(({ questions }) => questions[0].name).sort(), [...names].sort());
});

test("pod dns by tcp: 32 questions wait at most, the others are read when there is room", () => {
  let answering = false;
  const lab = new PodLab({
    says: ({ question: { name } }) =>
      answering ? { answers: [addressRecord(name, Uint8Array.of(1, 2, 3, 4), 0)] } : undefined,
  });
  const client = lab.connect();
  for (let i = 0; i < 50; i++) client.write(frame(question(`n${i}.example`)));
  lab.loop.until(() => lab.upstream.asked.length === 32, "32 questions");
  lab.loop.settle();
  assert.equal(lab.upstream.asked.length, 32);
  answering = true;
  lab.loop.pass(5_100);
  lab.loop.until(() => client.answers.length === 50, "all answers");
});

test("pod dns by tcp: ends after five seconds without a question, but not while one waits", () => {
  const lab = new PodLab({ says: () => undefined });
  const idle = lab.connect();
  const waiting = lab.connect();
  waiting.write(frame(question("slow.example")));
  lab.loop.until(() => lab.upstream.asked.length === 1, "the question");
  lab.loop.pass(5_200);
  lab.loop.until(() => idle.ended, "the idle one's end");
  assert.ok(!waiting.ended);
  lab.loop.pass(5_200);
  lab.loop.until(() => waiting.answers.length === 1, "the answer");
  assert.ok(!waiting.ended);
  lab.loop.pass(5_200);
  lab.loop.until(() => waiting.ended, "the other one's end");
});

test("pod dns by tcp: a client that has ended its half is answered, then the connection ends", () => {
  const lab = new PodLab();
  const client = lab.connect();
  client.write(frame(question("www.example")));
  client.finish();
  lab.loop.until(() => client.ended, "the end");
  assert.equal(client.answers.length, 1);
});

test("pod dns by tcp: more clients than allowed are closed", () => {
  const lab = new PodLab();
  const clients = Array.from({ length: 257 }, () => lab.connect());
  lab.loop.until(() => clients.some(({ ended }) => ended), "a refusal");
  lab.loop.settle();
  assert.equal(clients.filter(({ ended }) => ended).length, 1);
  assert.deepEqual(lab.limits, ["dns_connections"]);
});
