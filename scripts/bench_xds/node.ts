/** A node with two pods, and one ztunnel that serves both: the pods' namespaces, the node agent, traffic between them, and the process's numbers. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { cpus } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { tool } from "../../src/local/run_tool.ts";
import { ZdsServer } from "../../tests/support/zds_server.ts";
import { cpuBetween, residentKib, sampleCpu } from "../bench/proc.ts";
import { type Child, startChild, tail } from "../bench/spawn.ts";
import { APPLICATION_PORT, CLIENT_IP, createTopology, netnsOf, SERVER_IP, type Topology } from "../bench/topology.ts";
import { envelope, workloadBytes } from "../../tests/control/xds/intake/messages.ts";
import { ADDRESS_TYPE } from "./mesh.ts";
import type { BenchIstiod } from "./istiod.ts";
import { longestOwn, type Span, union } from "./waits.ts";

export const NODE = "node-a";
/** Every address of this /16 is the server's. */
const NEW_PREFIX = "10.78";
const READY_TIMEOUT_MS = 60_000;
/** The line that ztunnel logs when it is ready for the first time. */
const READY = /\treadiness\tready\t/;
const WATCH_DELAY_MS = 50;
/** Nothing here is pinned: a node's ztunnel has all cores. */
const ANY_CORE = 0;

export interface Waits {
  readonly count: number;
  /** Milliseconds, whoever caused them. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** The longest, without the time at which the machine held a core back. */
  readonly own: number;
}

export interface PodTraffic {
  readonly running: Waits;
  readonly fresh: Waits;
  readonly failures: number;
  /** Of the first failures. */
  readonly reasons: readonly string[];
  /** The longest time for which a core was held back meanwhile. */
  readonly machineMs: number;
}

/** As the client tells it. */
interface ToldWaits extends Omit<Waits, "own"> {
  readonly long: readonly Span[];
}
interface Told {
  readonly running: ToldWaits;
  readonly fresh: ToldWaits;
  readonly failures: number;
  readonly reasons: readonly string[];
}

/** Records of the two pods, which every mesh holds. */
export function ownPods(): Uint8Array[] {
  return [["client", CLIENT_IP], ["server", SERVER_IP]].map(([name, ip]) => {
    const uid = `Kubernetes//Pod/bench/${name}`;
    const value = workloadBytes({
      uid,
      name,
      namespace: "bench",
      addresses: [new Uint8Array(ip.split(".").map(Number))],
      tunnelProtocol: 1,
      serviceAccount: name,
      node: NODE,
      canonicalName: name,
      canonicalRevision: "latest",
      workloadName: name,
    });
    return envelope(uid, ADDRESS_TYPE, value);
  });
}

export class BenchNode {
  readonly topology: Topology;
  readonly #directory: string;
  readonly #agent: ZdsServer;

  private constructor(topology: Topology, directory: string, agent: ZdsServer) {
    this.topology = topology;
    this.#directory = directory;
    this.#agent = agent;
  }

  static async create(directory: string, bun: string, root: string): Promise<BenchNode> {
    const topology = await createTopology(directory, ANY_CORE);
    const inPod = (pid: number, command: string[]) => tool(["nsenter", `--net=${netnsOf(pid)}`, "--", ...command]);
    await inPod(topology.server, ["ip", "route", "add", "local", `${NEW_PREFIX}.0.0/16`, "dev", "lo"]);
    await inPod(topology.client, ["ip", "route", "add", `${NEW_PREFIX}.0.0/16`, "via", SERVER_IP]);
    const echo = startChild([bun, join(root, "scripts/bench_xds/echo.ts"), String(APPLICATION_PORT)], {
      core: 1,
      netnsPid: topology.server,
      logFile: join(directory, "echo.log"),
      readOutput: true,
    });
    await new Promise<void>((resolve) => echo.process.stdout?.once("data", () => resolve()));
    const pods = ([["client", topology.client], ["server", topology.server]] as const).map(([name, pid]) => ({
      uid: `uid-${name}`,
      name,
      namespace: "bench",
      serviceAccount: name,
      netns: netnsOf(pid),
    }));
    return new BenchNode(topology, directory, ZdsServer.start(join(directory, "ztunnel.sock"), { pods }));
  }

