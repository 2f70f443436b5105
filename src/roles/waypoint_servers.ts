/**
 * The HTTP servers beside a waypoint's data plane, as pilot-agent and Envoy have them (waypoint.md 1.5): 15021 for probes, 15020 for the agent's own,
 * 15090 for Envoy's metrics, and on the loopback 15000, Envoy's admin port.
 */
import { Hono } from "hono";
import { type App, type AppEnvironment, type HttpServer, isLoopback, listen } from "../admin/mod.ts";
import type { WaypointConfig } from "../cli/config.ts";
import type { Limits } from "../telemetry/mod.ts";
import type { WaypointAgent } from "../waypoint/agent/agent.ts";
import type { StopRequest } from "../waypoint/agent/stop_requests.ts";
import type { WaypointPages } from "./waypoint_pages.ts";

export interface WaypointServersOptions {
  readonly config: WaypointConfig;
  readonly agent: WaypointAgent;
  readonly pages: WaypointPages;
  readonly limits: Limits;
  readonly stop: (request: StopRequest) => void;
}

type Served = Hono<{ Bindings: AppEnvironment }>;

/** Requests under way at the end get this long. */
const CLOSE_MS = 500;
const LOCAL_ONLY = "Only requests from localhost are allowed\n";

/** Binds all; rejects when an address is taken. The result closes them. */
export async function startWaypointServers(options: WaypointServersOptions): Promise<{ close(): Promise<void> }> {
  const { config, limits, pages } = options;
  const wildcard = config.ipv6Enabled ? "::" : "0.0.0.0";
  const servers: HttpServer[] = [];
  const close = async () => {
    await Promise.all(servers.map((server) => server.close(CLOSE_MS)));
  };
  const open = async (host: string, port: number, app: App) => {
    servers.push(await listen(host, port, app, () => limits.reached("admin_connections", { port })));
  };
  try {
    await open(wildcard, config.readinessPort, readinessApp(options));
    await open(wildcard, config.statsPort, agentApp(options));
    await open(wildcard, config.prometheusPort, prometheusApp(options));
    await open("127.0.0.1", config.adminPort, pages.admin);
    // A machine without IPv6 on its loopback has no second admin address, which is fine.
    if (config.ipv6Enabled) await open("::1", config.adminPort, pages.admin).catch(() => {});
  } catch (cause) {
    await close();
    throw new Error(`cannot open the servers of probes and metrics: ${cause instanceof Error ? cause.message : cause}`);
  }
  return { close };
}

/** Port 15021: nothing but this. */
function readinessApp({ agent, pages }: WaypointServersOptions): Served {
  const app = emptyApp();
  app.get("/healthz/ready", (c) => {
    const { ready, reason } = agent.readiness;
    if (pages.healthFailed) return c.text("not ready: made to fail by POST /healthcheck/fail\n", 503);
    return ready ? c.body(null, 200) : c.text(`${reason}\n`, 503);
  });
  return app;
}

/** Port 15090. */
function prometheusApp({ pages }: WaypointServersOptions): Served {
  const app = emptyApp();
  app.get("/stats/prometheus", (c) => pages.metrics(c.req.raw));
  return app;
}

/** Port 15020. Stopping is for who is inside the pod: as with pilot-agent the connection must come from the loopback. */
function agentApp(options: WaypointServersOptions): Served {
  const { agent, pages, stop } = options;
  const app = readinessApp(options);
  for (const path of ["/metrics", "/stats/prometheus"]) app.all(path, (c) => pages.metrics(c.req.raw));
  app.use("/quitquitquit", localOnly);
  app.use("/drain", localOnly);
  app.use("/debug/*", localOnly);
  app.all("/quitquitquit", (c) => {
    if (c.req.method !== "POST") return c.text("Method Not Allowed\n", 405);
    stop({ reason: "POST /quitquitquit", now: true });
    return c.text("OK");
  });
  app.all("/drain", (c) => {
    if (c.req.method !== "POST") return c.text("Method Not Allowed\n", 405);
    agent.drainBeforeStop();
    return c.text("OK");
  });
  // The agent's DNS table: a waypoint's pod has none, with pilot-agent as here.
  app.get("/debug/ndsz", (c) => c.text("{}", 404));
  app.get("/debug/pprof/cmdline", (c) => c.text(pages.commandLine.join("\0")));
  return app;
}

const localOnly: Parameters<Served["use"]>[1] = async (c, next) => {
  if (!isLoopback((c.env as AppEnvironment).peer)) return c.text(LOCAL_ONLY, 403);
  await next();
};

function emptyApp(): Served {
  const app: Served = new Hono();
  app.notFound((c) => c.body(null, 404));
  app.onError((error, c) => c.text(`${error.message}\n`, 500));
  return app;
}
