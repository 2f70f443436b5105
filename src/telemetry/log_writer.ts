/**
 * Between the log and its file descriptor: lines are joined and written in batches, once per turn.
 * Sans-io. Holds at most `MAX_BUFFERED_BYTES`; when the reader of the log stands still, whole new
 * lines are dropped and counted rather than traffic held up or memory used.
 */

/** A batch is written as soon as it has this size, without waiting for the end of the turn. */
const BATCH_BYTES = 16 * 1024;
/** About 10,000 lines, what Istio's ztunnel buffers. */
const MAX_BUFFERED_BYTES = 2 * 1024 * 1024;

export interface LogWriterSettings {
  /** Writes and gives how many bytes were taken; 0 when the descriptor would block. May throw: the batch is lost. */
  readonly write: (bytes: Uint8Array) => number;
  /** Called when lines wait that nothing will flush yet; must lead to `flush`. `blocked`: the descriptor took nothing, give it time. */
  readonly schedule: (flush: () => void, blocked: boolean) => void;
}

export interface LogWriter {
  readonly sink: (line: string) => void;
  /** Writes what waits, as far as the descriptor takes it. */
  flush(): void;
  /** Lines dropped so far, for a metric. */
  readonly dropped: number;
}

export function createLogWriter(settings: LogWriterSettings): LogWriter {
  const encoder = new TextEncoder();
  let lines = "";
  let rest: Uint8Array | undefined;
  let scheduled = false;
  let dropped = 0;
  let unreported = 0;

  const runScheduled = () => {
    scheduled = false;
    flush();
  };

  function flush(): void {
    while (true) {
      if (rest === undefined) {
        if (lines === "") return;
        rest = encoder.encode(lines);
        lines = "";
      }
      let taken: number;
      try {
        taken = settings.write(rest);
      } catch {
        // Nowhere is left to report to: the log itself is gone.
        taken = rest.length;
      }
      if (taken >= rest.length) {
        rest = undefined;
        continue;
      }
      rest = rest.subarray(taken);
      if (taken === 0) return plan(true);
    }
  }

  function plan(blocked: boolean): void {
    if (scheduled) return;
    scheduled = true;
    settings.schedule(runScheduled, blocked);
  }

  function sink(line: string): void {
    const waiting = (rest?.length ?? 0) + lines.length;
    if (waiting + line.length > MAX_BUFFERED_BYTES) {
      dropped++;
      unreported++;
      return;
    }
    if (unreported > 0) {
      lines += `... ${unreported} log lines dropped: the log is not read fast enough\n`;
      unreported = 0;
    }
    lines += line;
    if (lines.length >= BATCH_BYTES && rest === undefined) flush();
    else plan(false);
  }

  return {
    sink,
    flush,
    get dropped() {
      return dropped;
    },
  };
}
