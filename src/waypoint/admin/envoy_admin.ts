/**
 * Envoy's admin port, 15000, on the loopback, which is its only protection (waypoint.md 6.6): what `istioctl proxy-config`, `proxy-status`, `bug-report`
 * and dashboards ask for, in the shapes that they read.
 */
import { type Context, Hono } from "hono";
import type { WaypointState } from "../agent/state.ts";
import { certificatesJson } from "./certificates_page.ts";
import { clustersJson, clustersText } from "./clusters_page.ts";
import type { ConfigView } from "./config_view.ts";
import { levelChange, levelsText, type LogControl } from "./log_levels.ts";
import { listenersJson, listenersText, memoryJson, serverInfo, stateName } from "./pages.ts";
import type { Statistic } from "./statistics.ts";
import { type NameTest, nameTest, selectStatistics, statsJson, statsText } from "./stats_text.ts";

export interface EnvoyAdminOptions {
  readonly state: () => WaypointState;
  readonly view: ConfigView;
  readonly statistics: () => Promise<readonly Statistic[]>;
  /** `/stats/prometheus`, as on the other ports. */
  readonly prometheus: (request: Request) => Response | Promise<Response>;
  /** Sends pieces as they are read, so that nothing else waits for a large dump. */
  readonly stream: (pieces: Iterable<string>) => ReadableStream<Uint8Array>;
  readonly log: LogControl;
  readonly version: string;
  readonly memory: () => { readonly rss: number; readonly heapTotal: number; readonly heapUsed: number };
  readonly nowMs: () => number;
  readonly drain: () => void;
  readonly stop: () => void;
  /** Readiness fails until it is taken back. */
  readonly failHealth: (failing: boolean) => void;
}

const JSON_TYPE = "application/json";
const TEXT_TYPE = "text/plain; charset=utf-8";

/** Envoy's pages that change something, and take POST alone. */
const CHANGES = ["/quitquitquit", "/drain_listeners", "/healthcheck/fail", "/healthcheck/ok", "/logging"];

export function createEnvoyAdmin(options: EnvoyAdminOptions): Hono {
  const { state, view, stream } = options;
  const app = new Hono();
  app.notFound((c) => c.text("invalid path. admin commands are:\n" + helpText(), 404));
  app.onError((error, c) => c.text(`${error.message}\n`, 500));
  // Not every runtime says by itself that a text is one.
  app.use(async (c, next) => {
    await next();
    if (!c.res.headers.has("content-type")) c.res.headers.set("content-type", TEXT_TYPE);
  });
  for (const path of CHANGES) {
    app.on(
      ["GET", "HEAD", "PUT", "DELETE"],
      path,
      (c) => c.text(`Method ${c.req.method} not allowed, POST required.`, 405),
    );
  }
  const sent = (pieces: Iterable<string>, type: string) =>
    new Response(stream(pieces), { headers: { "content-type": type } });
  const json = (c: Context, text: string) => c.body(text, 200, { "content-type": JSON_TYPE });

  app.get("/", (c) => c.text(helpText()));
  app.get("/help", (c) => c.text(helpText()));
  app.get("/config_dump", async (c) => {
    const nameFilter = regexp(c.req.query("name_regex"));
    if (nameFilter === null) return c.text("name_regex is no regular expression\n", 400);
    // All of the generated code: loaded by who needs it.
    const { dumpConfig } = await import("../config/dump.ts");
    const pieces = dumpConfig(state(), {
      includeEndpoints: c.req.query("include_eds") !== undefined,
      mask: (c.req.query("mask") ?? "").split(",").filter((path) => path !== ""),
      resource: c.req.query("resource") ?? "",
      nameFilter,
    });
    return sent(pieces, JSON_TYPE);
  });
  app.get("/clusters", async (c) => {
    const reports = await state().report();
    return c.req.query("format") === "json"
      ? sent(clustersJson(view, reports), JSON_TYPE)
      : sent(clustersText(view, reports), TEXT_TYPE);
  });
  app.get("/stats", async (c) => {
    if (c.req.query("format") === "prometheus") return await options.prometheus(c.req.raw);
    const filter = regexp(c.req.query("filter"));
    if (filter === null) return c.text("Invalid re2 regex\n", 400);
    const selected = selectStatistics(await options.statistics(), {
      filter,
      usedOnly: c.req.query("usedonly") !== undefined,
    });
    return c.req.query("format") === "json" ? json(c, statsJson(selected)) : c.text(statsText(selected));
  });
  app.get("/stats/prometheus", (c) => options.prometheus(c.req.raw));
  app.get(
    "/listeners",
    (c) => c.req.query("format") === "json" ? json(c, listenersJson(state())) : c.text(listenersText(state())),
  );
  app.get("/certs", (c) => json(c, certificatesJson(state().secrets.values(), options.nowMs())));
  app.get(
    "/server_info",
    (c) => json(c, serverInfo(state(), options.version, options.log.directives, options.nowMs())),
  );
  app.get("/ready", (c) => c.text(`${stateName(state())}\n`, state().phase === "live" ? 200 : 503));
  app.get("/memory", (c) => json(c, memoryJson(options.memory())));
  app.get("/runtime", (c) => json(c, JSON.stringify({ layers: [], entries: {} })));
  addChanges(app, options);
  return app;
}

