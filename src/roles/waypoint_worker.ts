/** Entry of a waypoint's data-plane worker: log and telemetry of its own, then the reactor until the process ends. */
import process from "node:process";
import type { IoContext } from "../net/io_context.ts";
import { writeLines } from "../platform/socket.ts";
import { threadPort } from "../platform/thread.ts";
import { createLimits } from "../telemetry/limits.ts";
import { createLog, createLogWriter, createWallClock, Registry } from "../telemetry/mod.ts";
import { LogFiles } from "../waypoint/telemetry/log_files.ts";
import { metricsSource } from "../waypoint/telemetry/messages.ts";
import { Pause } from "../waypoint/telemetry/pause.ts";
import { randomHex } from "../waypoint/telemetry/random_hex.ts";
import { WorkerTelemetry } from "../waypoint/telemetry/telemetry.ts";
import { DataPlane } from "../waypoint/worker/data_plane.ts";
import { createLogHooks, joinHooks, type WorkerInstruments } from "../waypoint/worker/hooks.ts";
import type { FromWorker, WorkerStart } from "../waypoint/worker/messages.ts";
import type { Peers } from "../waypoint/worker/peers.ts";
import { TurnFlush } from "../waypoint/worker/turn_flush.ts";
import type { Upstreams } from "../waypoint/worker/upstreams.ts";

const STDOUT = 1;

const port = threadPort();
const start = port.data as WorkerStart;
const { settings } = start;

const turnFlush = new TurnFlush();
const writer = createLogWriter({
  write: (bytes) => writeLines(STDOUT, bytes),
  schedule: (flush, blocked) => turnFlush.schedule(flush, blocked),
});
const log = createLog({
  filter: start.directives,
  format: settings.logFormat,
  sink: writer.sink,
  nowMs: createWallClock(Date.now, () => performance.now()),
});
const pause = new Pause();

function instruments({ reactor }: IoContext, upstreams: Upstreams, peers: Peers): WorkerInstruments {
  const files = new LogFiles({
    stdout: writer.sink,
    scheduler: () => {
      const turn = new TurnFlush();
      turn.attach(reactor);
      return (flush, blocked) => turn.schedule(flush, blocked);
    },
    failed: (path, error) =>
      log.log("error", "telemetry", "an access log cannot be opened; its lines are lost", { path, error }),
  });
  const nowMs = () => reactor.nowMs;
  // Only its log lines: the count travels with the worker's report.
  const limits = createLimits({ registry: new Registry({ nowMs, retainMs: 0 }), log, nowMs });
  const telemetry = new WorkerTelemetry({
    timing: reactor,
    log,
    source: metricsSource(start.generation),
    hostname: settings.hostname,
    localPrincipal: settings.identity,
    nodeId: settings.nodeId,
    node: { id: settings.nodeId, cluster: settings.serviceCluster, metadata: settings.node },
    env: (name) => process.env[name],
    peers: (ip) => peers.find(ip),
    clusters: () => upstreams.clusters,
    random: Math.random,
    hex: randomHex,
    openLog: files.open,
    post: (message) => port.post({ type: "telemetry", message } satisfies FromWorker),
    rest: (work) => pause.order(work),
    droppedLines: () => writer.dropped + files.dropped,
    full: () => limits.reached("metric_series"),
    flushed: () => files.flush(),
  });
  return {
    hooks: joinHooks(telemetry, createLogHooks(log)),
    formats: telemetry.formats,
    rbac: telemetry.rbac,
    filter: (spec) => telemetry.filter(spec),
  };
}

const plane = new DataPlane({ port, start, log, instruments, flushLog: writer.flush });
turnFlush.attach(plane.reactor);
pause.attach(() => plane.reactor.stop());
try {
  for (;;) {
    await pause.run();
    plane.run();
  }
} finally {
  writer.flush();
}
