/**
 * The agent's administration, on localhost and on a socket in the run directory: the log levels as `istioctl admin log` and
 * Istio's control page ask for them (the topic "scope" of ctrlz), and every pod of the node (`/debug/pods`).
 */
import type { Log } from "../../telemetry/log.ts";
import { type Call, type Handler, json, type Reply } from "./http_server.ts";
import type { AgentReport } from "./status.ts";

export interface ControlOptions {
  readonly log: Log;
  readonly report: () => AgentReport;
  /** `ambit version`. */
  readonly version: string;
}

/** The scopes there are, as the filter's targets. */
const SCOPES: Readonly<Record<string, string>> = {
  "cni-agent": "CNI agent",
  "cni-plugin": "CNI plugin",
  default: "Everything else, and scopes without a level of their own",
  kube: "Kubernetes client",
};

const LEVELS = ["none", "error", "warn", "info", "debug"] as const;
type IstioLevel = typeof LEVELS[number];

export function controlHandler(options: ControlOptions): Handler {
  return (call) => {
    const path = call.path.length > 1 ? call.path.replace(/\/+$/, "") : call.path;
    if (path === "/scopej" || path.startsWith("/scopej/")) {
      return scopes(options.log, path.slice("/scopej/".length), call);
    }
    switch (path) {
      case "/debug/pods":
        return json(options.report());
      case "/versionj":
      case "/versionz":
        return json({ version: options.version });
      case "/":
      case "":
        return { status: 200, body: "/debug/pods\n/scopej/\n/versionj/\n" };
      default:
        return { status: 404 };
    }
  };
}

function scopes(log: Log, name: string, { method, body }: Call): Reply {
  if (name === "" && method === "GET") return json(Object.keys(SCOPES).sort().map((scope) => scopeInfo(log, scope)));
  if (!Object.hasOwn(SCOPES, name)) return { status: 400, body: `unknown scope name: ${name}\n` };
  if (method === "GET") return json(scopeInfo(log, name));
  if (method !== "PUT") return { status: 405 };
  let level: unknown;
  try {
    level = (JSON.parse(body) as { output_level?: unknown } | null)?.output_level;
  } catch (error) {
    return { status: 400, body: `unable to decode request: ${(error as Error).message}\n` };
  }
  // As the original: what is no level changes nothing.
  if (LEVELS.includes(level as IstioLevel)) {
    const word = level === "none" ? "off" : String(level);
    log.change(name === "default" ? word : `${name}=${word}`);
  }
  return { status: 202 };
}

function scopeInfo(log: Log, name: string) {
  const level = LEVELS.findLast((candidate) => candidate !== "none" && log.enabledFor(candidate, name)) ?? "none";
  return {
    name,
    description: SCOPES[name],
    output_level: level,
    stack_trace_level: "none",
    log_callers: false,
  };
}
