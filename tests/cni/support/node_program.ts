/** A program on a node of the lab: its words in a file, its numbers in /proc, its end. */
import { spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import process from "node:process";
import { onlyChild } from "../../e2e/support/sandbox.ts";
import { eventually, within } from "../../e2e/support/wait.ts";

export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

export interface NodeProgramOptions {
  readonly name: string;
  readonly command: readonly string[];
  readonly logPath: string;
  /** All of it; nothing of this process's own. */
  readonly env: Readonly<Record<string, string>>;
  /** How many wrappers fork before the program itself. */
  readonly forks: number;
}

/** USER_HZ, which is 100 on every Linux that runtimes support. */
const TICKS_PER_SECOND = 100;
const LAST_LINES = 25;

export class NodeProgram {
  readonly exited: Promise<Exit>;
  #over = false;

  private constructor(
    readonly name: string,
    readonly logPath: string,
    exited: NodeProgram["exited"],
    /** As the test process sees it. */
    readonly pid: number,
  ) {
    this.exited = exited;
    void exited.then(() => {
      this.#over = true;
    });
  }

  static async start({ name, command, logPath, env, forks }: NodeProgramOptions): Promise<NodeProgram> {
    const log = openSync(logPath, "a");
    const [file = "", ...args] = command;
    const child = spawn(file, args, { stdio: ["ignore", log, log], env: { ...env } });
    closeSync(log);
    // It may end while its child is looked for.
    const exited: NodeProgram["exited"] = new Promise((resolve) =>
      child.on("exit", (code, signal) => resolve({ code, signal }))
    );
    let pid = child.pid!;
    for (let fork = 0; fork < forks; fork++) pid = await onlyChild(pid);
    return new NodeProgram(name, logPath, exited, pid);
  }

  get running(): boolean {
    return !this.#over;
  }

  get log(): string {
    return readFileSync(this.logPath, "utf8");
  }

  /** A mark for `since`: what is printed from now on. */
  get mark(): number {
    return this.log.length;
  }

  since(mark: number): string {
    return this.log.slice(mark);
  }

  get lastWords(): string {
    return `${this.name} said:\n${this.log.split("\n").slice(-LAST_LINES).join("\n")}`;
  }

  /** Waits for a line after the mark. */
  async says(pattern: RegExp | string, mark = 0, timeoutMs = 15_000): Promise<string> {
    return await eventually(() => {
      const line = this.since(mark).split("\n").find((line) =>
        typeof pattern === "string" ? line.includes(pattern) : pattern.test(line)
      );
      if (line === undefined) throw new Error(`no line with ${pattern}; ${this.lastWords}`);
      return line;
    }, timeoutMs);
  }

  kill(signal: "SIGTERM" | "SIGKILL" | "SIGSTOP" | "SIGCONT"): void {
    if (!this.#over) process.kill(this.pid, signal);
  }

  async end(signal: "SIGTERM" | "SIGKILL" = "SIGKILL", timeoutMs = 20_000): Promise<Exit> {
    if (!this.#over) process.kill(this.pid, signal);
    return await this.exit(timeoutMs);
  }

  /** Waits for its end. */
  async exit(timeoutMs = 20_000): Promise<Exit> {
    return await within<Exit>(timeoutMs, `the end of ${this.name}`, (resolve) => void this.exited.then(resolve));
  }

  /** How many descriptors it has open. */
  get descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** Whether it holds a network namespace open; the name of such a descriptor depends on how it was opened. */
  holds(inode: number): boolean {
    return readdirSync(`/proc/${this.pid}/fd`).some((fd) => {
      try {
        return statSync(`/proc/${this.pid}/fd/${fd}`).ino === inode;
      } catch {
        // Closed meanwhile.
        return false;
      }
    });
  }

  get residentKilobytes(): number {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))?.[1] ?? 0);
  }

  /** CPU time of all its threads and of the children it has waited for. */
  get cpuMs(): number {
    const stat = readFileSync(`/proc/${this.pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at]), 0) * 1000 / TICKS_PER_SECOND;
  }
}
