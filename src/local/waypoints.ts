/**
 * The waypoints of a mesh: in the pod of each Gateway one `ambit waypoint`, with a control channel of its own, over which it
 * gets what istiod would send it.
 *
 * A change comes in two steps around what the ztunnels are told, so that no request meets a waypoint that does not know its
 * service: before, a waypoint learns what it will be asked, and unlearns nothing; after, it has what the file says.
 */
import { join } from "node:path";
import type { LocalCertificate } from "../control/local/channel_client.ts";
import type { ChannelEvent } from "../control/local/channel_server.ts";
import type { MeshFile, MeshPod, MeshWaypoint } from "../control/local/mesh_file.ts";
import { compileWaypoint } from "../control/local/waypoint/mod.ts";
import { serveWaypoint, type WaypointChannel } from "../control/local/waypoint_channel.ts";
import type { MeshResources } from "../mesh/types.ts";
import { supervise, type SupervisedProcess } from "./supervisor.ts";
import { within } from "./within.ts";
import type { Command } from "./ztunnels.ts";

export interface WaypointsOptions {
  /** For the channels' sockets; open to nobody else. */
  readonly directory: string;
  readonly netnsOf: (uid: string) => string;
  sign(identity: string, csrPem: string): Promise<LocalCertificate>;
  /** How to start the waypoint of a pod, given the socket of its control channel. */
  command(pod: MeshPod, socket: string): Command;
  say(who: string, line: string): void;
  /** How long one may take to come up, in milliseconds. */
  readonly readyTimeoutMs: number;
}

type Parts = Pick<MeshWaypoint, "gateway" | "services" | "workloads">;

interface Running {
  readonly pod: MeshPod;
  readonly channel: WaypointChannel;
  readonly process: SupervisedProcess;
  parts: Parts;
  /** Rejects with the first that it refuses: who waits for it to come up need not wait any longer. */
  readonly refused: PromiseWithResolvers<never>;
}

export class Waypoints {
  readonly #options: WaypointsOptions;
  readonly #running = new Map<string, Running>();
  #kube: MeshFile["kube"] | undefined;
  #sockets = 0;

  constructor(options: WaypointsOptions) {
    this.#options = options;
  }

  /**
   * Starts those that are new and tells the others of what is to come. Resolves when each serves what the ztunnels will lead
   * to it. `added`: pods that nobody can reach yet. Rejects when one does not come up, or refuses what it is told.
   */
  async prepare(file: MeshFile, mesh: MeshResources, added: ReadonlySet<string>): Promise<void> {
    this.#kube = file.kube;
    const reachable = { ...mesh, workloads: mesh.workloads.filter(({ uid }) => !added.has(uid)) };
    const present = new Set<string>(mesh.services.map(({ namespace, hostname }) => `${namespace}/${hostname}`));
    await Promise.all(file.waypoints.map(async (waypoint) => {
      const running = this.#running.get(waypoint.pod.uid);
      if (running === undefined) return await this.#becomeReady(await this.#start(waypoint, mesh));
      const { services, workloads } = running.parts;
      const leaving = [...services].filter((key) => present.has(key));
      await this.#tell(running, reachable, {
        gateway: waypoint.gateway,
        services: new Set([...waypoint.services, ...leaving]),
        workloads: new Set([...waypoint.workloads, ...workloads]),
      });
      running.parts = waypoint;
      await this.#becomeReady(running);
    }));
  }

  /** Tells every waypoint the mesh as it is. Rejects when one refuses it. */
  async settle(mesh: MeshResources): Promise<void> {
    await Promise.all([...this.#running.values()].map((running) => this.#tell(running, mesh, running.parts)));
  }

  /** Those of pods that are about to go. */
  async remove(uids: Iterable<string>, graceMs: number): Promise<void> {
    await Promise.all([...uids].map(async (uid) => {
      const running = this.#running.get(uid);
      if (running === undefined) return;
      this.#running.delete(uid);
      await running.process.stop(graceMs);
      await running.channel.close();
    }));
  }

  stop(graceMs: number): Promise<void> {
    return this.remove([...this.#running.keys()], graceMs);
  }

  async #start(waypoint: MeshWaypoint, mesh: MeshResources): Promise<Running> {
    const { directory, netnsOf, sign, command, say } = this.#options;
    const { pod } = waypoint;
    const name = nameOf(pod);
    const refused = Promise.withResolvers<never>();
    refused.promise.catch(() => {});
    // A path of a socket is short, and names are not.
    const socket = join(directory, `waypoint-${++this.#sockets}.sock`);
    const channel = await serveWaypoint({
      path: socket,
      name,
      async sign(identity, csrPem) {
        if (identity !== pod.identity) throw new Error(`${identity} is not the identity of the waypoint ${name}`);
        return await sign(identity, csrPem);
      },
      onEvent: (event) => {
        this.#tellEvent(name, event);
        if (event.kind === "refused") refused.reject(new Error(refusal(pod)));
      },
    });
    const process = supervise({
      ...command(pod, socket),
      netns: netnsOf(pod.uid),
      restart: true,
      onLine: (line) => say(pod.name, line),
      onExit: (how, restartInMs) =>
        say("ambit", `the waypoint ${name} ended: ${how}; starting it again in ${restartInMs} ms`),
    });
    const running: Running = { pod, channel, process, parts: waypoint, refused };
    this.#running.set(pod.uid, running);
    await this.#tell(running, mesh, waypoint);
    return running;
  }

  async #tell({ pod, channel }: Running, mesh: MeshResources, parts: Parts): Promise<void> {
    const kube = this.#kube;
    if (kube === undefined) return;
    const { resources } = compileWaypoint({ ...parts, mesh, kube });
    const delivery = await channel.setResources(resources);
    if (delivery.kind === "refused") throw new Error(refusal(pod));
  }

  async #becomeReady({ pod, channel, refused }: Running): Promise<void> {
    const { readyTimeoutMs } = this.#options;
    const text = `the waypoint ${nameOf(pod)} did not come up within ${readyTimeoutMs} ms; its own lines above say why`;
    await within(Promise.race([channel.ready, refused.promise]), readyTimeoutMs, text);
  }

  #tellEvent(name: string, event: ChannelEvent): void {
    const { say } = this.#options;
    if (event.kind === "refused") say("ambit", `the waypoint ${name} refused ${event.message}: ${event.error}`);
    else if (event.kind === "unanswered") say("ambit", `the waypoint ${name} did not answer ${event.message} in time`);
  }
}

function refusal(pod: MeshPod): string {
  return `the waypoint ${nameOf(pod)} refused what it was told, as said above`;
}

function nameOf({ namespace, name }: Pick<MeshPod, "namespace" | "name">): string {
  return `${namespace}/${name}`;
}