  /** Starts a ztunnel; `ready` is the milliseconds from there to its readiness. */
  async start(command: readonly string[], istiod: BenchIstiod): Promise<BenchZtunnel> {
    const root = join(this.#directory, "root.pem");
    if (!existsSync(root)) writeFileSync(root, istiod.root);
    const address = `https://localhost:${istiod.port}`;
    const beginMs = performance.now();
    const child = startChild([...command, "ztunnel"], {
      core: ANY_CORE,
      unpinned: true,
      logFile: join(this.#directory, "ztunnel.log"),
      env: {
        XDS_ADDRESS: address,
        CA_ADDRESS: address,
        XDS_ROOT_CA: root,
        CA_ROOT_CA: root,
        INPOD_UDS: join(this.#directory, "ztunnel.sock"),
        NODE_NAME: NODE,
        POD_NAME: "ztunnel-bench",
        POD_NAMESPACE: "istio-system",
        INSTANCE_IP: "127.0.0.1",
        CLUSTER_ID: "Kubernetes",
        RUST_LOG: "info,access=off",
      },
    });
    return new BenchZtunnel(child, beginMs);
  }

  /** Traffic from the client's pod. */
  traffic(bun: string, root: string): Traffic {
    const script = join(root, "scripts/bench_xds/traffic.ts");
    const child = startChild([bun, script, SERVER_IP, NEW_PREFIX, String(APPLICATION_PORT)], {
      core: 1,
      netnsPid: this.topology.client,
      logFile: join(this.#directory, "traffic.log"),
      readOutput: true,
      writeInput: true,
    });
    const watches = cpus().map((_, core) =>
      startChild(["chrt", "-f", "90", bun, join(root, "scripts/bench_xds/machine_waits.ts")], {
        core,
        logFile: join(this.#directory, "machine_waits.log"),
        readOutput: true,
      })
    );
    return new Traffic(child, watches);
  }

  async close(): Promise<void> {
    this.#agent.stop();
    await this.topology.close();
  }
}

export class Traffic {
  readonly #child: Child;
  readonly #watches: readonly Child[];
  #waiting: ((line: string) => void)[] = [];
  /** Since the last report. */
  #machine: Span[] = [];

  constructor(child: Child, watches: readonly Child[]) {
    this.#child = child;
    this.#watches = watches;
    readLines(child, (line) => this.#waiting.shift()?.(line));
    for (const watch of watches) {
      readLines(watch, (line) => {
        const [beginMs, endMs] = line.split(" ").map(Number);
        this.#machine.push({ beginMs, endMs });
      });
    }
  }

  /** What happened since the last report. */
  async report(): Promise<PodTraffic> {
    const line = new Promise<string>((resolve) => this.#waiting.push(resolve));
    this.#child.process.stdin?.write("report\n");
    const { running, fresh, failures, reasons } = JSON.parse(await line) as Told;
    // What the watches have written is here by then, whichever pipe is read first.
    await delay(WATCH_DELAY_MS);
    const machine = union(this.#machine);
    this.#machine = [];
    const machineMs = Math.max(0, ...machine.map(({ beginMs, endMs }) => endMs - beginMs));
    return { running: judged(running, machine), fresh: judged(fresh, machine), failures, reasons, machineMs };
  }

  async stop(): Promise<void> {
    await Promise.all([this.#child, ...this.#watches].map((child) => child.stop()));
  }
}

/** What is below the shortest wait that is told one by one, its end included, is nobody's fault. */
function judged({ long, ...figures }: ToldWaits, machine: readonly Span[]): Waits {
  return { ...figures, own: long.length === 0 ? figures.max : longestOwn(long, machine) };
}

function readLines(child: Child, each: (line: string) => void): void {
  let rest = "";
  child.process.stdout?.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) each(line);
  });
}

export class BenchZtunnel {
  readonly child: Child;
  readonly #beginMs: number;

  constructor(child: Child, beginMs: number) {
    this.child = child;
    this.#beginMs = beginMs;
  }

  /** Milliseconds from its start to the first answer that it is ready. */
  async ready(): Promise<number> {
    while (performance.now() - this.#beginMs < READY_TIMEOUT_MS) {
      if (this.child.process.exitCode !== null) break;
      // Probes take its main thread's time: it is asked when its log says that it is ready.
      if (READY.test(readFileSync(this.child.logFile, "utf8")) && await isReady()) {
        return performance.now() - this.#beginMs;
      }
      await delay(2);
    }
    throw new Error(`the ztunnel does not become ready: ${tail(this.child.logFile)}`);
  }

  get residentKib(): number {
    return residentKib(this.child.pid);
  }

  /** CPU milliseconds of the main thread so far. */
  get mainThreadMs(): number {
    const { pid } = this.child;
    return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
  }

  cpu() {
    const before = sampleCpu(this.child.pid);
    return () => cpuBetween([before], [sampleCpu(this.child.pid)]) / 1e6;
  }

  stop(): Promise<void> {
    return this.child.stop();
  }
}

function isReady(): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ host: "127.0.0.1", port: 15021, path: "/healthz/ready", agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.on("error", () => resolve(false));
    request.setTimeout(1_000, () => request.destroy());
  });
}
