/** An `ambit local` run for a script or a test: its output line by line, commands in its pods, and its end. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type AccessLine, parseAccessLine } from "./access_line.ts";

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** `AMBIT_BINARY` is a compiled ambit to use instead of the sources. */
export function ambitCommand(args: readonly string[]): readonly string[] {
  const binary = process.env.AMBIT_BINARY;
  if (binary !== undefined && binary !== "") return [binary, ...args];
  const entry = new URL("../../mod.ts", import.meta.url).pathname;
  const flags = process.versions.deno === undefined ? [] : ["run", "--quiet", "--no-prompt", "-A"];
  return [process.execPath, ...flags, entry, ...args];
}

export interface MeshOptions {
  readonly onLine?: (line: string) => void;
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** What to put before the command, to run it as somebody else. */
  readonly prefix?: readonly string[];
}

export class MeshProcess {
  /** Every line so far, as printed: `who | line`. */
  readonly lines: string[] = [];
  readonly #child: ChildProcess;
  readonly #temporary: string;
  readonly #exited: Promise<number>;
  #hasExited = false;
  #waiting: (() => void)[] = [];

  private constructor(child: ChildProcess, temporary: string, onLine: (line: string) => void) {
    this.#child = child;
    this.#temporary = temporary;
    for (const stream of [child.stdout!, child.stderr!]) {
      let rest = "";
      stream.setEncoding("utf8");
      stream.on("data", (chunk: string) => {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          this.lines.push(line);
          onLine(line);
        }
        this.#wake();
      });
    }
    this.#exited = new Promise((resolve) => {
      child.on("error", (error) => {
        this.lines.push(error.message);
        resolve(127);
      });
      child.on("close", (code) => resolve(code ?? 137));
    });
    void this.#exited.then(() => {
      this.#hasExited = true;
      this.#wake();
    });
  }

  /** Starts it, with a directory for temporary files of its own, so that `exec` finds this run among others. */
  static async start(args: readonly string[], options: MeshOptions = {}): Promise<MeshProcess> {
    const temporary = await mkdtemp(join(tmpdir(), "mesh-"));
    const [file = "", ...rest] = [...options.prefix ?? [], ...ambitCommand(["local", ...args])];
    const child = spawn(file, rest, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, TMPDIR: temporary, ...options.env },
    });
    return new MeshProcess(child, temporary, options.onLine ?? (() => {}));
  }

  /** Where it and everything it starts is told to put temporary files: no other process has this in its environment. */
  get temporary(): string {
    return this.#temporary;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** What the run keeps on the disk while it is up; nothing after its end. */
  leftOvers(): Promise<string[]> {
    return readdir(this.#temporary);
  }

  /** Waits for a line after the first `from` that `test` likes. Rejects when none comes in time or the mesh ends. */
  async line(test: (line: string) => boolean, from = 0, timeoutMs = 30_000): Promise<string> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const found = this.lines.slice(from).find(test);
      if (found !== undefined) return found;
      const left = deadline - performance.now();
      if (this.#hasExited || left <= 0) {
        const why = this.#hasExited ? "the mesh ended" : `nothing in ${timeoutMs} ms`;
        throw new Error(`${why} before the awaited line; the last lines:\n${this.lines.slice(-15).join("\n")}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  up(from = 0): Promise<string> {
    return this.line((line) => line.startsWith("The mesh of ") && line.includes(" is up "), from);
  }

  /** Waits for the line of the access log of a node that `test` likes. */
  async access(node: string, test: (line: AccessLine) => boolean, from = 0, timeoutMs = 10_000): Promise<AccessLine> {
    const likes = (line: string) => {
      const access = parseAccessLine(line);
      return access !== undefined && access.node === node && test(access);
    };
    return parseAccessLine(await this.line(likes, from, timeoutMs))!;
  }

  /** Runs a command in a pod or node, as a person would. */
  exec(where: string, command: readonly string[]): Promise<CommandResult> {
    const [file = "", ...args] = ambitCommand(["local", "exec", where, "--", ...command]);
    return new Promise((resolve, reject) => {
      const child = spawn(file, args, {
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, TMPDIR: this.#temporary },
      });
      let stdout = "";
      let stderr = "";
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => stdout += chunk);
      child.stderr.setEncoding("utf8").on("data", (chunk: string) => stderr += chunk);
      child.on("error", reject);
      child.on("close", (code) => resolve({ code: code ?? 137, stdout, stderr }));
    });
  }

  /** Waits for the end. Resolves with the exit code. */
  get exited(): Promise<number> {
    return this.#exited;
  }

  /** Sends a signal and waits for the end. Resolves with the exit code. */
  end(signal: "SIGINT" | "SIGTERM" | "SIGKILL" = "SIGINT"): Promise<number> {
    // Not child.kill: on Deno that makes the exit look like a death by this signal, whatever the process does.
    if (!this.#hasExited) process.kill(this.pid, signal);
    return this.#exited;
  }

  /** Ends it if need be, and removes its temporary directory. */
  async dispose(): Promise<void> {
    if (!this.#hasExited) await this.end("SIGTERM");
    await rm(this.#temporary, { recursive: true, force: true });
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
