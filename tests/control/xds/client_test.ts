/** The xDS client without a network: order, answers, reconnects, waits. Time is the test's. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { IstiodError } from "../../../src/control/istiod/mod.ts";
import { ADDRESS, Lab, ON_DEMAND, POLICY, quiet, resource } from "./client_lab.ts";

test("xds client: acknowledges a push only when it is in force", async () => {
  const lab = new Lab();
  const { stream } = await lab.stream();
  stream.push({ nonce: "n1", resources: [resource("a")] });
  const applying = await lab.applying.take();
  assert.equal(applying.push.typeUrl, ADDRESS);
  await quiet();
  assert.equal(stream.sent.size, 0);
  applying.accepted("a", "1");
  applying.finish();
  assert.deepEqual(await stream.sent.take(), { typeUrl: ADDRESS, nonce: "n1" });
  lab.client.close();
});

test("xds client: applies pushes one after the other", async () => {
  const lab = new Lab();
  const { stream } = await lab.stream();
  stream.push({ nonce: "n1" });
  stream.push({ nonce: "n2", typeUrl: POLICY });
  const first = await lab.applying.take();
  await quiet();
  assert.equal(lab.applying.size, 0);
  first.finish();
  const second = await lab.applying.take();
  assert.equal(second.push.typeUrl, POLICY);
  second.finish();
  assert.deepEqual([(await stream.sent.take()).nonce, (await stream.sent.take()).nonce], ["n1", "n2"]);
  lab.client.close();
});

test("xds client: refuses by name and goes on", async () => {
  const lab = new Lab();
  const { stream } = await lab.stream();
  stream.push({ nonce: "n1", resources: [resource("a"), resource("b")] });
  const applying = await lab.applying.take();
  applying.accepted("a", "1");
  applying.finish([{ name: "b", reason: "no ip" }]);
  assert.deepEqual(await stream.sent.take(), { typeUrl: ADDRESS, nonce: "n1", error: "b: no ip" });
  stream.push({ nonce: "n2" });
  (await lab.applying.take()).finish();
  assert.equal((await stream.sent.take()).error, undefined);
  lab.client.close();
});

test("xds client: is synchronised once, when both types were acknowledged as a whole", async () => {
  const lab = new Lab();
  const { stream } = await lab.stream();
  for (const typeUrl of [ADDRESS, POLICY]) {
    stream.push({ nonce: "n", typeUrl });
    (await lab.applying.take()).finish(typeUrl === ADDRESS ? [{ name: "b", reason: "no ip" }] : []);
    await stream.sent.take();
  }
  assert.equal(lab.synced, 0);
  assert.ok(
    lab.reasons.some((reason) => reason.includes("cannot be used as a whole: b: no ip")),
    lab.reasons.join("\n"),
  );
  stream.push({ nonce: "n2" });
  (await lab.applying.take()).finish();
  await stream.sent.take();
  await quiet();
  assert.equal(lab.synced, 1);
  stream.push({ nonce: "n3" });
  (await lab.applying.take()).finish();
  await stream.sent.take();
  assert.equal(lab.synced, 1);
  lab.client.close();
});

test("xds client: acknowledges an unknown type without applying it", async () => {
  const lab = new Lab();
  const { stream } = await lab.stream();
  stream.push({ nonce: "n1", typeUrl: "type.googleapis.com/other" });
  assert.deepEqual(await stream.sent.take(), { typeUrl: "type.googleapis.com/other", nonce: "n1" });
  assert.equal(lab.applying.size, 0);
  lab.client.close();
});

test("xds client: waits longer after each failure to connect, and says why it waits", async () => {
  const lab = new Lab();
  await (await lab.stream()).stream.end();
  lab.refuse = new IstiodError("connect", "cannot reach https://istiod:15012: connection refused");
  const waits: number[] = [];
  for (let i = 0; i < 12; i++) {
    await quiet();
    const [wait] = lab.clock.delays;
    waits.push(wait);
    lab.clock.advance(wait);
  }
  assert.deepEqual(waits, [20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240, 15_000, 15_000]);
  assert.ok(lab.reasons.some((reason) => reason.includes("connection refused")));
  assert.ok(lab.terminations.slice(1).every((reason) => reason === "ConnectionError"));
  lab.client.close();
});

test("xds client: comes back after every kind of end, and counts them apart", async () => {
  const cases: [end: Error | undefined, counted: string][] = [
    [undefined, "Complete"],
    [new IstiodError("status", "x", "unknown"), "Reconnect"],
    [new IstiodError("status", "x", "deadline_exceeded"), "Reconnect"],
    [new IstiodError("status", "istiod answered unavailable: transport is closing", "unavailable"), "Reconnect"],
    [new IstiodError("status", "istiod answered unavailable: overloaded", "unavailable"), "Error"],
    [new IstiodError("status", "x", "permission_denied"), "Error"],
    [new IstiodError("stream", "the connection broke"), "Reconnect"],
    [new IstiodError("limit", "a message is too large"), "Error"],
    [new Error("a bug"), "Error"],
  ];
  const lab = new Lab();
  for (const [end, counted] of cases) {
    const { stream } = await lab.stream();
    stream.push({ typeUrl: "type.googleapis.com/other" });
    await stream.sent.take();
    stream.end(end);
    await quiet();
    assert.equal(lab.terminations.at(-1), counted);
    assert.equal(stream.closed, true);
    const [wait] = lab.clock.delays;
    assert.ok(wait >= 20, "never at once");
    lab.clock.advance(wait);
  }
  assert.equal(lab.logged.filter((line) => line === "limit xds_message").length, 1);
  lab.client.close();
});

test("xds client: a status before any response counts as a failure to connect", async () => {
  const lab = new Lab();
  const { stream } = await lab.stream();
  stream.end(new IstiodError("status", "x", "unauthenticated"));
  await quiet();
  assert.deepEqual(lab.terminations, ["ConnectionError"]);
  lab.client.close();
});

test("xds client: tells a new stream what is in force, also what was applied while the old one broke", async () => {
  const lab = new Lab();
  const { stream } = await lab.stream();
  stream.push({ nonce: "n1", resources: [resource("a")] });
  const applying = await lab.applying.take();
  stream.end(new IstiodError("stream", "the connection broke"));
  await quiet();
  assert.equal(lab.opens, 1);
  applying.accepted("a", "7");
  applying.finish();
  await quiet();
  lab.clock.advance(20);
  const { first } = await lab.stream();
  assert.deepEqual([...first[0].initialVersions!], [["a", "7"]]);
  assert.equal(first[0].node?.id, "node");
  lab.client.close();
});

test("xds client: a push that cannot be applied at all ends the stream and is not known", async () => {
  const lab = new Lab();
  const { stream } = await lab.stream();
  stream.push({ nonce: "n1", resources: [resource("a")] });
  (await lab.applying.take()).crash(new Error("a bug"));
  await quiet();
  assert.equal(stream.sent.size, 0);
  assert.deepEqual(lab.terminations, ["Error"]);
  lab.clock.advance(20);
  const { first } = await lab.stream();
  assert.equal(first[0].initialVersions!.size, 0);
  lab.client.close();
});

test("xds client: opens anew a stream on which nothing comes", async () => {
  const lab = new Lab();
  const { stream } = await lab.stream();
  lab.clock.advance(59_999);
  assert.equal(stream.closed, false);
  lab.clock.advance(1);
  await quiet();
  assert.equal(stream.closed, true);
  assert.ok(lab.reasons.some((reason) => reason.includes("sent nothing within 60 s")));
  lab.clock.advance(20);
  await lab.stream();
  lab.client.close();
});

test("xds client: a stream on which something came may be silent for ever", async () => {
  const lab = new Lab();
  const { stream } = await lab.stream();
  stream.push({ typeUrl: "type.googleapis.com/other" });
  await stream.sent.take();
  lab.clock.advance(3_600_000);
  assert.equal(stream.closed, false);
  lab.client.close();
});

test("xds client: asks for a name once for all who wait, and releases them when it is in force", async () => {
  const lab = new Lab(ON_DEMAND);
  const { stream } = await lab.stream();
  const waiting = [1, 2, 3].map(() => lab.client.demand(ADDRESS, "net/1.2.3.4", 5_000));
  assert.deepEqual(await stream.sent.take(), { typeUrl: ADDRESS, subscribe: ["net/1.2.3.4"] });
  stream.push({ nonce: "n1", resources: [resource("uid", "net/1.2.3.4")] });
  const applying = await lab.applying.take();
  let released = false;
  void waiting[0].then(() => released = true);
  await quiet();
  assert.equal(released, false);
  applying.finish();
  assert.deepEqual(await Promise.all(waiting), ["arrived", "arrived", "arrived"]);
  assert.equal((await stream.sent.take()).nonce, "n1");
  assert.equal(stream.sent.size, 0);
  lab.client.close();
});

test("xds client: a removal of the name, its refusal and the time release who waits", async () => {
  const lab = new Lab(ON_DEMAND);
  const { stream } = await lab.stream();
  const absent = lab.client.demand(ADDRESS, "net/1", 5_000);
  const refused = lab.client.demand(ADDRESS, "uid-2", 5_000);
  const late = lab.client.demand(ADDRESS, "net/3", 100);
  stream.push({ nonce: "n1", removed: ["net/1"], resources: [resource("uid-2")] });
  (await lab.applying.take()).finish([{ name: "uid-2", reason: "no ip" }]);
  assert.deepEqual([await absent, await refused], ["absent", "rejected"]);
  lab.clock.advance(100);
  assert.equal(await late, "timeout");
  lab.client.close();
});

test("xds client: what was asked for without a stream is asked for on the next one, what is settled is not", async () => {
  const lab = new Lab(ON_DEMAND);
  const { stream } = await lab.stream();
  stream.end();
  await quiet();
  const late = lab.client.demand(ADDRESS, "net/1", 5_000);
  const timedOut = lab.client.demand(ADDRESS, "net/2", 10);
  lab.clock.advance(10);
  assert.equal(await timedOut, "timeout");
  lab.clock.advance(10);
  const next = await lab.stream();
  assert.deepEqual(next.first[0].subscribe, ["*", "net/1"]);
  next.stream.push({ removed: ["net/1"] });
  (await lab.applying.take()).finish();
  assert.equal(await late, "absent");
  lab.client.close();
});

test("xds client: bounds how many names are waited for", async () => {
  const lab = new Lab(ON_DEMAND);
  await lab.stream();
  const waiting = Array.from({ length: 10_000 }, (_, i) => lab.client.demand(ADDRESS, `net/${i}`, 5_000));
  assert.equal(await lab.client.demand(ADDRESS, "one more", 5_000), "overloaded");
  const shared = lab.client.demand(ADDRESS, "net/0", 5_000);
  lab.client.close();
  assert.deepEqual(new Set(await Promise.all([...waiting, shared])), new Set(["closed"]));
  assert.equal(await lab.client.demand(ADDRESS, "net/0", 5_000), "closed");
});

test("xds client: ends for good when it is closed, in whatever it was", async () => {
  const lab = new Lab();
  const { stream } = await lab.stream();
  lab.client.close();
  await quiet();
  assert.equal(stream.closed, true);
  lab.clock.advance(100_000);
  await quiet();
  assert.equal(lab.opens, 1);
  assert.deepEqual(lab.terminations, []);
  const sleeping = new Lab();
  (await sleeping.stream()).stream.end();
  await quiet();
  sleeping.client.close();
  sleeping.clock.advance(100_000);
  await quiet();
  assert.equal(sleeping.opens, 1);
});
