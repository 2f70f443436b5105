/**
 * Where the CNI plugin leaves its log: `POST /log` on log.sock with a JSON array of texts, each a JSON line, reference cni.md 2.4.
 * They are written again with their own time under the scope cni-plugin. What is no such line is dropped.
 */
import { LOG_PATH } from "../plugin_event.ts";
import type { Level, Log } from "../../telemetry/log.ts";
import { type Fields, formatJson, formatPlain, formatTime } from "../../telemetry/log_line.ts";
import type { Handler } from "./http_server.ts";

const SCOPE = "cni-plugin";
const LEVELS: ReadonlyMap<unknown, Level> = new Map([
  ["debug", "debug"],
  ["info", "info"],
  ["warn", "warn"],
  ["warning", "warn"],
  ["error", "error"],
  ["fatal", "error"],
]);
/** One ADD makes a handful. */
const MAX_LINES = 1_000;
const MAX_FIELDS = 32;

export interface PluginLine {
  readonly level: Level;
  readonly timeMs: number;
  readonly message: string;
  readonly fields: Fields;
}

export function logHandler(log: Log): Handler {
  return ({ path, body }) => {
    if (path !== LOG_PATH) return { status: 404 };
    const lines = parseLogBody(body);
    if (lines === undefined) return { status: 400, body: "the body is no JSON array of lines" };
    const format = log.format === "json" ? formatJson : formatPlain;
    for (const { level, timeMs, message, fields } of lines) {
      if (log.enabledFor(level, SCOPE)) log.writeLine(format(formatTime(timeMs), level, SCOPE, message, fields));
    }
    return { status: 200 };
  };
}

/** The lines that can be read; undefined when the body is no array. */
export function parseLogBody(body: string): readonly PluginLine[] | undefined {
  let list: unknown;
  try {
    list = JSON.parse(body);
  } catch {
    return undefined;
  }
  if (!Array.isArray(list)) return undefined;
  return list.slice(0, MAX_LINES).map(parseLine).filter((line) => line !== undefined);
}

function parseLine(text: unknown): PluginLine | undefined {
  let line: unknown;
  try {
    line = typeof text === "string" ? JSON.parse(text) : undefined;
  } catch {
    return undefined;
  }
  if (typeof line !== "object" || line === null || Array.isArray(line)) return undefined;
  const { level, time, msg, scope: _, ...rest } = line as Readonly<Record<string, unknown>>;
  const known = LEVELS.get(level);
  const timeMs = typeof time === "string" ? Date.parse(time) : NaN;
  if (known === undefined || typeof msg !== "string" || !Number.isFinite(timeMs)) return undefined;
  const fields: Record<string, string | number | boolean> = {};
  for (const [name, value] of Object.entries(rest).slice(0, MAX_FIELDS)) {
    // A name stands bare in a line.
    if (!/^[A-Za-z_][A-Za-z0-9_.-]{0,63}$/.test(name) || value === null || value === undefined) continue;
    fields[name] = typeof value === "string" || typeof value === "number" || typeof value === "boolean"
      ? value
      : JSON.stringify(value);
  }
  return { level: known, timeMs, message: msg, fields };
}
