/** The ztunnels of a mesh: in each node one `ambit ztunnel`, with a control channel of its own. */
import { join } from "node:path";
import type { LocalPod, MeshSnapshot } from "../control/local/channel_messages.ts";
import type { LocalCertificate } from "../control/local/channel_client.ts";
import type { ChannelEvent } from "../control/local/channel_server.ts";
import { type NodeChannel, serveNode } from "../control/local/node_channel.ts";
import type { PlannedNode } from "./change_plan.ts";
import { supervise, type SupervisedProcess } from "./supervisor.ts";
import { within } from "./within.ts";

export interface ZtunnelsOptions {
  /** For the channels' sockets; open to nobody else. */
  readonly directory: string;
  readonly netnsOf: (node: string) => string;
  sign(node: string, identity: string, csrPem: string): Promise<LocalCertificate>;
  /** How to start a node's ztunnel, given the socket of its control channel. */
  command(node: PlannedNode, socket: string): Promise<Command>;
  say(who: string, line: string): void;
  /** How long one may take to come up, in milliseconds. */
  readonly readyTimeoutMs: number;
}

export interface Command {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export class Ztunnels {
  readonly #options: ZtunnelsOptions;
  readonly #running = new Map<string, { readonly channel: NodeChannel; readonly process: SupervisedProcess }>();

  constructor(options: ZtunnelsOptions) {
    this.#options = options;
  }

  /** Resolves when those of all `nodes` serve. `podsOf`: what a node captures from its start. */
  async start(
    nodes: readonly PlannedNode[],
    mesh: MeshSnapshot,
    podsOf: (node: string) => readonly LocalPod[],
  ): Promise<void> {
    const { directory, netnsOf, sign, command, say, readyTimeoutMs } = this.#options;
    for (const node of nodes) {
      const { name } = node;
      const socket = join(directory, `${name}.sock`);
      const channel = await serveNode({
        path: socket,
        node: name,
        sign: (identity, csrPem) => sign(name, identity, csrPem),
        onEvent: (event) => this.#tellEvent(name, event),
      });
      await channel.setMesh(mesh);
      for (const pod of podsOf(name)) await channel.addPod(pod);
      const process = supervise({
        ...await command(node, socket),
        netns: netnsOf(name),
        restart: true,
        onLine: (line) => say(name, line),
        onExit: (how, restartInMs) =>
          say("ambit", `the ztunnel of ${name} ended: ${how}; starting it again in ${restartInMs} ms`),
      });
      this.#running.set(name, { channel, process });
    }
    await Promise.all(nodes.map(({ name }) => {
      const text = `the ztunnel of ${name} did not come up within ${readyTimeoutMs} ms; its own lines above say why`;
      return within(this.#running.get(name)!.channel.ready, readyTimeoutMs, text);
    }));
  }

  /** Tells all of them. */
  async setMesh(mesh: MeshSnapshot): Promise<void> {
    await Promise.all([...this.#running.values()].map(({ channel }) => channel.setMesh(mesh)));
  }

  /** A pod that the node captures from now on. */
  async addPod(node: string, pod: LocalPod): Promise<void> {
    await this.#running.get(node)?.channel.addPod(pod);
  }

  async removePod(node: string, uid: string): Promise<void> {
    await this.#running.get(node)?.channel.removePod(uid);
  }

  /** `then`: when its ztunnel is gone, and before its channel is. */
  async remove(node: string, graceMs: number, then?: () => Promise<void>): Promise<void> {
    const running = this.#running.get(node);
    this.#running.delete(node);
    await running?.process.stop(graceMs);
    await then?.();
    await running?.channel.close();
  }

  async stop(graceMs: number): Promise<void> {
    await Promise.all([...this.#running.keys()].map((node) => this.remove(node, graceMs)));
  }

  #tellEvent(node: string, event: ChannelEvent): void {
    const { say } = this.#options;
    if (event.kind === "refused") say("ambit", `the ztunnel of ${node} refused ${event.message}: ${event.error}`);
    else if (event.kind === "unanswered") {
      say("ambit", `the ztunnel of ${node} did not answer ${event.message} in time`);
    }
  }
}
