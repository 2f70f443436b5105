/** `/logging` in Envoy's words, over the log's own directives: `istioctl proxy-config log` reads and sets levels by it. */

/** The log as the admin port changes it. */
export interface LogControl {
  readonly directives: string;
  /** @throws Error when malformed; nothing is changed then */
  change(directives: string, settings: { readonly reset: boolean }): void;
}

const LEVELS: Readonly<Record<string, string>> = {
  off: "off",
  critical: "error",
  error: "error",
  warning: "warn",
  warn: "warn",
  info: "info",
  debug: "debug",
  trace: "trace",
};
const SHOWN: Readonly<Record<string, string>> = { warn: "warning" };

/** What of `?level=L`, `?paths=A:L,B:L` and `?A=L` is meant, as directives; undefined: nothing is to change. @throws Error that says what is wrong */
export function levelChange(query: Readonly<Record<string, string>>): string | undefined {
  const changes = Object.entries(query).flatMap(([name, value]) => {
    if (name === "level") return [levelOf(value)];
    if (name !== "paths") return [`${targetOf(name)}=${levelOf(value)}`];
    return value.split(",").filter((part) => part !== "").map((part) => {
      const colon = part.lastIndexOf(":");
      if (colon < 0) throw new Error(`${JSON.stringify(part)} is not of the form NAME:LEVEL`);
      return `${targetOf(part.slice(0, colon))}=${levelOf(part.slice(colon + 1))}`;
    });
  });
  return changes.length === 0 ? undefined : changes.join(",");
}

/** What the log has for ztunnel's tools; nothing of a waypoint logs under it. */
const ZTUNNELS = "hickory_server::server=off";

export function levelsText(directives: string): string {
  const parts = directives.split(",").filter((part) => part !== "" && part !== ZTUNNELS);
  const rows = parts.map((part) => {
    const equals = part.lastIndexOf("=");
    const name = equals < 0 ? "default" : part.slice(0, equals);
    const level = part.slice(equals + 1);
    return `  ${name}: ${SHOWN[level] ?? level}\n`;
  });
  return `active loggers:\n${rows.join("")}`;
}

function levelOf(text: string): string {
  const level = Object.hasOwn(LEVELS, text) ? LEVELS[text] : undefined;
  if (level === undefined) {
    throw new Error(`${JSON.stringify(text)} is no level: off, error, warning, info, debug, trace`);
  }
  return level;
}

function targetOf(name: string): string {
  if (!/^[\w:.-]{1,100}$/.test(name)) throw new Error(`${JSON.stringify(name)} is no name of a logger`);
  return name === "default" ? "" : name;
}
