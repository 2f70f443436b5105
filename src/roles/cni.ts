/**
 * `ambit cni`: the node agent. Composition only: what there is, in the order in which it starts and ends (reference cni.md 1.2
 * and 5.4). What a pod goes through is in cni/agent/enrolment.ts, what an event means in cni/agent/controller.ts.
 *
 * Fatal: a health port or a socket of the plugin or ztunnel that cannot be opened, selectors that cannot be read, no address or
 * credentials of the API server, the node's own rules after ten tries. Everything else is told and tried again.
 */
import process from "node:process";
import type { CniConfig } from "../cli/config.ts";
import { Health } from "../cni/agent/health.ts";
import { messageOf } from "../cni/agent/errors.ts";
import { createCniMetrics } from "../cni/agent/metrics.ts";
import type { AgentReport } from "../cni/agent/status.ts";
import { parseSelectors } from "../cni/eligibility.ts";
import { createInstaller, decideShutdown } from "../cni/install/mod.ts";
import { pluginEntry } from "../cni/net_conf.ts";
import type { KubeClient } from "../control/kube/client.ts";
import { inClusterClient } from "../control/kube/in_cluster.ts";
import { ignoreBrokenPipes, raiseDescriptorLimit, shrinkMemory } from "../platform/process.ts";
import { releaseStartupCode } from "../platform/startup_pages.ts";
import { buildInfo, createLimits, type Log, Registry } from "../telemetry/mod.ts";
import { stopRequests } from "../ztunnel/stop_requests.ts";
import { type Ambient, startAmbient } from "./cni_ambient.ts";
import { createCniLog } from "./cni_log.ts";
import { startCniServers } from "./cni_servers.ts";

/** How long an evicted series still stands, so that every scraper sees its last value. */
const RETAIN_SERIES_MS = 5 * 60_000;
/** By then what only a start needs has run. */
const SETTLED_MS = 3_000;
/** The chart gives 30 s. */
const STOP_LIMIT_MS = 25_000;
const SCOPE = "cni-agent";

