/** What a waypoint's servers show: Envoy's admin pages and the metrics of all its threads, made when somebody asks. */
import process from "node:process";
import { ADMIN_SLICES, type App, expositionResponse, inSlices, streamText } from "../admin/mod.ts";
import { openDescriptors } from "../platform/process.ts";
import { buildInfo, formatBuildInfo, type Log, type Registry } from "../telemetry/mod.ts";
import type { WaypointAgent } from "../waypoint/agent/agent.ts";
import type { StopRequest } from "../waypoint/agent/stop_requests.ts";
import {
  collectStatistics,
  type ConfigView,
  createAgentMetrics,
  createEnvoyAdmin,
  daysToExpiry,
  inclusionOf,
  PROMETHEUS_TYPE,
  prometheusPieces,
  secondsToExpiry,
  type Statistic,
} from "../waypoint/admin/mod.ts";

export interface WaypointPagesOptions {
  readonly agent: WaypointAgent;
  readonly view: ConfigView;
  readonly registry: Registry;
  readonly log: Log;
  /** Lines the main thread's log has dropped so far, spans and records that no collector took. */
  readonly dropped: () => Readonly<Record<string, number>>;
  /** Limit of open files. */
  readonly maxDescriptors: number;
  readonly stop: (request: StopRequest) => void;
}

export interface WaypointPages {
  /** Port 15000. */
  readonly admin: App;
  /** Prometheus' text. */
  metrics(request: Request): Promise<Response>;
  /** Readiness was made to fail. */
  readonly healthFailed: boolean;
  readonly commandLine: readonly string[];
}

const OWN_CERTIFICATE = "default";

export function createWaypointPages(options: WaypointPagesOptions): WaypointPages {
  const { agent, view, registry, log, dropped, maxDescriptors, stop } = options;
  const own = createAgentMetrics(registry, agent.state.startedMs);
  const inclusion = inclusionOf(agent.state.config.proxyConfig);
  let healthFailed = false;

  async function statistics(): Promise<readonly Statistic[]> {
    const { state } = agent;
    const reports = await state.report();
    return collectStatistics({
      state,
      view,
      reports,
      dropped: dropped(),
      nowMs: Date.now(),
      memoryBytes: process.memoryUsage().rss,
      daysToExpiry: daysToExpiry(state.secrets.values(), Date.now()),
    });
  }

  async function metrics(request: Request): Promise<Response> {
    agent.observe();
    const { user, system } = process.cpuUsage();
    own.scraped({
      startupMs: agent.state.startupMs,
      certificateSeconds: secondsToExpiry(agent.state.secrets.get(OWN_CERTIFICATE), Date.now()),
      residentBytes: process.memoryUsage().rss,
      cpuSeconds: (user + system) / 1e6,
      openDescriptors: descriptors(maxDescriptors),
      maxDescriptors,
    });
    const pieces = await prometheusPieces({ registry, statistics, inclusion });
    return await expositionResponse(pieces, PROMETHEUS_TYPE, request.headers.get("accept-encoding") ?? "");
  }

  const admin = createEnvoyAdmin({
    state: () => agent.state,
    view,
    statistics,
    prometheus: metrics,
    stream: (pieces) => streamText(inSlices(pieces, ADMIN_SLICES)),
    log: {
      get directives() {
        return log.directives;
      },
      change(directives, settings) {
        log.change(directives, settings);
        agent.changeLog(log.directives);
      },
    },
    version: formatBuildInfo(buildInfo()),
    memory: () => process.memoryUsage(),
    nowMs: Date.now,
    drain: () => agent.announceDrain(),
    stop: () => stop({ reason: "POST /quitquitquit", now: true }),
    failHealth: (failing) => void (healthFailed = failing),
  });
  return {
    admin,
    metrics,
    get healthFailed() {
      return healthFailed;
    },
    commandLine: process.argv,
  };
}

/** To count them takes one: without any left there are as many as there may be. */
function descriptors(max: number): number {
  try {
    return openDescriptors();
  } catch {
    return max;
  }
}
