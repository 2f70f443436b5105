/** What the node agent serves for people and machines: health, metrics, administration, and the plugin's log. */
import { join } from "node:path";
import { createMetricsApp, listen } from "../admin/mod.ts";
import type { CniConfig } from "../cli/config.ts";
import { controlHandler } from "../cni/agent/control_server.ts";
import { messageOf } from "../cni/agent/errors.ts";
import { type Health, healthHandler } from "../cni/agent/health.ts";
import { serveTcp, serveUnix } from "../cni/agent/http_server.ts";
import { logHandler } from "../cni/agent/log_server.ts";
import type { CniMetrics } from "../cni/agent/metrics.ts";
import { ADMIN_SOCKET_NAME, type AgentReport } from "../cni/agent/status.ts";
import { LOG_SOCKET_NAME } from "../cni/net_conf.ts";
import { openDescriptors } from "../platform/process.ts";
import {
  buildInfo,
  formatBuildInfo,
  type Limits,
  type Log,
  openMetricsPieces,
  type Registry,
} from "../telemetry/mod.ts";

export interface CniServersOptions {
  readonly config: CniConfig;
  readonly log: Log;
  readonly registry: Registry;
  readonly metrics: CniMetrics;
  readonly health: Health;
  readonly report: () => AgentReport;
  readonly beforeScrape: () => void;
  readonly limits: Limits;
  readonly maxDescriptors: number;
}

/** Requests under way at the end get this long. */
const CLOSE_MS = 500;
const SCOPE = "cni-agent";
/** Every local user's container runtime may run the plugin. */
const PLUGIN_SOCKET_MODE = 0o666;
const OWNER_ONLY = 0o600;

/** Rejects when the health port cannot be opened: nobody would learn that the node is ready. The others are done without. */
export async function startCniServers(options: CniServersOptions): Promise<{ close(): Promise<void> }> {
  const { config, log, registry, metrics, health, report } = options;
  const opened: { close(drainMs: number): Promise<void> }[] = [];
  const optional = async (what: string, open: () => Promise<{ close(drainMs: number): Promise<void> }>) => {
    try {
      opened.push(await open());
    } catch (error) {
      log.log("error", SCOPE, `cannot open ${what}: the agent goes on without`, { error: messageOf(error) });
    }
  };
  const full = () => options.limits.reached("admin_connections");
  const control = { handler: controlHandler({ log, report, version: formatBuildInfo(buildInfo()) }), full };

  if (config.ctrlzPort !== 0) {
    for (const host of controlHosts(config.ctrlzAddress)) {
      await optional("the control port", () => serveTcp(host, config.ctrlzPort, control));
    }
  }
  if (config.monitoringPort !== 0) {
    const app = createMetricsApp({
      render: async () => {
        options.beforeScrape();
        metrics.setFileDescriptors(openDescriptors(), options.maxDescriptors);
        return openMetricsPieces(registry);
      },
    });
    await optional("the metrics port", () => everywhere((host) => listen(host, config.monitoringPort, app, full)));
  }
  await optional(
    "the plugin's log socket",
    () => serveUnix(join(config.runDir, LOG_SOCKET_NAME), PLUGIN_SOCKET_MODE, { handler: logHandler(log), full }),
  );
  await optional(
    "the administration socket",
    () => serveUnix(join(config.runDir, ADMIN_SOCKET_NAME), OWNER_ONLY, control),
  );
  const close = async () => {
    await Promise.all(opened.map((server) => server.close(CLOSE_MS)));
  };
  try {
    opened.push(
      await everywhere((host) => serveTcp(host, config.healthPort, { handler: healthHandler(health), full })),
    );
  } catch (error) {
    await close();
    throw error;
  }
  return { close };
}

/** Both families at one socket; a kernel without IPv6 has the other one only. */
async function everywhere<T>(open: (host: string) => Promise<T>): Promise<T> {
  try {
    return await open("::");
  } catch (error) {
    const cause = (error as { cause?: { code?: unknown } }).cause ?? error as { code?: unknown };
    if (cause.code !== "EAFNOSUPPORT" && cause.code !== "EADDRNOTAVAIL" && cause.code !== "EINVAL") throw error;
    return await open("0.0.0.0");
  }
}

function controlHosts(address: string): readonly string[] {
  if (address === "localhost") return ["127.0.0.1"];
  return [address === "*" ? "::" : address];
}