/** Serves until it is told to stop; resolves with the exit code. Rejects when it cannot start. */
export async function runCni(config: CniConfig): Promise<number> {
  const stop = stopRequests();
  const { log, flush, dropped } = createCniLog(config);
  surviveStrayErrors(log, flush);
  ignoreBrokenPipes();
  const descriptors = raiseDescriptorLimit();
  if (descriptors.error !== undefined) {
    log.log("warn", SCOPE, `cannot raise the limit of open files: ${descriptors.error}`, { limit: descriptors.limit });
  }
  tellWhatIsMissing(config, log);
  const registry = new Registry({ nowMs: () => performance.now(), retainMs: RETAIN_SERIES_MS });
  const metrics = createCniMetrics(registry, buildInfo().version);
  const limits = createLimits({ registry, log, nowMs: () => performance.now() });
  let droppedSeen = 0;
  const health = new Health();
  let ambient: Ambient | undefined;
  const report = (): AgentReport => ({
    node: config.nodeName,
    ready: { install: health.install, watch: health.watch },
    ...(ambient?.report() ??
      { redirection: "none: ambient mode is off", ztunnels: [], host: undefined, queue: 0, pods: [] }),
  });
  const servers = await startCniServers({
    config,
    log,
    registry,
    metrics,
    health,
    report,
    limits,
    beforeScrape() {
      const droppedNow = dropped();
      limits.count("log_lines", droppedNow - droppedSeen);
      droppedSeen = droppedNow;
      ambient?.updateMetrics();
    },
    maxDescriptors: descriptors.limit,
  });
  let client: KubeClient | undefined;
  const broken = Promise.withResolvers<never>();
  // Once the agent ends, an interrupted start is no failure.
  broken.promise.catch(() => {});
  const stopInstaller = new AbortController();
  try {
    const selectors = await readSelectors(config);
    const getClient = () => client ??= inClusterClient(config.install, `ambit-cni/${buildInfo().version}`);
    if (config.ambient.enabled) {
      const starting = startAmbient({ config, selectors, client: getClient(), metrics, limits, log });
      ambient = await Promise.race([starting, stop.requested.then(() => undefined)]);
      if (ambient === undefined) {
        starting.then((late) => late.stop(true)).catch(() => {});
        return 0;
      }
      ambient.started.then(() => {
        health.watch = true;
        log.log("info", SCOPE, "CNI ambient server marking ready");
      }).catch(broken.reject);
    } else health.watch = true;
    const { install } = config;
    const installer = createInstaller({
      config: install,
      ambientEnabled: config.ambient.enabled,
      runDir: config.runDir,
      entry: pluginEntry({
        logLevel: install.pluginLogLevel,
        agentRunDir: config.runDir,
        ambientEnabled: config.ambient.enabled,
        selectors,
        excludedNamespaces: config.excludedNamespaces,
        podNamespace: config.podNamespace,
        nativeNftables: config.ambient.nativeNftables,
        detectionRetry: config.ambient.detectionRetry,
      }),
      log,
      readyChanged(ready) {
        health.install = ready;
        metrics.setInstallReady(ready);
      },
      installed: metrics.installed,
    });
    const installing = installer.run(stopInstaller.signal);
    const settled = setTimeout(() => {
      shrinkMemory();
      releaseStartupCode();
    }, SETTLED_MS);

    const reason = await Promise.race([stop.requested, broken.promise]);
    clearTimeout(settled);
    const limit = setTimeout(() => {
      log.log("error", SCOPE, "the end takes too long: the rest is left to the kernel");
      flush();
      process.exit(1);
    }, STOP_LIMIT_MS);
    log.log("info", SCOPE, "ending", { reason });
    health.install = health.watch = false;
    stopInstaller.abort(new Error("the agent ends"));
    await installing;
    const decision = await decideShutdown(client, {
      ambientEnabled: config.ambient.enabled,
      disableSafeUpgrade: config.ambient.disableSafeUpgrade,
      ownedConfig: install.ownedConfig,
      podNamespace: config.podNamespace,
      nodeName: config.nodeName,
    });
    const keep = decision.action === "keep";
    log.log("info", SCOPE, keep ? "keeping the plugin in place" : "removing the plugin", { reason: decision.reason });
    await ambient?.stop(keep);
    if (!keep) await installer.cleanUp();
    clearTimeout(limit);
    return 0;
  } finally {
    stopInstaller.abort();
    await ambient?.stop(true).catch(() => {});
    client?.close();
    await servers.close();
    flush();
  }
}

/** @throws Error that says which selector is wrong: a wrong selector must not enrol nobody, or everybody, unnoticed. */
async function readSelectors(config: CniConfig) {
  const text = config.ambient.selectors;
  if (!config.ambient.enabled || text === undefined) return [];
  const { parse } = await import("yaml");
  try {
    return parseSelectors(parse(text, { maxAliasCount: 100 }));
  } catch (error) {
    throw new Error(`AMBIENT_ENABLEMENT_SELECTOR cannot be read: ${messageOf(error)}`);
  }
}

function tellWhatIsMissing(config: CniConfig, log: Log): void {
  if (config.repair === "none") return;
  log.log(
    "warn",
    SCOPE,
    `pods with sidecars are not repaired: this version has no repair controller; set REPAIR_ENABLED=false (asked for: ${config.repair})`,
  );
}

/** A mistake in one part is told, and does not end the others. Of an error that nobody caught nothing is known: a new start is safer. */
function surviveStrayErrors(log: Log, flush: () => void): void {
  process.on("unhandledRejection", (error: unknown) => {
    log.log("error", SCOPE, "a part of the agent failed unexpectedly; this is a bug", {
      error: error instanceof Error ? error.stack ?? error.message : String(error),
    });
  });
  process.on("uncaughtException", (error: unknown) => {
    log.log("error", SCOPE, "the agent failed unexpectedly and ends; this is a bug", {
      error: error instanceof Error ? error.stack ?? error.message : String(error),
    });
    flush();
    process.exit(1);
  });
}
