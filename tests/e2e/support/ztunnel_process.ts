/** One real ztunnel in a node's namespaces: its lines, its numbers in /proc, its end. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import process from "node:process";
import { type AccessLine, parseAccessLine } from "../../../scripts/demo/access_line.ts";
import { ambitCommand } from "../../../scripts/demo/mesh_process.ts";
import { onlyChild, type Place, type Sandbox } from "./sandbox.ts";
import { within } from "./wait.ts";

export type { AccessLine };

export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

/** USER_HZ, which is 100 on every Linux that runtimes support. */
const TICKS_PER_SECOND = 100;
const PAGE_KILOBYTES = 4;

export class ZtunnelProcess {
  /** As the test process sees it. */
  readonly pid: number;
  readonly exited: Promise<Exit>;
  /** Everything it printed, both streams. */
  readonly lines: string[] = [];
  readonly #node: string;
  #over = false;
  #waiting: (() => void)[] = [];

  private constructor(exited: Promise<Exit>, pid: number, node: string) {
    this.pid = pid;
    this.#node = node;
    this.exited = exited;
    void this.exited.then(() => {
      this.#over = true;
      this.#wake();
    });
  }

  static async start(
    sandbox: Sandbox,
    node: string,
    env: Readonly<Record<string, string>>,
    ambit: readonly string[] = ambitCommand(["ztunnel"]),
    workingDirectory?: string,
    place: Place = { node },
  ): Promise<ZtunnelProcess> {
    // Inside the sandbox the working directory is another one.
    const [program = "", ...words] = ambit;
    const [file = "", ...args] = sandbox.command([resolve(program), ...words], place, workingDirectory);
    const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
    const early: Uint8Array[] = [];
    const keep = (chunk: Uint8Array) => void early.push(chunk);
    for (const stream of [child.stdout, child.stderr]) stream.on("data", keep);
    // It may end while its child is looked for.
    const exited = new Promise<Exit>((resolve) => child.on("exit", (code, signal) => resolve({ code, signal })));
    const ztunnel = new ZtunnelProcess(exited, await onlyChild(child.pid!), node);
    for (const stream of [child.stdout, child.stderr]) {
      stream.off("data", keep);
      ztunnel.#follow(stream);
    }
    for (const chunk of early) {
      ztunnel.#print(new TextDecoder().decode(chunk).split("\n").filter((line) => line !== ""));
    }
    return ztunnel;
  }

  get running(): boolean {
    return !this.#over;
  }

  /** A mark for `line` and `access`: what is printed from now on. */
  get mark(): number {
    return this.lines.length;
  }

  /** A line after the mark that `test` likes. */
  async line(test: (line: string) => boolean, from = 0, timeoutMs = 15_000): Promise<string> {
    let found: string | undefined;
    const awaited = within(timeoutMs, `a line of the ztunnel of ${this.#node}`, (resolve) => {
      const check = () => {
        found = this.lines.slice(from).find(test);
        if (found !== undefined || this.#over) resolve();
        else this.#waiting.push(check);
      };
      check();
    });
    await awaited.catch((error) => {
      throw new Error(`${error.message}; it said:\n${this.lines.slice(from).slice(-12).join("\n")}`);
    });
    if (found === undefined) throw new Error(`the ztunnel of ${this.#node} ended: ${this.lines.slice(-12).join("\n")}`);
    return found;
  }

  /** The access-log line after the mark that `test` likes. */
  async access(test: (line: AccessLine) => boolean, from = 0, timeoutMs?: number): Promise<AccessLine> {
    const likes = (text: string) => {
      const line = this.#parse(text);
      return line !== undefined && test(line);
    };
    return this.#parse(await this.line(likes, from, timeoutMs))!;
  }

  /** All access-log lines after the mark so far. */
  accessSince(from: number): AccessLine[] {
    return this.lines.slice(from).map((text) => this.#parse(text)).filter((line) => line !== undefined);
  }

  kill(signal: "SIGTERM" | "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGINT"): void {
    process.kill(this.pid, signal);
  }

  /** Waits for its end. */
  exit(timeoutMs = 15_000): Promise<Exit> {
    return within(timeoutMs, `the end of the ztunnel of ${this.#node}`, (resolve) => void this.exited.then(resolve));
  }

  /** Open file descriptors. */
  get descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** The descriptor that would come after `count` more, when they are given out from the lowest free one. */
  firstAbove(count: number): number {
    const used = new Set(readdirSync(`/proc/${this.pid}/fd`).map(Number));
    let number = 0;
    for (let free = 0; free < count || used.has(number); number++) if (!used.has(number)) free++;
    return number;
  }

  get residentKilobytes(): number {
    return Number(readFileSync(`/proc/${this.pid}/statm`, "utf8").split(" ")[1]) * PAGE_KILOBYTES;
  }

  /** CPU time of all its threads so far. */
  get cpuMs(): number {
    const stat = readFileSync(`/proc/${this.pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 1000 / TICKS_PER_SECOND;
  }

  #parse(text: string): AccessLine | undefined {
    return parseAccessLine(`${this.#node} | ${text}`);
  }

  #follow(stream: NonNullable<ChildProcess["stdout"]>): void {
    let rest = "";
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      this.#print(lines);
    });
  }

  #print(lines: readonly string[]): void {
    this.lines.push(...lines);
    this.#wake();
  }

  #wake(): void {
    for (const check of this.#waiting.splice(0)) check();
  }
}
