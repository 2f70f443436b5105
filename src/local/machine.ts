/**
 * Makes the machine like the mesh file: namespaces and redirection, one ztunnel per node and one waypoint per Gateway, each with
 * its control channel, and the commands of the pods. Every version of the file is one `apply`, which touches only what differs.
 */
import type { LocalCertificate } from "../control/local/channel_client.ts";
import type { LocalPod } from "../control/local/channel_messages.ts";
import type { MeshFile, MeshPod } from "../control/local/mesh_file.ts";
import type { MeshResources } from "../mesh/types.ts";
import { type MachineState, planChange, type PlannedNode, type PlannedPod } from "./change_plan.ts";
import type { NodeAgents } from "./node_agents.ts";
import { supervise, type SupervisedProcess } from "./supervisor.ts";
import type { Topology } from "./topology.ts";
import { Waypoints } from "./waypoints.ts";
import { type Command, Ztunnels } from "./ztunnels.ts";

export interface MachineOptions {
  /** For the control channels' sockets; open to nobody else. */
  readonly directory: string;
  readonly topology: Topology;
  /** Makes a captured pod's traffic pass ztunnel. */
  redirect(netns: string): Promise<void>;
  /** Node agents that do that instead, as pods' labels say, and tell the ztunnels. */
  readonly agents?: NodeAgents | undefined;
  sign(identity: string, csrPem: string): Promise<LocalCertificate>;
  /** How to start a node's ztunnel, given the socket of its control channel, and that of its node agent if there is one. */
  ztunnel(node: PlannedNode, socket: string, agentSocket: string | undefined): Command;
  /** How to start the waypoint of a Gateway's pod, given the socket of its control channel. */
  waypoint(pod: MeshPod, socket: string): Command;
  /** Added to the environment of every pod's command. */
  readonly podEnv: Environment;
  /** A line for a person: who said it, and what. */
  say(who: string, line: string): void;
  /** How long a ztunnel, or a waypoint, may take to come up, in milliseconds. */
  readonly readyTimeoutMs?: number;
}

type Environment = Readonly<Record<string, string>>;

interface Place {
  readonly netns: string;
  readonly env: Environment;
}

/** On a loaded machine a runtime takes seconds to load and to prove its TLS. */
const READY_TIMEOUT_MS = 30_000;
/** Proxies drain for 5 s by default; nobody is waiting for these connections to finish. */
const PROXY_GRACE_MS = 3_000;
const POD_GRACE_MS = 1_000;
/** Of one to which nobody is led any more: what it was asked before may take as long as in a cluster. */
const WAYPOINT_GRACE_MS = 5_000;

export class Machine {
  readonly #options: MachineOptions;
  readonly #ztunnels: Ztunnels;
  readonly #waypoints: Waypoints;
  readonly #commands = new Map<string, SupervisedProcess>();
  #state: MachineState = { nodes: [], pods: [] };
  #resources: MeshResources | undefined;

