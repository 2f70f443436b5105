/**
 * Processes inside nodes and pods: started in their network namespace, their output handed on line by line, started again with
 * growing patience when they die, and ended with everything they started.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { LineReader } from "../control/local/line_reader.ts";

export interface ProcessSpec {
  /** Path of the network namespace to run in. */
  readonly netns: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Start it again whenever it ends. */
  readonly restart: boolean;
  onLine(line: string): void;
  /** It ended without having been asked to. `restartInMs` is undefined when it stays ended. */
  onExit(how: string, restartInMs: number | undefined): void;
}

export interface SupervisedProcess {
  readonly pid: number | undefined;
  /** Resolves when it has ended and will not be started again. */
  readonly ended: Promise<void>;
  /** Asks it to end; kills it and all of its process group after `graceMs`. Resolves when it is gone and the rest has been killed. */
  stop(graceMs: number): Promise<void>;
}

const BACKOFF_MS = { first: 100, max: 5_000 } as const;
/** A process that ran this long counts as healthy: the next failure starts with the first backoff again. */
const HEALTHY_MS = 10_000;
/** Longer lines are cut off the process's output, with a note. */
const MAX_LINE_BYTES = 1024 * 1024;

/** Starts it. Never throws: a command that cannot be started ends at once, and says so by `onExit`. */
export function supervise(spec: ProcessSpec): SupervisedProcess {
  let child: ChildProcess | undefined;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let stopping = false;
  let failures = 0;
  let markEnded = () => {};
  const ended = new Promise<void>((resolve) => markEnded = resolve);

  const start = () => {
    const startedAt = performance.now();
    // A process group of its own, so that stop() reaches what it starts.
    const started = spawn("nsenter", [`--net=${spec.netns}`, "--", ...spec.command], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...spec.env },
      detached: true,
    });
    child = started;
    readLines(started.stdout, spec.onLine);
    readLines(started.stderr, spec.onLine);
    let over = false;
    const end = (how: string) => {
      if (over) return;
      over = true;
      child = undefined;
      if (stopping) return markEnded();
      if (performance.now() - startedAt > HEALTHY_MS) failures = 0;
      const delay = spec.restart ? Math.min(BACKOFF_MS.max, BACKOFF_MS.first * 2 ** failures++) : undefined;
      spec.onExit(how, delay);
      if (delay === undefined) markEnded();
      else retry = setTimeout(start, delay);
    };
    started.on("error", (error) => end(error.message));
    started.on("exit", (code, signal) => end(code === null ? `killed by ${signal}` : `exit code ${code}`));
  };
  start();

  return {
    get pid() {
      return child?.pid;
    },
    ended,
    async stop(graceMs) {
      stopping = true;
      clearTimeout(retry);
      const running = child;
      if (running?.pid === undefined) return markEnded();
      signalGroup(running.pid, "SIGTERM");
      const timer = setTimeout(() => signalGroup(running.pid!, "SIGKILL"), graceMs);
      await ended;
      clearTimeout(timer);
      // What it left running in its group goes with it.
      signalGroup(running.pid, "SIGKILL");
    },
  };
}

function signalGroup(pid: number, signal: "SIGTERM" | "SIGKILL"): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // nobody left in it
  }
}

type Output = ChildProcess["stdout"];

function readLines(output: Output, onLine: (line: string) => void): void {
  if (output === null) return;
  let reader = new LineReader(MAX_LINE_BYTES);
  output.on("data", (chunk: Uint8Array) => {
    try {
      reader.push(chunk, onLine);
    } catch {
      reader = new LineReader(MAX_LINE_BYTES);
      onLine("(output that is not text, or a line that is too long, was left out)");
    }
  });
}
