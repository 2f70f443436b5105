/** A program of the control plane in the sandbox: started in one place's network, its words in a file, ended by its pid. */
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import process from "node:process";
import { onlyChild, type Place, type Sandbox } from "../../e2e/support/sandbox.ts";
import { pause, within } from "../../e2e/support/wait.ts";

export interface ProgramOptions {
  readonly name: string;
  readonly command: readonly string[];
  readonly place: Place;
  readonly workingDirectory: string;
  /** Everything it prints is appended here. */
  readonly logPath: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Between two looks at whether a program is ready. */
const POLL_MS = 50;
const LAST_LINES = 15;

export class Program {
  readonly name: string;
  readonly logPath: string;
  /** As the test process sees it. */
  readonly pid: number;
  readonly #exited: Promise<void>;
  #over = false;

  private constructor(exited: Promise<void>, pid: number, { name, logPath }: ProgramOptions) {
    this.name = name;
    this.logPath = logPath;
    this.pid = pid;
    this.#exited = exited.then(() => {
      this.#over = true;
    });
  }

  static async start(sandbox: Sandbox, options: ProgramOptions): Promise<Program> {
    const [file = "", ...args] = sandbox.command(options.command, options.place, options.workingDirectory);
    const log = openSync(options.logPath, "a");
    const child = spawn(file, args, { stdio: ["ignore", log, log], env: { ...process.env, ...options.env } });
    closeSync(log);
    // It may end while its child is looked for.
    const exited = new Promise<void>((resolve) => child.on("exit", () => resolve()));
    return new Program(exited, await onlyChild(child.pid!), options);
  }

  /** The text of its log so far. */
  get log(): string {
    return readFileSync(this.logPath, "utf8");
  }

  get running(): boolean {
    return !this.#over;
  }

  /** Repeats `probe` until it answers true. Rejects with the end of the log when it does not in time, or the program ends. */
  async ready(probe: () => Promise<boolean>, timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!await probe().catch(() => false)) {
      const why = this.#over
        ? "ended"
        : performance.now() > deadline
        ? `is not ready after ${timeoutMs} ms`
        : undefined;
      if (why !== undefined) {
        throw new Error(`${this.name} ${why}; it said:\n${this.log.split("\n").slice(-LAST_LINES).join("\n")}`);
      }
      await pause(POLL_MS);
    }
  }

  /** Sends a signal and waits for the end. */
  async end(signal: "SIGTERM" | "SIGKILL" = "SIGKILL"): Promise<void> {
    if (!this.#over) process.kill(this.pid, signal);
    await within(20_000, `the end of ${this.name}`, (resolve) => void this.#exited.then(() => resolve()));
  }
}
