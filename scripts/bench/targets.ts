/**
 * One pair of proxies under test with all it needs around it: its own two pods, backend, and a way to measure it.
 * Every pair lives in namespaces of its own, so that all of them can run at the same time and be measured in turns.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, realpathSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startAmbitPair } from "./ambit_pair.ts";
import { installEnvoy, startEnvoyPair } from "./envoy_pair.ts";
import type { Mode, PairFigures } from "./pair.ts";
import { type Child, runToEnd, startChild } from "./spawn.ts";
import { APPLICATION_PORT, createLoopback, createTopology, netnsOf, type Topology } from "./topology.ts";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const BUN = join(ROOT, "node_modules/.bin/bun");
const DENO = join(ROOT, "node_modules/.bin/deno");
const COMPILED = join(ROOT, "dist/ambit");

/** What can be measured: Envoy in pods or all on one loopback, ambit's sources on either runtime, and the binary that `deno task build` makes. */
export const TARGETS = ["envoy", "envoy-loopback", "ambit-deno", "ambit-bun", "ambit-compiled"] as const;
export type TargetName = typeof TARGETS[number];
type AmbitName = Exclude<TargetName, "envoy" | "envoy-loopback">;

/** Proxies on one core, everything else on the other. */
export const PROXY_CORE = 0;
export const LOAD_CORE = 1;

/** A pair that answers no request by then does not work. */
const FIRST_ANSWER_MS = 20_000;

export interface Target {
  readonly name: TargetName;
  readonly pids: readonly number[];
  /** Cipher suite of the tunnels, where the proxy tells. */
  readonly cipher: string | undefined;
  measure(mode: Mode, flags: Readonly<Record<string, string | number>>): Promise<PairFigures>;
  /** Generator and backend in one pod, without proxies: what they can do. */
  measureDirect(seconds: number): Promise<PairFigures>;
  close(): Promise<void>;
}

/** How ambit is run, up to the role. A profile needs V8 to name its code for perf, which costs a little. */
function ambitCommand(name: AmbitName, profile: boolean): readonly string[] {
  switch (name) {
    case "ambit-deno":
      return [DENO, "run", "-A", ...(profile ? ["--v8-flags=--perf-basic-prof"] : []), join(ROOT, "mod.ts")];
    case "ambit-bun":
      return [BUN, join(ROOT, "mod.ts")];
    case "ambit-compiled":
      return [COMPILED];
  }
}

