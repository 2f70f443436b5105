/**
 * Starts a pair of ambit ztunnels, one per node, with a control plane of this process: mesh of two workloads, one ALLOW
 * policy that every connection is checked against, certificates of the local CA. One worker each, no access log,
 * everything else as ambit does by default.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createLocalCa } from "../../src/control/local/ca.ts";
import type { MeshSnapshot } from "../../src/control/local/channel_messages.ts";
import { type NodeChannel, serveNode } from "../../src/control/local/node_channel.ts";
import { type Child, startChild, tail } from "./spawn.ts";
import { APPLICATION_PORT, CLIENT_IP, netnsOf, SERVER_IP, type Topology } from "./topology.ts";

/** From start to the first complete snapshot acknowledged. */
const START_TIMEOUT_MS = 20_000;
const NAMESPACE = "bench";

export interface AmbitPair {
  readonly children: readonly [Child, Child];
  /** The metrics page of ztunnel 0 or 1. */
  readonly metrics: (hop: 0 | 1) => string;
  close(): Promise<void>;
}

interface Pod {
  readonly name: string;
  readonly node: string;
  readonly ip: string;
  readonly pid: number;
}

function workload(pod: Pod): object {
  return {
    uid: `Kubernetes//Pod/${NAMESPACE}/${pod.name}`,
    workloadIps: [pod.ip],
    protocol: "HBONE",
    name: pod.name,
    namespace: NAMESPACE,
    serviceAccount: pod.name,
    node: pod.node,
    workloadName: pod.name,
    workloadType: "deployment",
    canonicalName: pod.name,
    canonicalRevision: "latest",
  };
}

function mesh(pods: readonly Pod[]): MeshSnapshot {
  return {
    workloads: pods.map(workload),
    services: [],
    policies: [{
      name: "only-the-client",
      namespace: NAMESPACE,
      scope: "Namespace",
      action: "Allow",
      rules: [[[{
        principals: [{ Exact: `cluster.local/ns/${NAMESPACE}/sa/client` }],
        destinationPorts: [APPLICATION_PORT],
      }]]],
    }],
  };
}

/** `command` is how this ambit is run, up to the role. Resolves when both ztunnels are ready. */
export async function startAmbitPair(
  command: readonly string[],
  topology: Topology,
  directory: string,
  core: number,
  openSsl?: string,
): Promise<AmbitPair> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const ca = await createLocalCa();
  const pods: readonly [Pod, Pod] = [
    { name: "client", node: "node-a", ip: CLIENT_IP, pid: topology.client },
    { name: "server", node: "node-b", ip: SERVER_IP, pid: topology.server },
  ];
  const channels: NodeChannel[] = [];
  const refusals: Promise<never>[] = [];
  const start = async (hop: 0 | 1): Promise<Child> => {
    const pod = pods[hop];
    const path = join(directory, `${pod.node}.sock`);
    let refuse: (reason: Error) => void = () => {};
    const refused = new Promise<never>((_, reject) => refuse = reject);
    refused.catch(() => {}); // matters only to whoever waits for the start
    refusals.push(refused);
    const channel = await serveNode({
      path,
      node: pod.node,
      sign: (identity, csr) => ca.sign(identity, csr),
      onEvent: (event) => {
        if (event.kind === "refused") refuse(new Error(`${pod.node} refused ${event.message}: ${event.error}`));
      },
    });
    channels.push(channel);
    await channel.setMesh(mesh(pods));
    await channel.addPod({
      uid: `uid-${pod.name}`,
      netns: netnsOf(pod.pid),
      name: pod.name,
      namespace: NAMESPACE,
      serviceAccount: pod.name,
    });
    return startChild([...command, "ztunnel"], {
      core,
      netnsPid: topology.nodes[hop],
      logFile: join(directory, `${pod.node}.log`),
      env: {
        LOCAL_CONTROL: path,
        NODE_NAME: pod.node,
        ZTUNNEL_WORKER_THREADS: "1",
        RUST_LOG: "info,access=off",
        ...(openSsl === undefined ? {} : { LD_LIBRARY_PATH: openSsl }),
      },
    });
  };
  const children: readonly [Child, Child] = [await start(0), await start(1)];
  await Promise.all(channels.map((channel, hop) => Promise.race([untilReady(channel, children[hop]), refusals[hop]])));
  return {
    children,
    metrics: (hop) => {
      const enter = ["--net=" + netnsOf(topology.nodes[hop]), "--"];
      return execFileSync("nsenter", [...enter, "curl", "-s", "-m", "5", "http://127.0.0.1:15020/metrics"], {
        encoding: "utf8",
        env: { PATH: process.env.PATH },
      });
    },
    async close() {
      await Promise.all(children.map((child) => child.stop()));
      await Promise.all(channels.map((channel) => channel.close()));
    },
  };
}

async function untilReady(channel: NodeChannel, child: Child): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const failed = new Promise<never>((_, reject) => {
    const fail = (why: string) => reject(new Error(`ztunnel ${why}: ${tail(child.logFile)}`));
    child.process.once("exit", (code) => fail(`ended with ${code}`));
    timer = setTimeout(() => fail("is not ready"), START_TIMEOUT_MS);
  });
  failed.catch(() => {}); // an exit later on is noticed by whoever measures
  await Promise.race([channel.ready, failed]);
  clearTimeout(timer);
}
