/**
 * The channel to one waypoint. It keeps the configuration that the waypoint should have: one that comes (back) is told all of
 * it, and after that only what differs.
 */
import { Buffer } from "node:buffer";
import { type ChannelOptions, ChannelServer, type Delivery } from "./channel_server.ts";
import { idOf, pushChanges, pushWhole, type ResourceId, type ResourcePush } from "./resource_pushes.ts";
import type { CompiledResource } from "./waypoint/world.ts";

export interface WaypointChannelOptions extends ChannelOptions {
  /** `namespace/name` of its Gateway. */
  readonly name: string;
}

/** The first configuration is in force when the workers are up, which takes seconds on a loaded machine. */
const ACK_TIMEOUT_MS = 30_000;

export interface WaypointChannel {
  /** Resolves once a waypoint has taken in what it was told, and serves; rejects when the channel is closed before. */
  readonly ready: Promise<void>;
  /** What the waypoint has from now on. Resolves with what became of it: the first delivery that failed, if one did. */
  setResources(resources: readonly CompiledResource[]): Promise<Delivery>;
  close(): Promise<void>;
}

/** Listens; rejects when the socket cannot be made. */
export async function serveWaypoint(options: WaypointChannelOptions): Promise<WaypointChannel> {
  const { name, path, sign, onEvent, ackTimeoutMs = ACK_TIMEOUT_MS } = options;
  let current: readonly CompiledResource[] = [];
  let pid: number | undefined;
  /** Everything that the waypoint of this pid was ever told: a connection may be lost before what was removed arrives. */
  const told = new Map<string, ResourceId>();
  const ready = Promise.withResolvers<void>();
  ready.promise.catch(() => {}); // who does not wait for it does not mind
  const serves = Promise.withResolvers<void>();

  const server = new ChannelServer({
    path,
    sign,
    onEvent,
    ackTimeoutMs,
    peer: { role: "waypoint", name },
    onHello(newPid) {
      if (newPid !== pid) told.clear();
      pid = newPid;
      void tell(pushWhole(current, [...told.values()]));
    },
    onReady: () => serves.resolve(),
  });

  async function tell(pushes: readonly ResourcePush[]): Promise<Delivery> {
    const deliveries = pushes.map(({ typeUrl, resources, removed }) => {
      for (const resource of resources) told.set(idOf(resource), { typeUrl, name: resource.name });
      const texts = resources.map(({ bytes }) => Buffer.from(bytes).toString("base64"));
      return server.tell({ type: "resources", typeUrl, resources: texts, removed });
    });
    const outcomes = await Promise.all(deliveries);
    const failed = outcomes.find(({ kind }) => kind !== "acknowledged");
    if (failed !== undefined) return failed;
    if (pushes.length > 0) void serves.promise.then(ready.resolve);
    return { kind: "acknowledged" };
  }

  await server.listen();
  return {
    ready: ready.promise,
    setResources(resources) {
      const pushes = pushChanges(current, resources);
      current = resources;
      return tell(pushes);
    },
    async close() {
      ready.reject(new Error(`the control channel of waypoint ${name} is closed`));
      await server.close();
    },
  };
}
