/** Admin, port 15000 on the loopback, which is its only protection: dashboard, config dump, log level, stop, and debug.ts. */
import type { Hono } from "hono";
import { createApp } from "./app.ts";
import { addDebugRoutes, type DebugControl } from "./debug.ts";
import { jsonPieces } from "./json_stream.ts";
import { ADMIN_SLICES, inSlices, streamText } from "./slices.ts";

/** The log as the admin endpoint changes it. */
export interface LogControl {
  readonly directives: string;
  /** @throws Error when malformed; nothing is changed then. */
  change(directives: string, settings: { readonly reset: boolean }): void;
}

export interface AdminControl extends DebugControl {
  /** The whole dump, sorted and in Istio's vocabulary; large lists in it may be lazy (json_stream.ts). */
  configDump(): unknown | Promise<unknown>;
  readonly log: LogControl;
  /** Begins a graceful stop. */
  shutdown(): void;
}

const LOGGING_HELP = `usage: POST /logging                                    show the level in force
usage: POST /logging?level=LEVEL                        set the level of everything
usage: POST /logging?level=TARGET=LEVEL,TARGET=LEVEL    set the level of targets; TARGET:LEVEL is the same
usage: POST /logging?reset                              go back to the level the process started with
with reset and level, the level is set on top of the one the process started with
LEVEL is off, error, warn, info, debug or trace
`;

const PAGES = [
  ["config_dump", "GET", "mesh resources, configuration, certificates and connections, as JSON"],
  ["logging", "POST", "log level: show it, change it"],
  ["quitquitquit", "POST", "stop gracefully"],
  [
    "debug/explain",
    "GET",
    "would a connection be allowed, and which way would it go: ?from=NAMESPACE/SERVICEACCOUNT&to=IP:PORT",
  ],
  ["debug/pprof/profile", "GET", "CPU profile of every thread, for `go tool pprof`: ?seconds=10&frequency=100"],
  ["debug/pprof/heap", "GET", "heap profile: there is none"],
] as const;

export function createAdminApp(control: AdminControl): Hono {
  const app = createApp();
  app.all("/", (c) => c.html(DASHBOARD));
  app.all("/config_dump", async (c) => {
    const chunks = inSlices(jsonPieces(await control.configDump()), ADMIN_SLICES);
    return c.body(streamText(chunks), 200, { "content-type": "application/json" });
  });
  app.all("/logging", (c) => {
    if (c.req.method !== "POST") return c.text(LOGGING_HELP, 405);
    const level = c.req.query("level") ?? "";
    const reset = c.req.query("reset") !== undefined;
    if (level !== "" || reset) {
      try {
        control.log.change(level, { reset });
      } catch {
        return c.text(`Invalid level provided: ${level}\n${LOGGING_HELP}`, 400);
      }
    }
    return c.text(`current log level is ${control.log.directives}\n`);
  });
  app.all("/quitquitquit", (c) => {
    if (c.req.method !== "POST") return c.text("stopping needs a POST\n", 405);
    control.shutdown();
    return c.text("shutdown now\n");
  });
  addDebugRoutes(app, control);
  return app;
}

const DASHBOARD = `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>ambit ztunnel</title></head>
<body>
<h1>ambit ztunnel</h1>
<table>
${
  PAGES.map(([path, method, help]) =>
    method === "GET"
      ? `<tr><td><a href="${path}">${path}</a></td><td>${help}</td></tr>`
      : `<tr><td><form method="post" action="${path}"><button>${path}</button></form></td><td>${help}</td></tr>`
  ).join("\n")
}
</table>
</body>
</html>
`;
