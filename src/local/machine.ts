/**
 * Makes the machine like the mesh file: namespaces and redirection, one ztunnel per node with its control channel, and the
 * commands of the pods. Every version of the file is one `apply`, which touches only what differs.
 */
import { join } from "node:path";
import type { LocalCertificate } from "../control/local/channel_client.ts";
import type { ChannelEvent } from "../control/local/channel_server.ts";
import type { MeshFile } from "../control/local/mesh_file.ts";
import { type NodeChannel, serveNode } from "../control/local/node_channel.ts";
import type { MeshResources } from "../mesh/types.ts";
import { type MachineState, planChange, type PlannedNode, type PlannedPod } from "./change_plan.ts";
import type { NodeAgents } from "./node_agents.ts";
import { supervise, type SupervisedProcess } from "./supervisor.ts";
import type { Topology } from "./topology.ts";

export interface MachineOptions {
  /** For the nodes' sockets; open to nobody else. */
  readonly directory: string;
  readonly topology: Topology;
  /** Makes a captured pod's traffic pass ztunnel. */
  redirect(netns: string): Promise<void>;
  /** Node agents that do that instead, as pods' labels say, and tell the ztunnels. */
  readonly agents?: NodeAgents | undefined;
  sign(identity: string, csrPem: string): Promise<LocalCertificate>;
  /** How to start a node's ztunnel, given the socket of its control channel, and that of its node agent if there is one. */
  ztunnel(
    node: PlannedNode,
    socket: string,
    agentSocket: string | undefined,
  ): { readonly command: readonly string[]; readonly env: Environment };
  /** Added to the environment of every pod's command. */
  readonly podEnv: Environment;
  /** A line for a person: who said it, and what. */
  say(who: string, line: string): void;
  /** How long a ztunnel may take to come up, in milliseconds. */
  readonly readyTimeoutMs?: number;
}

type Environment = Readonly<Record<string, string>>;

interface Place {
  readonly netns: string;
  readonly env: Environment;
}

interface NodeRuntime {
  readonly channel: NodeChannel;
  readonly ztunnel: SupervisedProcess;
}

/** On a loaded machine a runtime takes seconds to load and to prove its TLS. */
const READY_TIMEOUT_MS = 30_000;
/** ztunnel drains for 5 s by default; nobody is waiting for these connections to finish. */
const ZTUNNEL_GRACE_MS = 3_000;
const POD_GRACE_MS = 1_000;

export class Machine {
  readonly #options: MachineOptions;
  readonly #nodes = new Map<string, NodeRuntime>();
  readonly #commands = new Map<string, SupervisedProcess>();
  #state: MachineState = { nodes: [], pods: [] };
  #resources: MeshResources | undefined;

  constructor(options: MachineOptions) {
    this.#options = options;
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
    this.#resources = mesh.resources;
    await this.tellMesh();
    await this.#startNodes(plan.add.nodes, mesh);
    const newNodes = new Set(plan.add.nodes.map((node) => node.name));
    await this.#announce(plan.add.pods.filter((pod) => !newNodes.has(pod.node)));
    await agents?.add(plan.add.pods);
    await agents?.update(changed);
    for (const pod of plan.add.pods) this.#startCommand(pod);
    await this.#remove(plan.removeLast);
    this.#state = { nodes: mesh.nodes, pods: mesh.pods };
  }

