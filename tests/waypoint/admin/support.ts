/** Envoy's admin port over what a real istiod sent, with workers that report what the test says. */
import type { Hono } from "hono";
import type { WaypointConfig } from "../../../src/cli/config.ts";
import { Registry } from "../../../src/telemetry/mod.ts";
import { StateRecorder, type WaypointState } from "../../../src/waypoint/agent/state.ts";
import {
  collectStatistics,
  ConfigView,
  createEnvoyAdmin,
  inclusionOf,
  prometheusPieces,
  type Statistic,
} from "../../../src/waypoint/admin/mod.ts";
import type { WorkerCounts } from "../../../src/waypoint/telemetry/worker_counts.ts";
import type { WorkerReport } from "../../../src/waypoint/worker/messages.ts";
import { pushes, replay, type Scenario } from "../config/fixtures.ts";

export const NOW_MS = Date.UTC(2026, 0, 2, 3, 4, 5);
const STARTED_MS = NOW_MS - 90_500;
const PREFIX = "type.googleapis.com/";

export interface TestAdmin {
  readonly app: Hono;
  readonly view: ConfigView;
  readonly recorder: StateRecorder;
  readonly registry: Registry;
  readonly reports: WorkerReport[];
  /** What was asked of the process. */
  readonly asked: string[];
  phase: WaypointState["phase"];
  directives: string;
  text(path: string, method?: string): Promise<string>;
  json(path: string): Promise<Record<string, never>>;
}

export function report(telemetry: Partial<WorkerCounts> = {}, connections = 0): WorkerReport {
  return {
    connections,
    streams: 0,
    refusedChains: {},
    telemetry: {
      http: {},
      tcp: {},
      rbac: { allowed: 0, denied: 0, shadow_allowed: 0, shadow_denied: 0 },
      clusters: [],
      dropped: {},
      ...telemetry,
    } satisfies WorkerCounts,
  };
}

export function testAdmin(scenario: Scenario = "plain", proxyConfig: Record<string, unknown> = {}): TestAdmin {
  const recorder = new StateRecorder(() => NOW_MS);
  for (const { type, resources, removed } of pushes(scenario)) {
    for (const { name, resource: { typeUrl, value } } of resources) {
      recorder.received(PREFIX + type, { name, version: "v1", typeUrl, value, error: undefined });
    }
    for (const name of removed) recorder.removed(PREFIX + type, name);
    recorder.applied(PREFIX + type, "");
  }
  const view = new ConfigView();
  for (const update of replay(scenario).updates) view.apply(update);
  const registry = new Registry({ nowMs: () => 0, retainMs: 0 });
  const reports: WorkerReport[] = [];
  const asked: string[] = [];
  const config = {
    adminPort: 15000,
    readinessPort: 15021,
    prometheusPort: 15090,
    hbonePort: 15008,
    drainMs: 45_000,
    proxyConfig,
  } as WaypointConfig;
  const admin: TestAdmin = {
    get app() {
      return app;
    },
    view,
    recorder,
    registry,
    reports,
    asked,
    phase: "live",
    directives: "info",
    text: async (path, method = "GET") => await (await app.request(path, { method })).text(),
    json: async (path) => await (await app.request(path)).json(),
  };
  const state = (): WaypointState => ({
    config,
    node: {
      id: "waypoint~10.0.2.7~waypoint-0.demo~demo.svc.cluster.local",
      cluster: "waypoint.demo",
      metadata: { NAMESPACE: "demo", ISTIO_VERSION: "1.31.0" },
      locality: { region: "r", zone: "z", subZone: "s" },
    },
    startedMs: STARTED_MS,
    startupMs: 500,
    resources: recorder.resources,
    types: recorder.types,
    secrets: recorder.secrets,
    phase: admin.phase,
    notReady: "",
    report: () => Promise.resolve(reports),
    workers: 2,
  });
  const statistics = (): Promise<readonly Statistic[]> =>
    Promise.resolve(collectStatistics({
      state: state(),
      view,
      reports,
      dropped: { log_lines: 0 },
      nowMs: NOW_MS,
      memoryBytes: 1 << 20,
      daysToExpiry: 3.9,
    }));
  const app = createEnvoyAdmin({
    state,
    view,
    statistics,
    prometheus: async () =>
      new Response(
        [...await prometheusPieces({ registry, statistics, inclusion: inclusionOf(proxyConfig) })].join(""),
      ),
    stream(pieces) {
      return new Response([...pieces].join("")).body!;
    },
    log: {
      get directives() {
        return admin.directives;
      },
      change: (directives) => void (admin.directives = directives),
    },
    version: "ambit 0.1.0",
    memory: () => ({ rss: 3, heapTotal: 2, heapUsed: 1 }),
    nowMs: () => NOW_MS,
    drain: () => void asked.push("drain"),
    stop: () => void asked.push("stop"),
    failHealth: (failing) => void asked.push(failing ? "fail" : "ok"),
  });
  return admin;
}
