/** The HTTP servers beside a waypoint's data plane, as pilot-agent and Envoy have them (waypoint.md 1.5): 15021 for probes, 15020 for the agent's own. */
import { Hono } from "hono";
import { type App, type AppEnvironment, createMetricsApp, type HttpServer, isLoopback, listen } from "../admin/mod.ts";
import type { WaypointConfig } from "../cli/config.ts";
import { type Limits, type Log, openMetricsPieces, type Registry } from "../telemetry/mod.ts";
import type { WaypointAgent } from "../waypoint/agent/agent.ts";
import type { StopRequest } from "../waypoint/agent/stop_requests.ts";

export interface WaypointServersOptions {
  readonly config: WaypointConfig;
  readonly agent: WaypointAgent;
  readonly registry: Registry;
  readonly log: Log;
  readonly limits: Limits;
  readonly stop: (request: StopRequest) => void;
}

type Served = Hono<{ Bindings: AppEnvironment }>;

/** Requests under way at the end get this long. */
const CLOSE_MS = 500;

/** Binds all; rejects when an address is taken. The result closes them. */
export async function startWaypointServers(options: WaypointServersOptions): Promise<{ close(): Promise<void> }> {
  const { config, limits } = options;
  const wildcard = config.ipv6Enabled ? "::" : "0.0.0.0";
  const servers: HttpServer[] = [];
  const close = async () => {
    await Promise.all(servers.map((server) => server.close(CLOSE_MS)));
  };
  const open = async (port: number, app: App) => {
    servers.push(await listen(wildcard, port, app, () => limits.reached("admin_connections", { port })));
  };
  try {
    await open(config.readinessPort, readinessApp(options));
    await open(config.statsPort, agentApp(options));
  } catch (cause) {
    await close();
    throw new Error(`cannot open the servers of probes and metrics: ${cause instanceof Error ? cause.message : cause}`);
  }
  return { close };
}

/** Port 15021: nothing but this. */
function readinessApp({ agent }: WaypointServersOptions): Served {
  const app = emptyApp();
  app.get("/healthz/ready", (c) => {
    const { ready, reason } = agent.readiness;
    return ready ? c.body(null, 200) : c.text(`${reason}\n`, 503);
  });
  return app;
}

/** Port 15020. Stopping is for who is inside the pod: as with pilot-agent the connection must come from the loopback. */
function agentApp(options: WaypointServersOptions): Served {
  const { agent, registry, stop } = options;
  const app = readinessApp(options);
  const metrics = createMetricsApp({ render: () => Promise.resolve(openMetricsPieces(registry)) });
  app.get("/metrics", (c) => metrics.fetch(c.req.raw));
  app.get("/stats/prometheus", (c) => metrics.fetch(c.req.raw));
  app.post("/quitquitquit", (c) => {
    if (!isLoopback(c.env.peer)) return c.text("Only requests from localhost are allowed\n", 403);
    stop({ reason: "POST /quitquitquit", now: true });
    return c.text("OK\n");
  });
  app.post("/drain", (c) => {
    if (!isLoopback(c.env.peer)) return c.text("Only requests from localhost are allowed\n", 403);
    agent.announceDrain();
    return c.text("OK\n");
  });
  return app;
}

function emptyApp(): Served {
  const app: Served = new Hono();
  app.notFound((c) => c.body(null, 404));
  app.onError((error, c) => c.text(`${error.message}\n`, 500));
  return app;
}
