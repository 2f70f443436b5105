import assert from "node:assert/strict";
import { test } from "node:test";
import type { Deferred } from "../../../src/net/reactor.ts";
import type { FromWorker } from "../../../src/waypoint/worker/messages.ts";
import { PartedReport } from "../../../src/waypoint/worker/parted_report.ts";

/** Runs it to its end, and says how many parts were made when each message was posted. */
function send(parts: number): { readonly messages: FromWorker[]; readonly made: number[]; readonly turns: number } {
  const messages: FromWorker[] = [];
  const made: number[] = [];
  let deferred: Deferred | undefined;
  let count = 0;
  let turns = 1;
  const report = new PartedReport({
    id: 7,
    counts: { connections: 3, streams: 4, refusedChains: { a: "b" } },
    telemetry: (function* () {
      while (count < parts) yield { part: ++count };
    })(),
    reactor: { defer: (work) => void (deferred = work) },
    post: (message) => {
      messages.push(message);
      made.push(count);
    },
  });
  report.flush();
  for (; deferred !== undefined; turns++) {
    const work: Deferred = deferred;
    deferred = undefined;
    work.flush();
  }
  return { messages, made, turns };
}

test("parted report: a part a turn, each made when its turn has come, and counts told once", () => {
  const { messages, made, turns } = send(3);
  assert.deepEqual(made, [1, 2, 3, 3]);
  assert.equal(turns, 4);
  const reports = messages.map((message) => message.type === "report" ? message : assert.fail());
  assert.deepEqual(reports.map(({ isLast }) => isLast), [false, false, false, true]);
  assert.deepEqual(reports.map(({ report }) => report.connections), [3, 0, 0, 0]);
  assert.deepEqual(reports.map(({ report }) => report.streams), [4, 0, 0, 0]);
  assert.deepEqual(reports.map(({ report }) => report.telemetry), [{ part: 1 }, { part: 2 }, { part: 3 }, undefined]);
  assert.deepEqual(reports[0].report.refusedChains, { a: "b" });
});

test("parted report: without telemetry it is one message", () => {
  const { messages } = send(0);
  assert.deepEqual(messages, [{
    type: "report",
    id: 7,
    report: { connections: 3, streams: 4, refusedChains: { a: "b" }, telemetry: undefined },
    isLast: true,
  }]);
});
