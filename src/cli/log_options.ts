/** Options of the log, the same in every role, and Istio's own `--log_output_level` form of the level. */
import { boolean, choice, custom } from "./options.ts";
import { parseLogDirectives } from "../telemetry/log_filter.ts";

/** `RUST_LOG`: directives as Istio's ztunnel takes them. */
export const logLevel = custom(
  { env: "RUST_LOG", flag: "log-level", flagAliases: ["rust-log"], metavar: "LEVEL|TARGET=LEVEL,..." },
  "info",
  "info",
  "What to log: off, error, warn, info, debug or trace, for all or by target; `access` is the access log.",
  (value) => {
    if (value === "") return "info";
    parseLogDirectives(value, { bareTargets: true });
    return value;
  },
);

export const logFormat = choice({ env: "LOG_FORMAT" }, ["plain", "json"], "plain", "Form of a log line.");

/** Levels of Istio's Go components in the vocabulary of the filter. */
const ISTIO_LEVELS: ReadonlyMap<string, string> = new Map([
  ["none", "off"],
  ["fatal", "error"],
  ["error", "error"],
  ["warn", "warn"],
  ["info", "info"],
  ["debug", "debug"],
]);

/**
 * Istio's `level` or `scope:level,…` as filter directives; scopes `default` and `all` mean every target.
 * @throws Error completing "…: must be …".
 */
export function parseIstioLogLevels(text: string): string {
  return text.split(",").map((part) => {
    const colon = part.lastIndexOf(":");
    const scope = colon < 0 ? "default" : part.slice(0, colon);
    const level = ISTIO_LEVELS.get(part.slice(colon + 1));
    if (level === undefined || scope === "" || /[=\s]/.test(scope)) {
      throw new Error("must be LEVEL or SCOPE:LEVEL,… with a level of none, fatal, error, warn, info or debug");
    }
    return scope === "default" || scope === "all" ? level : `${scope}=${level}`;
  }).join(",");
}

export const istioLogLevel = custom(
  { flag: "log_output_level", flagAliases: ["log-output-level"], metavar: "SCOPE:LEVEL,..." },
  "info",
  "default:info",
  "What to log, in the form of Istio's Go components.",
  parseIstioLogLevels,
);

export const logAsJson = boolean({ flag: "log_as_json", flagAliases: ["log-as-json"] }, false, "Log lines as JSON.");
