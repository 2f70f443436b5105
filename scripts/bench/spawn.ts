/**
 * Child processes of the benchmark: pinned to a core, optionally inside a network namespace, ended by pid with the parent.
 *
 * `nsenter`, `setpriv` and `taskset` replace themselves by what they start, so the child's pid is the program's own.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";
import process from "node:process";

export interface SpawnOptions {
  readonly core: number;
  /** A process whose network namespace the child runs in; undefined: ours. */
  readonly netnsPid?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** Standard error (and standard output, unless it is read) is written here. */
  readonly logFile: string;
  /** Gives `stdout` as a pipe. */
  readonly readOutput?: boolean;
  /** Gives `stdin` as a pipe. */
  readonly writeInput?: boolean;
  /** On whichever core is free. */
  readonly unpinned?: boolean;
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

/** What is measured goes before whatever else the machine does. */
const NICENESS = -15;

/** Milliseconds a child has between SIGTERM and SIGKILL. */
const GRACE_MS = 2000;

/** The program and arguments that run `command` where `options` say. */
export function wrapCommand(
  command: readonly string[],
  options: Pick<SpawnOptions, "core" | "netnsPid" | "unpinned">,
): string[] {
  const namespace = options.netnsPid === undefined ? [] : ["nsenter", `--net=/proc/${options.netnsPid}/ns/net`, "--"];
  const pinned = options.unpinned === true ? command : ["taskset", "-c", String(options.core), ...command];
  return [...namespace, "setpriv", "--pdeathsig", "KILL", "--", ...pinned];
}

export function startChild(command: readonly string[], options: SpawnOptions): Child {
  const [program, ...args] = wrapCommand(command, options);
  const log = openSync(options.logFile, "a");
  const child = spawn(program, args, {
    stdio: [options.writeInput === true ? "pipe" : "ignore", options.readOutput === true ? "pipe" : log, log],
    env: { ...process.env, ...options.env },
    cwd: options.cwd,
    // A session of its own, because the kernel weighs sessions against each other (sched(7), autogroup).
    detached: true,
  });
  closeSync(log);
  if (child.pid === undefined) throw new Error(`cannot start ${program}`);
  preferOverOthers(child.pid);
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

/** Where this is not allowed, or a kernel has no autogroups, the measurement is as good as the machine is quiet. */
function preferOverOthers(pid: number): void {
  try {
    setPriority(pid, NICENESS);
    writeFileSync(`/proc/${pid}/autogroup`, String(NICENESS));
  } catch {
    // rounds.ts says when a pair did not get its core.
  }
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