function addChanges(app: Hono, { log, drain, stop, failHealth }: EnvoyAdminOptions): void {
  app.post("/logging", (c) => {
    let change: string | undefined;
    try {
      change = levelChange(c.req.query());
      // On top of what is in force, as in Envoy.
      if (change !== undefined) log.change(joined(log.directives, change), { reset: false });
    } catch (error) {
      return c.text(`error: ${(error as Error).message}\n`, 400);
    }
    return c.text(levelsText(log.directives));
  });
  app.post("/drain_listeners", (c) => {
    drain();
    return c.text("OK\n");
  });
  app.post("/quitquitquit", (c) => {
    stop();
    return c.text("OK\n");
  });
  app.post("/healthcheck/fail", (c) => {
    failHealth(true);
    return c.text("OK\n");
  });
  app.post("/healthcheck/ok", (c) => {
    failHealth(false);
    return c.text("OK\n");
  });
}

/** A level for everything replaces all; a level for one target is added to the others. */
export function joined(directives: string, change: string): string {
  if (!change.includes("=")) return change;
  const targets = new Set(change.split(",").map((part) => part.slice(0, part.lastIndexOf("="))));
  const kept = directives.split(",").filter((part) =>
    part !== "" && !targets.has(part.slice(0, Math.max(0, part.lastIndexOf("="))))
  );
  return [...kept, ...change.split(",").map((part) => part.replace(/^=/, ""))].join(",");
}

/** Undefined: none was asked for; null: what was asked for is none. */
function regexp(text: string | undefined): NameTest | undefined | null {
  if (text === undefined || text === "") return undefined;
  try {
    return nameTest(text);
  } catch {
    return null;
  }
}

const PAGES = [
  ["/certs", "print certs on machine"],
  ["/clusters", "upstream cluster status: ?format=json"],
  ["/config_dump", "dump current Envoy configs: ?include_eds, ?mask=, ?resource=, ?name_regex="],
  ["/drain_listeners (POST)", "drain listeners"],
  ["/healthcheck/fail (POST)", "cause the server to fail health checks"],
  ["/healthcheck/ok (POST)", "cause the server to pass health checks"],
  ["/listeners", "print listener info: ?format=json"],
  ["/logging (POST)", "query/change logging levels: ?level=, ?paths="],
  ["/memory", "print current allocation/heap usage"],
  ["/quitquitquit (POST)", "exit the server"],
  ["/ready", "print server state, return 200 if LIVE, otherwise return 503"],
  ["/runtime", "print runtime values"],
  ["/server_info", "print server version/status information"],
  ["/stats", "print server stats: ?filter=, ?usedonly, ?format=json"],
  ["/stats/prometheus", "print server stats in prometheus format"],
] as const;

function helpText(): string {
  return PAGES.map(([path, help]) => `  ${path}: ${help}\n`).join("");
}
