/** The node agent's log: where `--log_target` says, and never in the way of what it tells of. */
import { openSync } from "node:fs";
import type { CniConfig } from "../cli/config.ts";
import { writeLines } from "../platform/socket.ts";
import { createLog, createLogWriter, createWallClock, type Log, type LogWriter } from "../telemetry/mod.ts";

const STDOUT = 1;
const STDERR = 2;
/** A log that nobody reads is tried again this often. */
const BLOCKED_LOG_MS = 50;

export interface CniLog {
  readonly log: Log;
  /** Writes what waits. */
  flush(): void;
  /** Lines that were lost because nobody read them, so far. */
  dropped(): number;
}

/** @throws Error that names a file that cannot be opened. */
export function createCniLog(config: CniConfig): CniLog {
  const writers = config.logTargets.map((target): LogWriter => {
    const fd = target === "stdout" ? STDOUT : target === "stderr" ? STDERR : openLogFile(target);
    return createLogWriter({
      write: (bytes) => writeLines(fd, bytes),
      schedule: (flush, blocked) => void setTimeout(flush, blocked ? BLOCKED_LOG_MS : 1),
    });
  });
  const log = createLog({
    filter: config.log.filter,
    format: config.log.format,
    sink(line) {
      for (const writer of writers) writer.sink(line);
    },
    nowMs: createWallClock(Date.now, () => performance.now()),
  });
  return {
    log,
    flush() {
      for (const writer of writers) writer.flush();
    },
    dropped: () => writers.reduce((sum, writer) => sum + writer.dropped, 0),
  };
}

function openLogFile(path: string): number {
  try {
    return openSync(path, "a", 0o640);
  } catch (error) {
    throw new Error(`flag --log_target: cannot open ${path}: ${error instanceof Error ? error.message : error}`);
  }
}
