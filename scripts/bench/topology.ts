/**
 * Two pods on a wire: network namespaces joined by a veth pair, with the redirection rules of an ambient pod.
 *
 * Both kinds of proxy get the same: client connections are redirected to port 15001 in the client's pod, replies of the
 * application come back by the return mark. A namespace lives as long as the process that holds it: ending those leaves
 * nothing behind.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createNftablesRedirection } from "../../src/cni/redirection/nftables.ts";
import { DEFAULT_REDIRECTION } from "../../src/cni/redirection/redirection.ts";
import { runToolIn, tool } from "../../src/local/run_tool.ts";
import { type Child, startChild } from "./spawn.ts";

export const CLIENT_IP = "10.77.0.1";
export const SERVER_IP = "10.77.0.2";
export const APPLICATION_PORT = 8080;
const LOOPBACK_IP = "127.0.0.1";
const PREFIX_LENGTH = 24;
/** Thousands of short connections a second from one address: more ports, and those in TIME_WAIT again after a second. */
const PORTS = ["net.ipv4.ip_local_port_range=20000 65535", "net.ipv4.tcp_tw_reuse=1", "net.core.somaxconn=4096"];

/** A holder turns into `sleep` within milliseconds of its start, or something is wrong. */
const HOLDER_TIMEOUT_MS = 5000;

export interface Topology {
  /** Processes whose network namespace is the client's pod, the server's pod, and each one's node. */
  readonly client: number;
  readonly server: number;
  readonly nodes: readonly [number, number];
  /** Where the application listens. */
  readonly serverIp: string;
  /** Connections to it are redirected to port 15001. */
  readonly redirected: boolean;
  close(): Promise<void>;
}

/** The path of a process's network namespace. */
export function netnsOf(pid: number): string {
  return `/proc/${pid}/ns/net`;
}

/** Makes the namespaces; `core` runs their (sleeping) holders. Needs root, or a user namespace with NET_ADMIN and SYS_ADMIN. */
export async function createTopology(directory: string, core: number): Promise<Topology> {
  const holders: Child[] = [];
  for (let i = 0; i < 4; i++) {
    holders.push(
      startChild(["unshare", "--net", "--", "sleep", "infinity"], { core, logFile: join(directory, "holders.log") }),
    );
  }
  const [client, server, nodeA, nodeB] = holders.map((holder) => holder.pid);
  for (const holder of holders) {
    await untilHolds(holder.pid);
    await inNetns(holder.pid, ["ip", "link", "set", "lo", "up"]);
  }
  const [one, two] = [String(client), String(server)];
  await tool(["ip", "link", "add", "eth0", "netns", one, "type", "veth", "peer", "name", "eth0", "netns", two]);
  for (const [pid, ip] of [[client, CLIENT_IP], [server, SERVER_IP]] as const) {
    await inNetns(pid, ["ip", "addr", "add", `${ip}/${PREFIX_LENGTH}`, "dev", "eth0"]);
    await inNetns(pid, ["ip", "link", "set", "eth0", "up"]);
    await inNetns(pid, ["sysctl", "-qw", ...PORTS]);
    await createNftablesRedirection(runToolIn).apply(netnsOf(pid), DEFAULT_REDIRECTION);
  }
  return {
    client,
    server,
    nodes: [nodeA, nodeB],
    serverIp: SERVER_IP,
    redirected: true,
    async close() {
      await Promise.all(holders.map((holder) => holder.stop()));
    },
  };
}

/** One namespace with a loopback and nothing else: no wire and no rules in the way. */
export async function createLoopback(directory: string, core: number): Promise<Topology> {
  const holder = startChild(["unshare", "--net", "--", "sleep", "infinity"], {
    core,
    logFile: join(directory, "holders.log"),
  });
  await untilHolds(holder.pid);
  await inNetns(holder.pid, ["ip", "link", "set", "lo", "up"]);
  await inNetns(holder.pid, ["sysctl", "-qw", ...PORTS]);
  return {
    client: holder.pid,
    server: holder.pid,
    nodes: [holder.pid, holder.pid],
    serverIp: LOOPBACK_IP,
    redirected: false,
    close: () => holder.stop(),
  };
}

/** Runs a tool in the namespace of a process; rejects with its words. */
async function inNetns(pid: number, command: readonly string[]): Promise<void> {
  await tool(["nsenter", `--net=${netnsOf(pid)}`, "--", ...command]);
}

async function untilHolds(pid: number): Promise<void> {
  const own = readlinkSync("/proc/self/ns/net");
  const until = Date.now() + HOLDER_TIMEOUT_MS;
  while (readlinkSync(netnsOf(pid)) === own || readFileSync(`/proc/${pid}/comm`, "utf8").trim() !== "sleep") {
    if (Date.now() > until) throw new Error("cannot make a network namespace: run as root or under unshare -Urnm");
    await delay(5);
  }
}
