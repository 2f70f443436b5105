/** Entry of a ztunnel data-plane worker: log and metrics of its own, then the reactor until the process ends. */
import { writeLines } from "../platform/socket.ts";
import { threadPort } from "../platform/thread.ts";
import { createLog, createLogWriter, createWallClock } from "../telemetry/mod.ts";
import type { Deferred } from "../net/reactor.ts";
import { DataPlane } from "../ztunnel/data_plane.ts";
import type { WorkerStart } from "../ztunnel/messages.ts";

const STDOUT = 1;

const port = threadPort();
const start = port.data as WorkerStart;

/** The log is written once a turn, after the connections. */
const flusher: Deferred & { run: () => void; wake: () => void } = {
  deferred: false,
  run: () => {},
  wake: () => {},
  flush() {
    this.run();
  },
};
const writer = createLogWriter({
  write: (bytes) => writeLines(STDOUT, bytes),
  schedule: (flush) => {
    flusher.run = flush;
    flusher.wake();
  },
});
const log = createLog({
  filter: start.directives,
  format: start.settings.logFormat,
  sink: writer.sink,
  nowMs: createWallClock(Date.now, () => performance.now()),
});
const plane = new DataPlane({ port, start, log, flushLog: writer.flush });
flusher.wake = () => plane.reactor.defer(flusher);
try {
  plane.run();
} finally {
  writer.flush();
}
