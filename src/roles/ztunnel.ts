/**
 * `ambit ztunnel`: the L4 node proxy. Composition only: what there is, in the order in which it starts and ends. The
 * way of a connection is in ztunnel/outbound.ts, inbound.ts and inbound_plaintext.ts.
 */
import process from "node:process";
import { Readiness, type ReadinessTask } from "../admin/mod.ts";
import type { ZtunnelConfig } from "../cli/config.ts";
import { connectLocalControl } from "../control/local/node_client.ts";
import type { Authority } from "../identity/certificate_store.ts";
import { ignoreBrokenPipes, raiseDescriptorLimit, seedRuntimeTls, shrinkMemory } from "../platform/process.ts";
import { releaseStartupCode } from "../platform/startup_pages.ts";
import { writeLines } from "../platform/socket.ts";
import { provePolicy } from "../platform/tls_policy.ts";
import { createLog, createLogWriter, createProcessMetrics, createWallClock, Registry } from "../telemetry/mod.ts";
import { createWorkerMetrics } from "../telemetry/worker_metrics.ts";
import { startAdminServers } from "./ztunnel_admin.ts";
import { Certificates } from "../ztunnel/certificates.ts";
import { ControlPlane } from "../ztunnel/control_plane.ts";
import type { IstiodControl } from "../ztunnel/istiod_control.ts";
import { followLocalControl } from "../ztunnel/local_control.ts";
import { proveNamespaceAccess } from "../ztunnel/namespace_probe.ts";
import { OnDemandMesh } from "../ztunnel/on_demand.ts";
import { PodManager } from "../ztunnel/pod_manager.ts";
import { proveAuthentication } from "../ztunnel/self_test.ts";
import { tlsPolicy, workerSettings } from "../ztunnel/settings.ts";
import { stopRequests } from "../ztunnel/stop_requests.ts";

const STDOUT = 1;
/** A log that nobody reads is tried again this often. */
const BLOCKED_LOG_MS = 50;
/** Until it is ready nothing is served: others would only take cores from the first mesh. */
const WORKERS_AT_FIRST = 1;
/** From readiness on. To start a thread holds up the main thread of Deno for 45 ms (measured, Deno 2.9): who waited for the start comes first. */
const OTHER_WORKERS_MS = 200;
/** By then the first mesh is in force, the pods are served and what only a start needs has run. */
const SETTLED_MS = 5_000;
/** How long an evicted series still stands, so that every scraper sees its last value. */
const RETAIN_SERIES_MS = 5 * 60_000;
/** A worker writes an answer within a turn. */
const FATAL_MS = 100;

