/**
 * `ambit ztunnel`: the L4 node proxy. Composition only: what there is, in the order in which it starts and ends. The
 * way of a connection is in ztunnel/outbound.ts, inbound.ts and inbound_plaintext.ts.
 */
import { Readiness } from "../admin/mod.ts";
import type { ZtunnelConfig } from "../cli/config.ts";
import { connectLocalControl } from "../control/local/channel_client.ts";
import { CertificateStore } from "../identity/certificate_store.ts";
import { ignoreBrokenPipes, raiseDescriptorLimit, releaseMemory, releaseStartupCode } from "../platform/process.ts";
import { writeLines } from "../platform/socket.ts";
import { createLog, createLogWriter, createProcessMetrics, createWallClock, Registry } from "../telemetry/mod.ts";
import { createTrafficMetrics } from "../telemetry/traffic_metrics.ts";
import { startAdminServers } from "./ztunnel_admin.ts";
import { ControlPlane } from "../ztunnel/control_plane.ts";
import { followLocalControl } from "../ztunnel/local_control.ts";
import { openPodListeners } from "../ztunnel/pod_listeners.ts";
import { proveAuthentication } from "../ztunnel/self_test.ts";
import { socketTuning, workerSettings } from "../ztunnel/settings.ts";
import { stopRequests } from "../ztunnel/stop_requests.ts";

const STDOUT = 1;
/** A log that nobody reads is tried again this often. */
const BLOCKED_LOG_MS = 50;
/** By then the first mesh is in force, the pods are served and what only a start needs has run. */
const SETTLED_MS = 3_000;
/** How long an evicted series still stands, so that every scraper sees its last value. */
const RETAIN_SERIES_MS = 5 * 60_000;

/** Serves until it is told to stop; resolves with the exit code. Rejects when it cannot start. */
export async function runZtunnel(config: ZtunnelConfig): Promise<number> {
  if (config.localControl === undefined) {
    throw new Error(
      "no control plane: set LOCAL_CONTROL to the socket of `ambit local` (this version has no xDS client yet)",
    );
  }
  refuseUnsupported(config);
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
  proveAuthentication();

  const readiness = new Readiness(["state manager", "workload proxy manager"]);
  const registry = new Registry({ nowMs: () => performance.now(), retainMs: RETAIN_SERIES_MS });
  createTrafficMetrics(registry);
  const processMetrics = createProcessMetrics(registry, config.istioVersion);
  const certificates = new CertificateStore({
    authority: { requestCertificate: (identity, csr) => local.requestCertificate(identity, csr) },
    nowMs: Date.now,
    schedule,
    changed: (identity, material) => controlPlane.certificateChanged(identity, material),
    failed: (identity, error, retryMs) =>
      log.log("warn", "identity", error, { identity, "retry.ms": Math.round(retryMs) }),
    random: Math.random,
  });
  const settings = workerSettings(config);
  const controlPlane = new ControlPlane({
    workerEntry: new URL("./ztunnel_worker.ts", import.meta.url),
    workers: config.workers,
    settings,
    nodeName: config.nodeName,
    certificates,
    openListeners: (info) =>
      openPodListeners({
        netns: info.netns,
        mark: config.packetMark,
        ipv6Enabled: config.ipv6Enabled,
        reusePort: config.inpodPortReuse,
        requireOriginalSource: config.requireOriginalSource,
        tuning: socketTuning(settings),
      }),
    registry,
    processMetrics,
    log,
    schedule,
  });
  const admin = await startAdminServers({
    config,
    readiness,
    registry,
    processMetrics,
    controlPlane,
    certificates,
    log,
    maxDescriptors: descriptors.limit,
    shutdown: () => stop.request("POST /quitquitquit"),
  });
  const local = connectLocalControl({
    path: config.localControl,
    node: config.nodeName ?? "",
    ...followLocalControl({ controlPlane, readiness, log }),
  });

  log.log("info", "main", "ztunnel started", { workers: config.workers, node: config.nodeName ?? "" });
  const cancelRelease = schedule(() => {
    releaseMemory();
    releaseStartupCode();
  }, SETTLED_MS);
  const reason = await stop.requested;
  cancelRelease();
  log.log("info", "main", "draining", { reason, "deadline.ms": config.terminationDeadlineMs });
  const outcome = await controlPlane.drain(config.terminationDeadlineMs);
  log.log("info", "main", outcome === "finished" ? "all connections finished" : "deadline reached: the rest is cut");
  local.close();
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
  if (config.crlPath !== undefined) refuse("certificate revocation (CRL_PATH)");
  if (config.compliancePolicy === "pqc") refuse("COMPLIANCE_POLICY=pqc");
  if (config.ca.fake) refuse("FAKE_CA=true");
  if (config.proxyMode === "dedicated") refuse("PROXY_MODE=dedicated");
  if (config.socks5Enabled) refuse("UNSTABLE_ENABLE_SOCKS5=true");
}

function schedule(task: () => void, delayMs: number): () => void {
  const timer = setTimeout(task, delayMs);
  return () => clearTimeout(timer);
}
