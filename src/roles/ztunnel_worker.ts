/** Entry of a ztunnel data-plane worker: log and metrics of its own, then the reactor until the process ends. */
import { writeLines } from "../platform/socket.ts";
import { threadPort } from "../platform/thread.ts";
import { createLog, createLogWriter, createWallClock } from "../telemetry/mod.ts";
import { DataPlane } from "../ztunnel/data_plane.ts";
import type { WorkerStart } from "../ztunnel/messages.ts";
import { TurnFlush } from "../ztunnel/turn_flush.ts";

const STDOUT = 1;

const port = threadPort();
const start = port.data as WorkerStart;

const turnFlush = new TurnFlush();
const writer = createLogWriter({
  write: (bytes) => writeLines(STDOUT, bytes),
  schedule: (flush, blocked) => turnFlush.schedule(flush, blocked),
});
const log = createLog({
  filter: start.directives,
  format: start.settings.logFormat,
  sink: writer.sink,
  nowMs: createWallClock(Date.now, () => performance.now()),
});
const plane = new DataPlane({ port, start, log, droppedLines: () => writer.dropped, flushLog: writer.flush });
turnFlush.attach(plane.reactor);
try {
  for (;;) {
    plane.run();
    await plane.rest();
  }
} finally {
  try {
    plane.lastWords();
  } finally {
    writer.flush();
  }
}