  constructor(options: MachineOptions) {
    const { directory, topology, agents, readyTimeoutMs = READY_TIMEOUT_MS } = options;
    this.#options = options;
    const say = (who: string, line: string) => options.say(who, line);
    this.#ztunnels = new Ztunnels({
      directory,
      netnsOf: (node) => topology.nodeNetns(node),
      sign: (node, identity, csrPem) => this.#sign(node, identity, csrPem),
      command: async (node, socket) => options.ztunnel(node, socket, await agents?.startNode(node.name)),
      say,
      readyTimeoutMs,
    });
    this.#waypoints = new Waypoints({
      directory,
      netnsOf: (uid) => topology.podNetns(uid),
      sign: (identity, csrPem) => options.sign(identity, csrPem),
      command: (pod, socket) => options.waypoint(pod, socket),
      say,
      readyTimeoutMs,
    });
  }

  /** What is there now. */
  get state(): MachineState {
    return this.#state;
  }

  /**
   * Makes `mesh` so. Rejects when a part of it cannot be made; the rest is then as far as it got, and the next `apply`
   * goes on from there. Calls must not overlap.
   */
  async apply(mesh: MeshFile): Promise<void> {
    const { agents } = this.#options;
    const plan = planChange(this.#state, mesh, agents !== undefined);
    await this.#remove(plan.removeFirst);
    await this.#add(plan.add);
    const changed = this.#adoptChanges(mesh);
    const told = this.#asCaptured(mesh.resources);
    const added = new Set(plan.add.pods.map((pod) => pod.uid));
    const podsOf = (node: string) => mesh.pods.filter((pod) => pod.node === node).flatMap((pod) => this.#captured(pod));
    // Ztunnels lead nobody to a waypoint that is not up. On a new node there is nobody yet to be led.
    await bothSettled(
      this.#waypoints.prepare(mesh, told, added).then(() => this.#ztunnels.setMesh(this.#asCaptured(mesh.resources))),
      this.#ztunnels.start(plan.add.nodes, told, podsOf),
    );
    this.#resources = mesh.resources;
    // A new ztunnel was told of its pods with its first snapshot.
    const newNodes = new Set(plan.add.nodes.map((node) => node.name));
    const others = plan.add.pods.filter((pod) => !newNodes.has(pod.node));
    await Promise.all(
      others.flatMap((pod) => this.#captured(pod).map((local) => this.#ztunnels.addPod(pod.node, local))),
    );
    await agents?.add(plan.add.pods);
    await agents?.update(changed);
    for (const pod of plan.add.pods) this.#startCommand(pod);
    await this.#waypoints.settle(this.#asCaptured(mesh.resources));
    await this.#remove(plan.removeLast);
    this.#state = { nodes: mesh.nodes, pods: mesh.pods };
  }

  /** Tells every proxy the mesh as it is. With node agents a pod is reached through its ztunnel only while it is captured. */
  async tellMesh(): Promise<void> {
    const resources = this.#resources;
    if (resources === undefined) return;
    const told = this.#asCaptured(resources);
    // What was refused has been said.
    await this.#waypoints.settle(told).catch(() => {});
    await this.#ztunnels.setMesh(told);
  }

  #asCaptured(resources: MeshResources): MeshResources {
    const { agents } = this.#options;
    if (agents === undefined) return resources;
    const own = new Set(this.#state.pods.filter((pod) => !pod.isWaypoint).map((pod) => pod.uid));
    const workloads = resources.workloads.map((workload) =>
      own.has(workload.uid) && !agents.isCaptured(workload.uid) ? { ...workload, protocol: "TCP" as const } : workload
    );
    return { ...resources, workloads };
  }

  /** Pods that stay and are to be captured, or not, from now on: the state says so before anybody asks for their certificates. */
  #adoptChanges(mesh: MeshFile): PlannedPod[] {
    const wanted = new Map(mesh.pods.map((pod) => [pod.uid, pod]));
    const changed: PlannedPod[] = [];
    const pods = this.#state.pods.map((pod) => {
      const next = wanted.get(pod.uid);
      if (next === undefined || (next.captured === pod.captured && sameLabels(next, pod))) return pod;
      changed.push(next);
      return next;
    });
    this.#state = { nodes: this.#state.nodes, pods };
    return changed;
  }

  /** Where to run something of a person's in a node. */
  nodePlace(node: PlannedNode): Place {
    return { netns: this.#options.topology.nodeNetns(node.name), env: { NODE_NAME: node.name } };
  }

  /** Where to run something in a pod, as the pod's own command runs. */
  podPlace(pod: PlannedPod): Place {
    const env = {
      ...this.#options.podEnv,
      POD_NAME: pod.name,
      POD_NAMESPACE: pod.namespace,
      SERVICE_ACCOUNT: pod.serviceAccount,
      NODE_NAME: pod.node,
      INSTANCE_IP: pod.addresses[0] ?? "",
      ...pod.env,
    };
    return { netns: this.#options.topology.podNetns(pod.uid), env };
  }

  /** Ends every process. The namespaces go with the sandbox. */
  async stop(): Promise<void> {
    const waypoints = this.#waypoints.stop(PROXY_GRACE_MS);
    await Promise.all([...this.#commands.values()].map((command) => command.stop(POD_GRACE_MS)));
    await Promise.all([this.#ztunnels.stop(PROXY_GRACE_MS), waypoints]);
    await this.#options.agents?.stop();
    this.#commands.clear();
  }

  async #add({ nodes, pods }: MachineState): Promise<void> {
    await this.#options.topology.add(nodes, pods);
    this.#state = { nodes: [...this.#state.nodes, ...nodes], pods: [...this.#state.pods, ...pods] };
    if (this.#options.agents !== undefined) return;
    const captured = pods.filter((pod) => pod.captured);
    await Promise.all(captured.map((pod) => this.#options.redirect(this.#options.topology.podNetns(pod.uid))));
  }

  /** The pod as its ztunnel is told of it; nothing if it is not, or by somebody else. */
  #captured(pod: PlannedPod): readonly LocalPod[] {
    if (!pod.captured || this.#options.agents !== undefined) return [];
    const { uid, name, namespace, serviceAccount } = pod;
    return [{ uid, name, namespace, serviceAccount, netns: this.#options.topology.podNetns(uid) }];
  }

  #startCommand(pod: PlannedPod): void {
    if (pod.command === undefined) return;
    const { say } = this.#options;
    const command = supervise({
      ...this.podPlace(pod),
      command: pod.command,
      restart: false,
      onLine: (line) => say(pod.name, line),
      onExit: (how) => say("ambit", `the command of pod ${pod.namespace}/${pod.name} ended: ${how}`),
    });
    this.#commands.set(pod.uid, command);
  }

  async #remove({ nodes, pods }: MachineState): Promise<void> {
    const { agents, topology } = this.#options;
    const uids = new Set(pods.map((pod) => pod.uid));
    const names = new Set(nodes.map((node) => node.name));
    // A ztunnel holds sockets in its pods: it lets go of them first.
    await agents?.remove(pods);
    await Promise.all(
      pods.flatMap((pod) => this.#captured(pod).map(({ uid }) => this.#ztunnels.removePod(pod.node, uid))),
    );
    await Promise.all([
      this.#waypoints.remove(uids, WAYPOINT_GRACE_MS),
      ...pods.map((pod) => this.#commands.get(pod.uid)?.stop(POD_GRACE_MS)),
    ]);
    for (const uid of uids) {
      this.#commands.delete(uid);
      await topology.removePod(uid);
    }
    for (const name of names) {
      await this.#ztunnels.remove(name, PROXY_GRACE_MS, async () => await agents?.stopNode(name));
      await topology.removeNode(name);
    }
    this.#state = {
      nodes: this.#state.nodes.filter((node) => !names.has(node.name)),
      pods: this.#state.pods.filter((pod) => !uids.has(pod.uid)),
    };
  }

  /** A node gets certificates for its own pods and for nobody else, as istiod has it (reference ztunnel.md 4). */
  async #sign(node: string, identity: string, csrPem: string): Promise<LocalCertificate> {
    const owns = this.#state.pods.some((pod) => pod.captured && pod.node === node && pod.identity === identity);
    if (!owns) throw new Error(`no captured pod with the identity ${identity} is on ${node}`);
    return await this.#options.sign(identity, csrPem);
  }
}

/** Neither is left to itself when the other fails. */
async function bothSettled(...tasks: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(tasks)).find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

function sameLabels(a: PlannedPod, b: PlannedPod): boolean {
  return JSON.stringify(a.labels) === JSON.stringify(b.labels);
}
