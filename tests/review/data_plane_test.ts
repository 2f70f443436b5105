import assert from "node:assert/strict";
import { test } from "node:test";
import { createOwnershipTable, ownerNumber } from "../../src/platform/ownership.ts";
import { signalEventFd } from "../../src/platform/epoll.ts";
import { closeDescriptor, receive, socketPair } from "../../src/platform/socket.ts";
import { WorkerLoad } from "../../src/net/worker_load.ts";
import { createLog } from "../../src/telemetry/mod.ts";
import { DataPlane } from "../../src/ztunnel/data_plane.ts";
import type { FromWorker, ToWorker } from "../../src/ztunnel/messages.ts";
import { SETTINGS } from "./pod_harness.ts";

class Subject {
  readonly posted: FromWorker[] = [];
  readonly ownership = createOwnershipTable();
  readonly plane: DataPlane;
  readonly #queue: ToWorker[] = [];

  constructor() {
    this.plane = new DataPlane({
      port: {
        data: undefined,
        post: (message) => void this.posted.push(message as FromWorker),
        take: () => {
          const message = this.#queue.shift();
          return message === undefined ? undefined : { message };
        },
      },
      start: {
        index: 0,
        generation: 1,
        settings: SETTINGS,
        directives: "info",
        load: WorkerLoad.create(1).buffer,
        ownership: this.ownership.buffer,
      },
      log: createLog({ filter: "info", format: "plain", sink: () => {}, nowMs: Date.now }),
      flushLog: () => {},
      droppedLines: () => 0,
    });
  }

  tell(message: ToWorker, milliseconds: number): void {
    this.#queue.push(message);
    signalEventFd(this.plane.reactor.wakeFd);
    const end = performance.now() + milliseconds;
    do this.plane.reactor.turn(10); while (performance.now() < end);
  }

  get drained(): boolean {
    return this.posted.some((message) => message.type === "drained");
  }
}

test("data plane: an idle worker is not drained before it is told that no further connection comes to it", () => {
  const subject = new Subject();
  subject.tell({ type: "drain" }, 300);
  assert.ok(!subject.drained, "a connection from the queue may still be on its way to it");
  subject.tell({ type: "finish" }, 300);
  assert.ok(subject.drained);
});

test("data plane: a connection for a pod that is gone is closed, and nobody's any more", () => {
  const subject = new Subject();
  const [near, far] = socketPair() as readonly [number, number];
  subject.ownership[near] = ownerNumber(1);
  subject.tell({ type: "adopt", uid: "gone", listener: "outbound", fd: near }, 10);
  assert.equal(receive(far, new Uint8Array(1), 0, 1), 0);
  assert.equal(subject.ownership[near], 0, "its number may be given out to somebody else, who must keep it");
  closeDescriptor(far);
});