/** Serves until it is told to stop; resolves with the exit code. Rejects when it cannot start. */
export async function runZtunnel(config: ZtunnelConfig): Promise<number> {
  refuseUnsupported(config);
  if (config.localControl === undefined) seedRuntimeTls();
  // Its libraries take a while to load, while the workers start; under `ambit local` they are not loaded at all.
  const istiod = config.localControl === undefined ? import("../ztunnel/istiod_control.ts") : undefined;
  const writer = createLogWriter({
    write: (bytes) => writeLines(STDOUT, bytes),
    schedule: (flush, blocked) => void setTimeout(flush, blocked ? BLOCKED_LOG_MS : 1),
  });
  const nowMs = createWallClock(Date.now, () => performance.now());
  const log = createLog({ filter: config.log.filter, format: config.log.format, sink: writer.sink, nowMs });
  const stop = stopRequests();
  // Before anything is served: a file that cannot be taken ends the start.
  const localXds = config.localXds.kind === "none"
    ? undefined
    : await (await import("../control/local_file/mod.ts")).loadLocalXds(config.localXds);

  ignoreBrokenPipes();
  const descriptors = raiseDescriptorLimit();
  if (descriptors.error !== undefined) {
    log.log("warn", "main", `cannot raise the limit of open files: ${descriptors.error}`, { limit: descriptors.limit });
  }
  provePolicy(tlsPolicy(config));
  proveAuthentication();
  if (config.proxyMode === "shared" || config.packetMark !== undefined) proveNamespaceAccess(config.packetMark);

  const readiness = new Readiness([
    "state manager",
    config.proxyMode === "dedicated" ? "proxy" : "workload proxy manager",
  ]);
  const registry = new Registry({ nowMs: () => performance.now(), retainMs: RETAIN_SERIES_MS });
  const metrics = createWorkerMetrics(registry, log, () => performance.now());
  const processMetrics = createProcessMetrics(registry, config.istioVersion);
  // What is asked for before there is anybody to ask waits.
  const { promise: controlled, resolve: setControl } = Promise.withResolvers<Authority>();
  const certificates = new Certificates({
    authority: { requestCertificate: async (identity, csr) => (await controlled).requestCertificate(identity, csr) },
    crlPath: config.crlPath,
    registry,
    log,
    schedule,
    certificateChanged: (identity, material) => controlPlane.certificateChanged(identity, material),
    revocationsChanged: (lists) => controlPlane.revocationsChanged(lists),
  });
  const pods = new PodManager({
    config,
    readiness,
    log,
    schedule,
    fatal(reason) {
      log.log("error", "inpod", "ending at once", { error: reason });
      writer.flush();
      // The worker still has the agent's answer to send.
      schedule(() => process.exit(1), FATAL_MS);
    },
  });
  const controlPlane = new ControlPlane({
    workerEntry: new URL("./ztunnel_worker.ts", import.meta.url),
    workers: config.workers,
    workersAtFirst: WORKERS_AT_FIRST,
    settings: workerSettings(config),
    nodeName: config.nodeName,
    certificates: certificates.store,
    prefetchCertificates: config.proxyMode === "shared",
    openListeners: pods.openListeners,
    podsChanged: pods.podsChanged,
    registry,
    processMetrics,
    limits: metrics.limits,
    log,
    schedule,
  });
  if (localXds !== undefined) controlPlane.loadStatic(localXds);
  certificates.start();
  pods.attach(controlPlane);
  const admin = await startAdminServers({
    config,
    readiness,
    registry,
    processMetrics,
    controlPlane,
    certificates,
    log,
    limits: metrics.limits,
    droppedLines: () => writer.dropped,
    maxDescriptors: descriptors.limit,
    shutdown: () => stop.request("POST /quitquitquit"),
  });
  const ready = {
    done(task: ReadinessTask) {
      readiness.done(task);
      if (task === "state manager") void pods.start();
    },
  };
  const control: Authority & Pick<Partial<IstiodControl>, "onDemand"> & { close(): void } = istiod === undefined
    ? connectLocalControl({
      path: config.localControl!,
      node: config.nodeName ?? "",
      ...followLocalControl({ controlPlane, readiness: ready, log, announcesPods: config.podSource === "local" }),
    })
    : (await istiod).followIstiod({
      config,
      target: controlPlane,
      registry,
      log,
      limits: metrics.limits,
      schedule,
      synced: () => ready.done("state manager"),
      waiting: (reason) => readiness.explain("state manager", reason),
    });
  setControl(control);

  void readiness.first.then(() => {
    log.log("info", "readiness", "ready", { "after.ms": Math.round(performance.now()) });
    schedule(() => controlPlane.startAllWorkers(), OTHER_WORKERS_MS);
  });
  await pods.serveOwnWorkload();
  if (control.onDemand !== undefined) {
    const { store } = controlPlane;
    controlPlane.onDemand = new OnDemandMesh({ store, demand: control.onDemand, limits: metrics.limits, schedule });
  }
  log.log("info", "main", "ztunnel started", { workers: config.workers, node: config.nodeName ?? "" });
  const cancelRelease = schedule(() => {
    shrinkMemory();
    releaseStartupCode();
  }, SETTLED_MS);
  const reason = await stop.requested;
  cancelRelease();
  log.log("info", "main", "draining", { reason, "deadline.ms": config.terminationDeadlineMs });
  pods.stop();
  const outcome = await controlPlane.drain(config.terminationDeadlineMs);
  log.log("info", "main", outcome === "finished" ? "all connections finished" : "deadline reached: the rest is cut");
  control.close();
  pods.close();
  certificates.close();
  controlPlane.close();
  await admin.close();
  writer.flush();
  return 0;
}

/** A protection that is asked for and not there must not look as if it were. */
function refuseUnsupported(config: ZtunnelConfig): void {
  const refuse = (what: string) => {
    throw new Error(`${what} is not supported by this version: unset it, or use a version that has it`);
  };
  // Istio's own release builds end at it too: anybody could sign such certificates.
  if (config.ca.fake) refuse("FAKE_CA=true");
}

function schedule(task: () => void, delayMs: number): () => void {
  const timer = setTimeout(task, delayMs);
  return () => clearTimeout(timer);
}
