/**
 * Child processes of the benchmark: pinned to a core, optionally inside a network namespace, ended by pid with the parent.
 *
 * `nsenter`, `setpriv` and `taskset` replace themselves by what they start, so the child's pid is the program's own.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";

export interface SpawnOptions {
  readonly core: number;
  /** A process whose network namespace the child runs in; undefined: ours. */
  readonly netnsPid?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** Standard error (and standard output, unless it is read) is written here. */
  readonly logFile: string;
  /** Gives `stdout` as a pipe. */
  readonly readOutput?: boolean;
  readonly cwd?: string;
}

/** A started child. `stop` ends it and resolves when it is gone. */
export interface Child {
  readonly pid: number;
  readonly process: ChildProcess;
  readonly logFile: string;
  stop(): Promise<void>;
}

const living = new Set<Child>();

/** Milliseconds a child has between SIGTERM and SIGKILL. */
const GRACE_MS = 2000;

/** The program and arguments that run `command` where `options` say. */
export function wrapCommand(command: readonly string[], options: Pick<SpawnOptions, "core" | "netnsPid">): string[] {
  const namespace = options.netnsPid === undefined ? [] : ["nsenter", `--net=/proc/${options.netnsPid}/ns/net`, "--"];
  return [...namespace, "setpriv", "--pdeathsig", "KILL", "--", "taskset", "-c", String(options.core), ...command];
}

export function startChild(command: readonly string[], options: SpawnOptions): Child {
  const [program, ...args] = wrapCommand(command, options);
  const log = openSync(options.logFile, "a");
  const child = spawn(program, args, {
    stdio: ["ignore", options.readOutput === true ? "pipe" : log, log],
    env: { ...process.env, ...options.env },
    cwd: options.cwd,
  });
  closeSync(log);
  if (child.pid === undefined) throw new Error(`cannot start ${program}`);
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const started: Child = {
    pid: child.pid,
    process: child,
    logFile: options.logFile,
    async stop() {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), GRACE_MS);
      await exited;
      clearTimeout(timer);
    },
  };
  living.add(started);
  child.once("exit", () => living.delete(started));
  return started;
}

/** Ends every child that still runs. */
export async function stopAll(): Promise<void> {
  await Promise.all([...living].map((child) => child.stop()));
}

/** Runs a program to its end and returns its standard output; a failure is an Error with the end of its log. */
export async function runToEnd(command: readonly string[], options: SpawnOptions): Promise<string> {
  const child = startChild(command, { ...options, readOutput: true });
  let output = "";
  child.process.stdout?.setEncoding("utf8").on("data", (text: string) => output += text);
  const code = await new Promise<number | null>((resolve) => child.process.once("close", resolve));
  if (code !== 0) {
    throw new Error(`${command.slice(0, 3).join(" ")} … ended with ${code}: ${tail(options.logFile)}`);
  }
  return output;
}

/** The last lines of a log, for an error message. */
export function tail(file: string, characters = 1500): string {
  return readFileSync(file, "utf8").slice(-characters).trim();
}
