/** A worker for worker_group_test.ts: owns a socket, confirms its first change, then runs for ever. */
import process from "node:process";
import { createEventFd } from "../../src/platform/epoll.ts";
import { ownerNumber } from "../../src/platform/ownership.ts";
import { threadPort } from "../../src/platform/thread.ts";
import type { FromWorker, ToWorker, WorkerStart } from "../../src/ztunnel/messages.ts";

const port = threadPort();
const start = port.data as WorkerStart;
const post = (message: FromWorker) => port.post(message);
const wakeFd = createEventFd();
new Uint8Array(start.ownership)[wakeFd] = ownerNumber(start.generation);
post({ type: "started", wakeFd });
// In the words of the protocol: the test is told which descriptor it has.
post({ type: "forget", keys: [String(wakeFd)] });
for (;;) {
  const message = port.take()?.message as ToWorker | undefined;
  if (message?.type !== "epoch") continue;
  post({ type: "confirmed", epoch: message.epoch });
  if (message.epoch > 0) break;
}
// The second generation serves; the first hangs.
const until = start.generation === 1 ? performance.now() + 3_000 : Infinity;
while (performance.now() < until) {
  if (start.generation === 1) continue;
  const message = port.take()?.message as ToWorker | undefined;
  if (message?.type === "epoch") post({ type: "confirmed", epoch: message.epoch });
  else if (message?.type === "finish") process.exit();
  else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
}
