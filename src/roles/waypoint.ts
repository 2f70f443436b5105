/**
 * `ambit waypoint`: the L7 proxy of a namespace, pilot-agent and Envoy in one process. Composition only: what there is, in the order in which it
 * starts and ends. The way of a connection is in waypoint/worker/connect.ts, that of a request in waypoint/engine/request.ts.
 */
import type { WaypointConfig } from "../cli/config.ts";
import { ignoreBrokenPipes, raiseDescriptorLimit, seedRuntimeTls, shrinkMemory } from "../platform/process.ts";
import { releaseStartupCode } from "../platform/startup_pages.ts";
import { writeLines } from "../platform/socket.ts";
import { provePolicy } from "../platform/tls_policy.ts";
import { createLimits } from "../telemetry/limits.ts";
import { createLog, createLogWriter, createWallClock, Registry } from "../telemetry/mod.ts";
import { ConfigView } from "../waypoint/admin/mod.ts";
import { WaypointAgent } from "../waypoint/agent/agent.ts";
import { openControl } from "../waypoint/agent/control.ts";
import { describeWaypointNode } from "../waypoint/agent/node.ts";
import { proveTunnels } from "../waypoint/agent/self_test.ts";
import { stopRequests } from "../waypoint/agent/stop_requests.ts";
import { ALS_PATH, encodeAls, encodeAlsIdentity } from "../waypoint/config/als.ts";
import { keyFetcher } from "../waypoint/filters/jwt_fetch.ts";
import { createTokenJudge } from "../waypoint/filters/jwt_judge.ts";
import { Exporter } from "../waypoint/telemetry/export/exporter.ts";
import { MainTelemetry } from "../waypoint/telemetry/main_telemetry.ts";
import { NodeResolver } from "../waypoint/upstream/node_resolver.ts";
import { createWaypointPages } from "./waypoint_pages.ts";
import { startWaypointServers } from "./waypoint_servers.ts";

const STDOUT = 1;
/** A log that nobody reads is tried again this often. */
const BLOCKED_LOG_MS = 50;
/** By then the first configuration is in force and what only a start needs has run; on a busy node by the second of them. */
const SETTLED_MS = [3_000, 9_000];
/** Each of several scrapers sees the last value of a series. */
const RETAIN_SERIES_MS = 60_000;

/** Serves until it is told to stop; resolves with the exit code. Rejects when it cannot start. */
export async function runWaypoint(config: WaypointConfig): Promise<number> {
  if (config.localControl === undefined) seedRuntimeTls();
  const writer = createLogWriter({
    write: (bytes) => writeLines(STDOUT, bytes),
    schedule: (flush, blocked) => void setTimeout(flush, blocked ? BLOCKED_LOG_MS : 1),
  });
  const nowMs = createWallClock(Date.now, () => performance.now());
  const log = createLog({ filter: config.log.filter, format: config.log.format, sink: writer.sink, nowMs });
  const stop = stopRequests();
  ignoreBrokenPipes();
  const descriptors = raiseDescriptorLimit();
  if (descriptors.error !== undefined) {
    log.log("warn", "main", `cannot raise the limit of open files: ${descriptors.error}`, { limit: descriptors.limit });
  }
  for (const note of config.notes) log.log("warn", "main", note);
  provePolicy({ tls12: false, pqc: config.compliancePolicy === "pqc" });
  proveTunnels();

  const registry = new Registry({ nowMs: () => performance.now(), retainMs: RETAIN_SERIES_MS });
  const limits = createLimits({ registry, log, nowMs: () => performance.now() });
  const control = await openControl({ config, registry, log, limits, schedule });
  const names = new NodeResolver();
  const fetchKeys = keyFetcher((cluster, uri, timeoutMs) => agent.get(cluster, uri, timeoutMs));
  const tokens = createTokenJudge(fetchKeys, () => performance.now());
  const view = new ConfigView();
  const exporter = new Exporter({
    node: describeWaypointNode(config),
    call: (call) => agent.callCollector(call),
    log,
    nowMs: () => performance.now(),
    als: { path: ALS_PATH, identity: encodeAlsIdentity, encode: encodeAls },
  });
  const agent: WaypointAgent = new WaypointAgent({
    config,
    workerEntry: new URL("./waypoint_worker.ts", import.meta.url),
    authority: control,
    log,
    registry,
    schedule,
    resolve: ({ host, family }, answered) => void names.answer(host, family).then(answered),
    judge: ({ provider, token }, answered) => void tokens.judge(provider, token).then(answered),
    watch: (typeUrl, names) => control.watch(typeUrl, names),
    ready: () => control.ready(),
    telemetry: new MainTelemetry({ registry, exporter, version: config.istioVersion }),
    applied: (change) => view.apply(change),
  });
  const pages = createWaypointPages({
    agent,
    view,
    registry,
    log,
    dropped: () => ({ log_lines: writer.dropped, telemetry_records: exporter.dropped }),
    maxDescriptors: descriptors.limit,
    stop: stop.request,
  });
  const servers = await startWaypointServers({ config, agent, pages, limits, stop: stop.request });
  control.follow({ agent, waiting: (reason) => agent.readiness.explain(reason) });
  log.log("info", "main", "waypoint started", { workers: config.workers, node: agent.node.id });
  const releases = SETTLED_MS.map((delayMs) =>
    schedule(() => {
      shrinkMemory();
      releaseStartupCode();
    }, delayMs)
  );

  const { reason, now } = await stop.requested;
  for (const cancel of releases) cancel();
  if (!now) {
    log.log("info", "main", "draining", { reason });
    const end = await Promise.race([agent.drain(), stop.hurried.then(() => "told to hurry")]);
    log.log("info", "main", "drained", { reason: end });
  }
  control.close();
  await agent.close("connection closed due to connection drain");
  exporter.close();
  await servers.close();
  writer.flush();
  return 0;
}

function schedule(task: () => void, delayMs: number): () => void {
  const timer = setTimeout(task, delayMs);
  return () => clearTimeout(timer);
}
