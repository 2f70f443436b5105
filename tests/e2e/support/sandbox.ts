/** The test process's end of a sandbox: namespaces for nodes and pods, and commands that run inside them. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { openNamespace } from "../../../src/platform/netns.ts";
import type { HostRequest } from "./sandbox_host.ts";

const NAMESPACES = ["--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"];

export class Sandbox {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  readonly #netns: string;
  #pid = 0;

  private constructor(child: ChildProcess, netns: string) {
    this.#child = child;
    this.#netns = netns;
    this.#answers = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  /** `directory` is the run's own. */
  static async start(directory: string): Promise<Sandbox> {
    const netns = join(directory, "netns");
    await mkdir(netns, { recursive: true });
    const script = fileURLToPath(new URL("./sandbox_host.ts", import.meta.url));
    const flags = process.versions.deno === undefined ? [] : ["run", "--quiet", "--no-prompt", "--no-check", "-A"];
    const child = spawn("unshare", [...NAMESPACES, "--", process.execPath, ...flags, script, netns], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const sandbox = new Sandbox(child, netns);
    await sandbox.#answer();
    sandbox.#pid = await onlyChild(child.pid!);
    return sandbox;
  }

  async add(request: HostRequest): Promise<void> {
    this.#child.stdin!.write(`${JSON.stringify(request)}\n`);
    await this.#answer();
  }

  /** A descriptor of a node's or pod's network namespace; the caller closes it. */
  openNetns(place: Place): number {
    const fd = openNamespace(this.#path(place));
    if (fd < 0) throw new Error(`cannot open the network namespace ${JSON.stringify(place)}: error ${-fd}`);
    return fd;
  }

  /** Where `place` is to this process. */
  netnsPath(place: Place): string {
    return this.#path(place);
  }

  /** Where a file of the sandbox is to this process. */
  pathInside(path: string): string {
    return `/proc/${this.#pid}/root${path}`;
  }

  /** Where `place` is to a process inside the sandbox. */
  netnsInside(place: Place): string {
    return join(this.#netns, fileOf(place));
  }

  /** Runs a command inside the sandbox, in the network of one place; its working directory is the root if none is given. */
  command(command: readonly string[], place: Place, workingDirectory?: string): readonly string[] {
    const enter = ["nsenter", `--target=${this.#pid}`, "--mount", "--pid", `--net=${this.#path(place)}`];
    return [...enter, ...(workingDirectory === undefined ? [] : [`--wd=${workingDirectory}`]), "--", ...command];
  }

  /** Ends every process inside; the kernel takes the rest away. */
  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.on("exit", resolve));
    this.#child.stdin!.end();
    await ended;
  }

  #path(place: Place): string {
    return `/proc/${this.#pid}/root${join(this.#netns, fileOf(place))}`;
  }

  async #answer(): Promise<void> {
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error("the sandbox ended; its own words are above");
    const { error } = JSON.parse(value) as { readonly error?: string };
    if (error !== undefined) throw new Error(error);
  }
}

export type Place = { readonly node: string } | { readonly pod: string; readonly namespace: string };

/** As Topology names them. */
function fileOf(place: Place): string {
  return "node" in place ? `node.${place.node}` : `pod.${place.pod}@${place.namespace}`;
}

/**
 * The process that a wrapper such as unshare or nsenter started; pids as this process sees them. The wrapper's own
 * if that is over already: what it started may end before anyone could look.
 */
export async function onlyChild(pid: number): Promise<number> {
  for (let attempt = 0; attempt < 500; attempt++) {
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(ifGone);
    if (children === undefined) return pid;
    const child = Number(children.trim().split(" ")[0]);
    if (child > 0) return child;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`process ${pid} started nothing`);
}

function ifGone(error: Error & { readonly code?: string }): undefined {
  if (error.code !== "ENOENT" && error.code !== "ESRCH") throw error;
}
