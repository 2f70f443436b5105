/** What the ztunnel of a node is told by `ambit local`: the mesh, its pods, and every later change. */
import { parseMesh, type ResourceError } from "../../mesh/parse.ts";
import type { MeshResources } from "../../mesh/types.ts";
import { ChannelClient, type ChannelClientOptions, type LocalCertificate } from "./channel_client.ts";
import type { LocalPod, ToldMessage } from "./channel_messages.ts";

export type { LocalPod } from "./channel_messages.ts";

export interface LocalControlOptions
  extends Pick<ChannelClientOptions, "path" | "onDisconnect" | "backoffMs" | "requestTimeoutMs"> {
  readonly node: string;
  /** The complete mesh state, every time; the callee finds the difference. A throw becomes the parent's log line. */
  onMesh(resources: MeshResources): void | Promise<void>;
  /** A pod of this node. After a reconnect pods that are already known are added again: same uid, same netns. */
  onPodAdd(pod: LocalPod): void | Promise<void>;
  onPodDel(uid: string): void | Promise<void>;
  /** Every pod of the snapshot has been told; pods the callee knows and was not told about since the (re)connect are gone. */
  onPodsDone(): void | Promise<void>;
}

export interface LocalControl {
  /** As {@link ChannelClient.requestCertificate}. */
  requestCertificate(identity: string, csrPem: string): Promise<LocalCertificate>;
  /** Ends the channel for good. Pending requests reject. */
  close(): void;
}

/** Connects, and reconnects until `close`. Returns at once. */
export function connectLocalControl(options: LocalControlOptions): LocalControl {
  const { path, node, onDisconnect, backoffMs, requestTimeoutMs } = options;
  return new ChannelClient({
    path,
    self: { role: "ztunnel", name: node },
    handle: (message) => handle(message, options),
    onDisconnect,
    backoffMs,
    requestTimeoutMs,
  });
}

async function handle(message: ToldMessage, options: LocalControlOptions): Promise<void> {
  switch (message.type) {
    case "mesh": {
      const parsed = parseMesh(message.resources);
      if (!parsed.ok) throw new Error(`the mesh cannot be read: ${describe(parsed.errors[0]!)}`);
      return await options.onMesh(parsed.resources);
    }
    case "pod_add": {
      const { uid, netns, name, namespace, serviceAccount } = message;
      return await options.onPodAdd({ uid, netns, name, namespace, serviceAccount });
    }
    case "pod_del":
      return await options.onPodDel(message.uid);
    case "pods_done":
      return await options.onPodsDone();
    case "resources":
      throw new Error("resources are for waypoints");
  }
}

function describe({ path, message }: ResourceError): string {
  return `${path.join(".")}: ${message}`;
}
