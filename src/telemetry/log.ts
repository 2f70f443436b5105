/**
 * The log: filters by target and level, formats, and hands each line to an injected sink. Owns no
 * file and no clock. The filter can be changed while it runs.
 */
import { LEVEL_RANK, LogFilter } from "./log_filter.ts";
import type { Level } from "./log_filter.ts";
import { formatJson, formatPlain, formatTime } from "./log_line.ts";
import type { Fields } from "./log_line.ts";

export type { Level } from "./log_filter.ts";
export type { Bare, Fields, FieldValue } from "./log_line.ts";
export { bare } from "./log_line.ts";

export type LogFormat = "plain" | "json";

/** What most code gets to see of the log. */
export interface Logger {
  /** Whether any target logs this level: a cheap check before building fields. */
  enabled(level: Level): boolean;
  log(level: Level, target: string, message: string, fields?: Fields): void;
}

/** The log itself, for who sets it up and for the admin endpoint. */
export interface Log extends Logger {
  readonly format: LogFormat;
  /** Whether exactly this target logs this level. */
  enabledFor(level: Level, target: string): boolean;
  /** Writes a line that is formatted already, with its newline. */
  writeLine(line: string): void;
  /** The time stamp of a line written now. */
  timestamp(): string;
  /** The directives in force. */
  readonly directives: string;
  /**
   * Adds directives, or starts from the initial ones first.
   * @throws Error completing "…: must be …", and changes nothing.
   */
  change(directives: string, settings?: { readonly reset?: boolean }): void;
  /** Puts in force exactly the directives another log showed; for keeping workers in step. */
  adopt(directives: string): void;
}

export interface LogSettings {
  /** `RUST_LOG`'s form; "" is `info`. */
  readonly filter: string;
  readonly format: LogFormat;
  /** Takes one whole line with its newline. */
  readonly sink: (line: string) => void;
  /** Milliseconds since the epoch; fractions count. */
  readonly nowMs: () => number;
}

/** @throws Error when the filter's text is malformed. */
export function createLog(settings: LogSettings): Log {
  const initial = LogFilter.parse(settings.filter === "" ? "info" : settings.filter);
  const { sink, nowMs } = settings;
  const format = settings.format === "json" ? formatJson : formatPlain;
  let filter = initial;
  return {
    format: settings.format,
    enabled: (level) => LEVEL_RANK[level] <= filter.maxRank,
    enabledFor: (level, target) => LEVEL_RANK[level] <= filter.rankOf(target),
    log(level, target, message, fields) {
      if (LEVEL_RANK[level] > filter.rankOf(target)) return;
      sink(format(formatTime(nowMs()), level, target, message, fields));
    },
    writeLine: (line) => sink(line),
    timestamp: () => formatTime(nowMs()),
    get directives() {
      return filter.text;
    },
    change(directives, { reset = false } = {}) {
      const base = reset ? initial : filter;
      filter = directives === "" ? base : base.with(directives);
    },
    adopt(directives) {
      filter = LogFilter.parse(directives);
    },
  };
}

/**
 * A wall clock with microseconds: the monotonic clock on top of the epoch, set right again
 * whenever it differs from the wall clock by more than its resolution (a stepped or slewed clock).
 */
export function createWallClock(wallMs: () => number, monotonicMs: () => number): () => number {
  let offset = wallMs() - monotonicMs();
  return () => {
    const wall = wallMs();
    const now = offset + monotonicMs();
    if (Math.abs(now - wall) <= 2) return now;
    offset += wall - now;
    return wall;
  };
}
