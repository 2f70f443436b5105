/**
 * The machine as a node: the test process runs in mount, network, process, IPC, host name and cgroup namespaces of its own
 * (scripts/cluster_test.ts), of which this makes a node's, with a network that leads nowhere, and starts daemons in it. All of them end
 * with the test process, and nothing of theirs is seen outside.
 */
import { type ChildProcess, spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { tool } from "../../../src/local/run_tool.ts";
import { pause } from "../../e2e/support/wait.ts";

export const NODE_NAME = "node1";
export const NODE_IP = "10.231.0.2";
const NODE_NETWORK = `${NODE_IP}/24`;

/** The kubelet insists on these. They are the whole machine's, so it is shown files that say so, and changes nothing. */
const SHOWN_SETTINGS = { "vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1" };
const FORWARDING = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];

const KEEP_LOGS_MS = 500;

export class Node {
  readonly #daemons = new Map<string, Daemon>();

  private constructor(readonly directory: string) {}

  /** `directory` takes everything that the node writes. */
  static async create(directory: string): Promise<Node> {
    const node = new Node(directory);
    for (const name of ["log/pods", "log/kept", "run", "settings"]) mkdirSync(node.path(name), { recursive: true });
    await node.#mount();
    await node.#connect();
    // It does not keep the process.
    setInterval(() => node.#keepLogs(), KEEP_LOGS_MS).unref();
    return node;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Its words are in log/`name`.log. */
  start(name: string, command: readonly string[]): Daemon {
    const daemon = new Daemon(name, command, this.path(`log/${name}.log`));
    this.#daemons.set(name, daemon);
    return daemon;
  }

  /** Names of daemons that have ended though nobody told them to. */
  ended(): readonly string[] {
    return [...this.#daemons.values()].filter((daemon) => daemon.over).map(({ name }) => name);
  }

  /** The kubelet takes a pod's logs away with it; a second name keeps them for whoever wants to know. */
  #keepLogs(): void {
    const pods = this.path("log/pods");
    for (const name of readdirSync(pods, { recursive: true, encoding: "utf8" })) {
      const kept = this.path(`log/kept/${name.replaceAll("/", "_")}`);
      try {
        if (name.endsWith(".log") && !existsSync(kept)) linkSync(join(pods, name), kept);
      } catch {
        // It was gone in between.
      }
    }
  }

  async #mount(): Promise<void> {
    await tool(["hostname", NODE_NAME]);
    // Mounts that a pod makes are seen by others here, and nowhere else: the namespace itself is private.
    await mount("--make-rshared", "/");
    await mount("-t", "sysfs", "sysfs", "/sys");
    await mount("-t", "tmpfs", "tmpfs", "/sys/fs/cgroup");
    for (const controller of cgroupControllers()) {
      const path = `/sys/fs/cgroup/${controller}`;
      mkdirSync(path);
      await mount("-t", "cgroup", "-o", controller === "systemd" ? "none,name=systemd" : controller, "cgroup", path);
    }
    await mount("-t", "tmpfs", "tmpfs", "/var/lib");
    await mount("--bind", this.path("log"), "/var/log");
    await mount("--bind", this.path("run"), "/run");
    for (const name of ["netns", "lock"]) mkdirSync(join("/run", name), { recursive: true });
    for (const [name, value] of Object.entries(SHOWN_SETTINGS)) {
      const shown = this.path(`settings/${name}`);
      mkdirSync(dirname(shown), { recursive: true });
      writeFileSync(shown, `${value}\n`);
      await mount("--bind", shown, `/proc/sys/${name}`);
    }
  }

  async #connect(): Promise<void> {
    const ip = (...args: readonly string[]) => tool(["ip", ...args]);
    await ip("link", "set", "lo", "up");
    // Nobody is at the other end. But an address must be on a device that is up, and a service's address have a route before it is translated.
    await ip("link", "add", "eth0", "type", "veth", "peer", "name", "nowhere");
    await ip("link", "set", "nowhere", "up");
    await ip("address", "add", NODE_NETWORK, "dev", "eth0");
    await ip("link", "set", "eth0", "up");
    await ip("route", "add", "default", "dev", "eth0");
    for (const name of FORWARDING) writeFileSync(`/proc/sys/${name}`, "1");
  }
}

/** Of cgroup v1, in which this process has a cgroup of its own. */
function cgroupControllers(): string[] {
  return readFileSync("/proc/self/cgroup", "utf8").split("\n")
    .map((line) => (line.split(":")[1] ?? "").replace(/^name=/, "")).filter((name) => name !== "");
}

async function mount(...args: readonly string[]): Promise<void> {
  await tool(["mount", ...args]);
}

const POLL_MS = 100;
const LAST_LINES = 15;

export class Daemon {
  over = false;
  readonly #child: ChildProcess;

  constructor(readonly name: string, command: readonly string[], readonly logPath: string) {
    const [file = "", ...args] = command;
    const log = openSync(logPath, "a");
    this.#child = spawn(file, args, { stdio: ["ignore", log, log] });
    closeSync(log);
    this.#child.on("exit", () => this.over = true);
    this.#child.on("error", () => this.over = true);
  }

  /** Repeats `probe` until it answers true. Rejects with the end of the log when it does not in time, or the daemon ends. */
  async ready(probe: () => Promise<boolean>, timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!await probe().catch(() => false)) {
      if (!this.over && performance.now() < deadline) {
        await pause(POLL_MS);
        continue;
      }
      const words = readFileSync(this.logPath, "utf8").trimEnd().split("\n").slice(-LAST_LINES).join("\n");
      throw new Error(`${this.name} ${this.over ? "ended" : `is not ready after ${timeoutMs} ms`}; it said:\n${words}`);
    }
  }
}
