/** Entry of a waypoint's data-plane worker: log and telemetry of its own, then the reactor until the process ends. */
import { writeLines } from "../platform/socket.ts";
import { threadPort } from "../platform/thread.ts";
import { createLog, createLogWriter, createWallClock } from "../telemetry/mod.ts";
import { DataPlane } from "../waypoint/worker/data_plane.ts";
import { createLogHooks } from "../waypoint/worker/hooks.ts";
import type { WorkerStart } from "../waypoint/worker/messages.ts";
import { TurnFlush } from "../waypoint/worker/turn_flush.ts";

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
const plane = new DataPlane({ port, start, log, hooks: () => createLogHooks(log), flushLog: writer.flush });
turnFlush.attach(plane.reactor);
try {
  plane.run();
} finally {
  writer.flush();
}
