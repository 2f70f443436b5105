/**
 * A container as a node's runtime would run it: a read-only root of its own with ambit as the image, the pod's volumes where the container wants
 * them, the user it names, no capabilities, no way to get any, its own process namespace, and no environment but what its spec says.
 */
import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { ROOT } from "../../../../scripts/support/tools.ts";
import { onlyChild, type Place, type Sandbox } from "../../../e2e/support/sandbox.ts";
import { pause, within } from "../../../e2e/support/wait.ts";
import { CONTROL_ADDRESSES } from "../../../istiod/support/addresses.ts";
import type { Build } from "../../../istiod/support/builds.ts";
import { ambitOf } from "../../../istiod/support/builds.ts";

export interface Mount {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

export interface ContainerOptions {
  readonly name: string;
  readonly build: Build;
  readonly place: Place;
  /** Ambit's, as the pod's spec has them. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly mounts: readonly Mount[];
  readonly user: number;
  readonly group: number;
  /** The run's own; root and log of the container are made in it. */
  readonly directory: string;
}

/** What the image has of the machine besides ambit itself: runtimes and libraries. */
const IMAGE_DIRECTORIES = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];
const IMAGE_FILES = [
  "/etc/passwd",
  "/etc/group",
  "/etc/hosts",
  "/etc/nsswitch.conf",
  "/etc/ld.so.cache",
  "/etc/ssl",
];
const DEVICES = ["null", "zero", "random", "urandom"];
/** Deno keeps there what it has translated; an image has it filled. */
const IMAGE_CACHE = "/deno-dir";
const IMAGE_ENV = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", `DENO_DIR=${IMAGE_CACHE}`];
const EXIT_MS = 40_000;
const LAST_LINES = 25;

export class Container {
  readonly name: string;
  readonly logPath: string;
  /** Of its first process, as the test process sees it. */
  readonly pid: number;
  readonly exited: Promise<number | string>;
  /** Just before it was told to start. */
  readonly startedMs: number;
  readonly #logStart: number;
  #over = false;

  private constructor(
    exited: Container["exited"],
    pid: number,
    name: string,
    logPath: string,
    logStart: number,
    startedMs: number,
  ) {
    this.name = name;
    this.pid = pid;
    this.logPath = logPath;
    this.#logStart = logStart;
    this.startedMs = startedMs;
    this.exited = exited;
    void exited.then(() => {
      this.#over = true;
    });
  }

  static async start(sandbox: Sandbox, options: ContainerOptions): Promise<Container> {
    const { name, build, place, directory, user, group } = options;
    const root = join(directory, "roots", name);
    mkdirSync(root, { recursive: true });
    mkdirSync(join(directory, "log"), { recursive: true });
    const drop = [
      `--reuid=${user}`,
      `--regid=${group}`,
      "--clear-groups",
      "--inh-caps=-all",
      "--bounding-set=-all",
      "--no-new-privs",
    ];
    const env = [...IMAGE_ENV, ...Object.entries(options.env).map(([key, value]) => `${key}=${value}`)];
    const command = [
      ...["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--"],
      ...["sh", "-ec", rootScript(root, options.mounts), "sh"],
      ...["chroot", root, "setpriv", ...drop, "--", "env", "-i", ...env],
      ...ambitOf(build),
      ...options.args,
    ];
    const [file = "", ...args] = sandbox.command(command, place);
    const logPath = join(directory, "log", `${name}.log`);
    const logStart = existsSync(logPath) ? readFileSync(logPath).length : 0;
    const log = openSync(logPath, "a");
    const startedMs = performance.now();
    const child = spawn(file, args, { stdio: ["ignore", log, log], env: process.env });
    closeSync(log);
    // It may end while its child is looked for.
    const exited: Container["exited"] = new Promise((resolve) =>
      child.on("exit", (code, signal) => resolve(code ?? signal ?? ""))
    );
    return new Container(exited, await onlyChild(await onlyChild(child.pid!)), name, logPath, logStart, startedMs);
  }

  /** What it has printed. */
  get log(): string {
    return readFileSync(this.logPath).subarray(this.#logStart).toString();
  }

  get lastWords(): string {
    return this.log.trimEnd().split("\n").slice(-LAST_LINES).join("\n");
  }

  get running(): boolean {
    return !this.#over;
  }

  /** A line of its log that `test` likes, now or later. */
  async line(test: (line: string) => boolean, timeoutMs = 15_000): Promise<string> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const found = this.log.split("\n").find(test);
      if (found !== undefined) return found;
      if (performance.now() > deadline) throw new Error(`${this.name} did not say it; it said:\n${this.lastWords}`);
      await pause(50);
    }
  }

  /** A field of /proc/PID/status. */
  status(field: string): string {
    const line = readFileSync(`/proc/${this.pid}/status`, "utf8").split("\n").find((line) =>
      line.startsWith(`${field}:`)
    );
    return line?.slice(field.length + 1).trim() ?? "";
  }

  kill(signal: "SIGTERM" | "SIGKILL" | "SIGSTOP" | "SIGCONT"): void {
    process.kill(this.pid, signal);
  }

  /** Sends a signal and waits for the end; the exit code, or the signal that ended it. */
  async end(signal: "SIGTERM" | "SIGKILL" = "SIGKILL"): Promise<number | string> {
    if (!this.#over) this.kill(signal);
    return await within<number | string>(
      EXIT_MS,
      `the end of ${this.name}`,
      (resolve) => void this.exited.then(resolve),
    );
  }
}

/** Makes the root inside a mount namespace that only this container has, then becomes the rest of the arguments. */
function rootScript(root: string, mounts: readonly Mount[]): string {
  const binary = process.env.AMBIT_BINARY;
  const own = binary === undefined || binary === "" || binary.startsWith(`${ROOT}/`) ? [ROOT] : [ROOT, dirname(binary)];
  const cache = process.env.DENO_DIR ?? join(process.env.HOME ?? "/root", ".cache/deno");
  const lines = [
    `mount -t tmpfs -o mode=755 tmpfs ${root}`,
    `bind() { mkdir -p "$(dirname ${root}$2)"; if [ -d "$1" ]; then mkdir -p ${root}$2; else : > ${root}$2; fi; mount --bind "$1" ${root}$2; }`,
    `image() { bind "$1" "$2"; mount -o remount,bind,ro ${root}$2; }`,
    ...IMAGE_DIRECTORIES.map((path) =>
      `if [ -L ${path} ]; then cp -P ${path} ${root}${path}; elif [ -e ${path} ]; then image ${path} ${path}; fi`
    ),
    ...IMAGE_FILES.map((path) => `if [ -e ${path} ]; then image ${path} ${path}; fi`),
    // Nobody answers there, and the kernel says so at once: names are what /etc/hosts has.
    `echo 'nameserver ${CONTROL_ADDRESSES[0]}' > ${root}/etc/resolv.conf`,
    ...own.map((path) => `image '${path}' '${path}'`),
    `if [ -d '${cache}' ]; then image '${cache}' ${IMAGE_CACHE}; fi`,
    ...DEVICES.map((name) => `bind /dev/${name} /dev/${name}`),
    `mkdir -p ${root}/proc ${root}/tmp && mount -t proc proc ${root}/proc`,
    ...mounts.map(({ source, target, readOnly }) => `${readOnly ? "image" : "bind"} '${source}' '${target}'`),
    `mount -o remount,ro ${root}`,
    'exec "$@"',
  ];
  return lines.join("\n");
}
