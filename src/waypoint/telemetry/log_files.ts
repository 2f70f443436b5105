/** Where file access logs go. Lines wait for the end of the turn; a reader that stands still loses lines, which are counted, and holds up nobody. */
import { closeSync, constants, openSync } from "node:fs";
import { createLogWriter, type LogWriter, type LogWriterSettings } from "../../telemetry/log_writer.ts";
import { writeLines } from "../../platform/socket.ts";

export interface LogFilesOptions {
  /** The process's own log goes there too: one writer, so that lines stay whole. */
  readonly stdout: (line: string) => void;
  /** One for each file: what it schedules is one flush at a time. */
  readonly scheduler: () => LogWriterSettings["schedule"];
  readonly failed: (path: string, reason: string) => void;
}

const STDERR = 2;

export class LogFiles {
  readonly #options: LogFilesOptions;
  readonly #open = new Map<string, { readonly fd: number; readonly writer: LogWriter }>();

  constructor(options: LogFilesOptions) {
    this.#options = options;
  }

  /** One writer for each path, whoever asks. A file that cannot be opened takes nothing, and is tried again by the next configuration. */
  readonly open = (path: string): (line: string) => void => {
    if (path === "/dev/stdout" || path === "/proc/self/fd/1") return this.#options.stdout;
    const known = this.#open.get(path);
    if (known !== undefined) return known.writer.sink;
    let fd: number;
    try {
      fd = path === "/dev/stderr"
        ? STDERR
        : openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK, 0o644);
    } catch (error) {
      this.#options.failed(path, (error as Error).message);
      return () => {};
    }
    const writer = createLogWriter({
      write: (bytes) => writeLines(fd, bytes),
      schedule: this.#options.scheduler(),
    });
    this.#open.set(path, { fd, writer });
    return writer.sink;
  };

  /** Lines dropped so far, of all files. */
  get dropped(): number {
    let sum = 0;
    for (const { writer } of this.#open.values()) sum += writer.dropped;
    return sum;
  }

  flush(): void {
    for (const { writer } of this.#open.values()) writer.flush();
  }

  close(): void {
    for (const { fd, writer } of this.#open.values()) {
      writer.flush();
      if (fd !== STDERR) closeSync(fd);
    }
    this.#open.clear();
  }
}
