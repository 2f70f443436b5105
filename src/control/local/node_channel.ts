/**
 * The channel to the ztunnel of one node. It keeps what the node should know: a ztunnel that comes (back) is told all of it,
 * mesh, pods, end of the snapshot, and after that every change.
 */
import { type ChannelOptions, ChannelServer, type Delivery } from "./channel_server.ts";
import type { LocalPod, MeshSnapshot } from "./channel_messages.ts";

export interface NodeChannelOptions extends ChannelOptions {
  readonly node: string;
}

export interface NodeChannel {
  /** Resolves once a ztunnel has acknowledged its first whole snapshot; rejects when the channel is closed before. */
  readonly ready: Promise<void>;
  setMesh(snapshot: MeshSnapshot): Promise<Delivery>;
  addPod(pod: LocalPod): Promise<Delivery>;
  removePod(uid: string): Promise<Delivery>;
  close(): Promise<void>;
}

/** Listens; rejects when the socket cannot be made. */
export async function serveNode(options: NodeChannelOptions): Promise<NodeChannel> {
  const { node, path, sign, onEvent, ackTimeoutMs } = options;
  const pods = new Map<string, LocalPod>();
  let mesh: MeshSnapshot = { workloads: [], services: [], policies: [] };
  const ready = Promise.withResolvers<void>();
  ready.promise.catch(() => {}); // who does not wait for it does not mind

  const server = new ChannelServer({
    path,
    sign,
    onEvent,
    ackTimeoutMs,
    peer: { role: "ztunnel", name: node },
    onHello() {
      void server.tell({ type: "mesh", resources: mesh });
      for (const pod of pods.values()) void server.tell({ type: "pod_add", ...pod });
      void server.tell({ type: "pods_done" }).then((delivery) => {
        if (delivery.kind === "acknowledged") ready.resolve();
      });
    },
  });
  await server.listen();
  return {
    ready: ready.promise,
    setMesh(snapshot) {
      mesh = snapshot;
      return server.tell({ type: "mesh", resources: snapshot });
    },
    addPod(pod) {
      pods.set(pod.uid, pod);
      return server.tell({ type: "pod_add", ...pod });
    },
    removePod(uid) {
      pods.delete(uid);
      return server.tell({ type: "pod_del", uid });
    },
    async close() {
      ready.reject(new Error(`the control channel of ${node} is closed`));
      await server.close();
    },
  };
}