  /** Tells every ztunnel the mesh as it is. With node agents a pod is reached through its ztunnel only while it is captured. */
  async tellMesh(): Promise<void> {
    const resources = this.#resources;
    if (resources === undefined) return;
    const told = this.#asCaptured(resources);
    await Promise.all([...this.#nodes.values()].map(({ channel }) => channel.setMesh(told)));
  }

  #asCaptured(resources: MeshResources): MeshResources {
    const { agents } = this.#options;
    if (agents === undefined) return resources;
    const own = new Set(this.#state.pods.map((pod) => pod.uid));
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
    await Promise.all([...this.#commands.values()].map((command) => command.stop(POD_GRACE_MS)));
    await Promise.all([...this.#nodes.values()].map(async ({ channel, ztunnel }) => {
      await ztunnel.stop(ZTUNNEL_GRACE_MS);
      await channel.close();
    }));
    await this.#options.agents?.stop();
    this.#commands.clear();
    this.#nodes.clear();
  }

  async #add({ nodes, pods }: MachineState): Promise<void> {
    await this.#options.topology.add(nodes, pods);
    this.#state = { nodes: [...this.#state.nodes, ...nodes], pods: [...this.#state.pods, ...pods] };
    if (this.#options.agents !== undefined) return;
    const captured = pods.filter((pod) => pod.captured);
    await Promise.all(captured.map((pod) => this.#options.redirect(this.#options.topology.podNetns(pod.uid))));
  }

  async #startNodes(nodes: readonly PlannedNode[], mesh: MeshFile): Promise<void> {
    for (const node of nodes) {
      const socket = join(this.#options.directory, `${node.name}.sock`);
      const channel = await serveNode({
        path: socket,
        node: node.name,
        sign: (identity, csr) => this.#sign(node.name, identity, csr),
        onEvent: (event) => this.#tellEvent(node.name, event),
      });
      await channel.setMesh(this.#asCaptured(mesh.resources));
      for (const pod of mesh.pods) if (pod.node === node.name) await this.#addToChannel(channel, pod);
      const agentSocket = await this.#options.agents?.startNode(node.name);
      const ztunnel = supervise({
        ...this.#options.ztunnel(node, socket, agentSocket),
        netns: this.#options.topology.nodeNetns(node.name),
        restart: true,
        onLine: (line) => this.#options.say(node.name, line),
        onExit: (how, restartInMs) =>
          this.#options.say(
            "ambit",
            `the ztunnel of ${node.name} ended: ${how}; starting it again in ${restartInMs} ms`,
          ),
      });
      this.#nodes.set(node.name, { channel, ztunnel });
    }
    await Promise.all(nodes.map((node) => this.#becomeReady(node.name)));
  }

  async #becomeReady(node: string): Promise<void> {
    const timeoutMs = this.#options.readyTimeoutMs ?? READY_TIMEOUT_MS;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<never>((_, reject) => {
      const text = `the ztunnel of ${node} did not come up within ${timeoutMs} ms; its own lines above say why`;
      timer = setTimeout(() => reject(new Error(text)), timeoutMs);
    });
    try {
      await Promise.race([this.#nodes.get(node)?.channel.ready, timeout]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Tells running ztunnels of new pods. (A new ztunnel is told of its pods with its first snapshot.) */
  async #announce(pods: readonly PlannedPod[]): Promise<void> {
    await Promise.all(pods.map((pod) => {
      const node = this.#nodes.get(pod.node);
      return node && this.#addToChannel(node.channel, pod);
    }));
  }

  async #addToChannel(channel: NodeChannel, pod: PlannedPod): Promise<void> {
    if (!pod.captured || this.#options.agents !== undefined) return;
    const { uid, name, namespace, serviceAccount } = pod;
    await channel.addPod({ uid, name, namespace, serviceAccount, netns: this.#options.topology.podNetns(uid) });
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
    const uids = new Set(pods.map((pod) => pod.uid));
    const names = new Set(nodes.map((node) => node.name));
    // A ztunnel holds sockets in its pods: it lets go of them first.
    await this.#options.agents?.remove(pods);
    await Promise.all(
      pods.map((pod) =>
        pod.captured && this.#options.agents === undefined
          ? this.#nodes.get(pod.node)?.channel.removePod(pod.uid)
          : undefined
      ),
    );
    await Promise.all(pods.map((pod) => this.#commands.get(pod.uid)?.stop(POD_GRACE_MS)));
    for (const uid of uids) {
      this.#commands.delete(uid);
      await this.#options.topology.removePod(uid);
    }
    for (const name of names) {
      const node = this.#nodes.get(name);
      this.#nodes.delete(name);
      await node?.ztunnel.stop(ZTUNNEL_GRACE_MS);
      await this.#options.agents?.stopNode(name);
      await node?.channel.close();
      await this.#options.topology.removeNode(name);
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

  #tellEvent(node: string, event: ChannelEvent): void {
    if (event.kind === "refused") {
      this.#options.say("ambit", `the ztunnel of ${node} refused ${event.message}: ${event.error}`);
    } else if (event.kind === "unanswered") {
      this.#options.say("ambit", `the ztunnel of ${node} did not answer ${event.message} in time`);
    }
  }
}

function sameLabels(a: PlannedPod, b: PlannedPod): boolean {
  return JSON.stringify(a.labels) === JSON.stringify(b.labels);
}