/** Installs or builds what the targets need. Builds the binary anew: an old one would be measured for the sources. */
export function prepare(names: readonly TargetName[]): void {
  if (names.includes("envoy") || names.includes("envoy-loopback")) installEnvoy();
  if (names.includes("ambit-compiled")) {
    execFileSync(DENO, ["task", "build"], { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
    if (!existsSync(COMPILED)) throw new Error(`"deno task build" did not make ${COMPILED}`);
  }
}

export interface TargetOptions {
  readonly profile?: boolean;
  /** Where ambit finds its OpenSSL, when it is not the system's. */
  readonly openSsl?: string;
}

/** Starts a pair with its pods and backend, and waits until a request through it is answered. */
export async function startTarget(name: TargetName, directory: string, options: TargetOptions = {}): Promise<Target> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const topology = await (name === "envoy-loopback" ? createLoopback : createTopology)(directory, LOAD_CORE);
  await startBackend(topology, directory);
  const proxies = name === "envoy" || name === "envoy-loopback"
    ? await startEnvoy(topology, directory)
    : await startAmbit(ambitCommand(name, options.profile === true), topology, directory, options.openSsl);
  const logFile = join(directory, "load.log");
  const load = async (
    pod: number,
    target: string,
    flags: Readonly<Record<string, string | number>>,
  ): Promise<PairFigures> => {
    const given = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
    const script = join(ROOT, "scripts/bench/pair.ts");
    const fixed = ["--json", "--target", target];
    const output = await runToEnd([BUN, script, ...fixed, ...given], { core: LOAD_CORE, netnsPid: pod, logFile });
    return JSON.parse(output) as PairFigures;
  };
  const { client, server, serverIp } = topology;
  const application = `${serverIp}:${APPLICATION_PORT}`;
  // On the loopback nothing redirects: the client asks the first hop itself.
  const entry = topology.redirected ? application : `${serverIp}:15001`;
  await untilAnswered(client, entry);
  return {
    name,
    pids: proxies.pids,
    cipher: proxies.verify(),
    async measure(mode, flags) {
      try {
        return await load(client, entry, { ...flags, mode, pids: proxies.pids.join(",") });
      } catch (error) {
        throw new Error(`${name}, ${mode}: ${error instanceof Error ? error.message : error} (logs in ${directory})`);
      }
    },
    measureDirect: (seconds) => load(server, application, { seconds }),
    async close() {
      await proxies.close();
      await topology.close();
    },
  };
}

/** Throws unless a process runs with this library. */
function requireMapped(pid: number, library: string): void {
  if (readFileSync(`/proc/${pid}/maps`, "utf8").includes(realpathSync(library))) return;
  throw new Error(`ambit: process ${pid} does not use ${library}`);
}

interface Proxies {
  readonly pids: readonly number[];
  /** Throws unless the first request went through a tunnel with mTLS; returns its cipher suite where that is told. */
  verify(): string | undefined;
  close(): Promise<void>;
}

async function startEnvoy(topology: Topology, directory: string): Promise<Proxies> {
  const pair = await startEnvoyPair(installEnvoy(), {
    listen: { ip: "0.0.0.0", port: 15001 },
    hbone: { ip: topology.serverIp, port: 15008 },
    application: { ip: topology.serverIp, port: APPLICATION_PORT },
    redirected: topology.redirected,
    core: PROXY_CORE,
    directory,
    adminPorts: [15000, 15002],
    netnsPids: [topology.client, topology.server],
  });
  return {
    pids: pair.children.map((child) => child.pid),
    verify() {
      const cipher = /\.ssl\.ciphers\.(\w+): [1-9]/.exec(pair.admin(1, "/stats"))?.[1];
      if (cipher === undefined) throw new Error("envoy: the request did not go through a TLS tunnel");
      return cipher;
    },
    async close() {
      await Promise.all(pair.children.map((child) => child.stop()));
    },
  };
}

async function startAmbit(
  command: readonly string[],
  topology: Topology,
  directory: string,
  openSsl: string | undefined,
): Promise<Proxies> {
  const pair = await startAmbitPair(command, topology, directory, PROXY_CORE, openSsl);
  const pids = pair.children.map((child) => child.pid);
  return {
    pids,
    verify() {
      if (openSsl !== undefined) pids.forEach((pid) => requireMapped(pid, join(openSsl, "libcrypto.so.3")));
      for (const hop of [0, 1] as const) {
        const metrics = pair.metrics(hop);
        if (
          !/^istio_tcp_connections_opened_total\{.*connection_security_policy="mutual_tls".*\} [1-9]/m.test(metrics)
        ) {
          throw new Error(`ambit: the request did not go through a tunnel with mutual TLS at hop ${hop}`);
        }
      }
      return undefined;
    },
    close: () => pair.close(),
  };
}

/** The application listens when this resolves. */
async function startBackend(topology: Topology, directory: string): Promise<Child> {
  const listen = `${topology.serverIp}:${APPLICATION_PORT}`;
  const backend = startChild([BUN, join(ROOT, "scripts/bench/backend.ts"), "--listen", listen], {
    core: LOAD_CORE,
    netnsPid: topology.server,
    logFile: join(directory, "backend.log"),
    readOutput: true,
  });
  await new Promise<void>((resolve, reject) => {
    backend.process.stdout?.once("data", () => resolve());
    backend.process.once("exit", (code) => reject(new Error(`the backend ended with ${code}: ${backend.logFile}`)));
  });
  return backend;
}

/** One plain request by curl: the first one opens the tunnel. */
async function untilAnswered(client: number, entry: string): Promise<void> {
  const url = `http://${entry}/`;
  const curl = [`--net=${netnsOf(client)}`, "--", "curl", "-sf", "-m", "5", "-o", "/dev/null", url];
  const until = Date.now() + FIRST_ANSWER_MS;
  for (;;) {
    try {
      execFileSync("nsenter", curl, { env: { PATH: process.env.PATH }, stdio: "ignore" });
      return;
    } catch (error) {
      if (Date.now() > until) {
        throw new Error(`no answer through the pair: ${error instanceof Error ? error.message : error}`);
      }
      await delay(200);
    }
  }
}
