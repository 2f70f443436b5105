/** What a waypoint is told by `ambit local`: its compiled configuration, as a small istiod would push it. */
import { Buffer } from "node:buffer";
import type { Rejection, XdsPush } from "../xds/push.ts";
import { ChannelClient, type ChannelClientOptions, type LocalCertificate } from "./channel_client.ts";
import type { ToldMessage } from "./channel_messages.ts";

export interface WaypointControlOptions
  extends Pick<ChannelClientOptions, "path" | "onDisconnect" | "backoffMs" | "requestTimeoutMs"> {
  /** `namespace/name` of its Gateway. */
  readonly name: string;
  /** Resolves, with what it refused, when the push is in force. */
  apply(push: XdsPush): Promise<readonly Rejection[]>;
}

export interface WaypointControl {
  /** As {@link ChannelClient.requestCertificate}, but waits for the first connection. */
  requestCertificate(identity: string, csrPem: string): Promise<LocalCertificate>;
  /** From now on it serves. */
  ready(): void;
  /** Ends the channel for good. Pending requests reject. */
  close(): void;
}

/** An acknowledgement is a line for a person. */
const MAX_REASON_CHARS = 4_000;

/** Connects, and reconnects until `close`. Returns at once. */
export function connectWaypointControl(options: WaypointControlOptions): WaypointControl {
  const { path, name, apply, onDisconnect, backoffMs, requestTimeoutMs } = options;
  const { promise: connected, resolve: noteConnected } = Promise.withResolvers<void>();
  let serves = false;
  const channel = new ChannelClient({
    path,
    self: { role: "waypoint", name },
    handle: (message) => handle(message, apply),
    onConnect() {
      noteConnected();
      if (serves) channel.send({ type: "ready" });
    },
    onDisconnect,
    backoffMs,
    requestTimeoutMs,
  });
  return {
    async requestCertificate(identity, csrPem) {
      await connected;
      return await channel.requestCertificate(identity, csrPem);
    },
    ready() {
      serves = true;
      channel.send({ type: "ready" });
    },
    close: () => channel.close(),
  };
}

async function handle(message: ToldMessage, apply: WaypointControlOptions["apply"]): Promise<void> {
  if (message.type !== "resources") throw new Error(`a message ${message.type} is for ztunnels`);
  const { typeUrl, removed } = message;
  const resources = message.resources.map((text) => new Uint8Array(Buffer.from(text, "base64")));
  const rejections = await apply({ typeUrl, resources, removed });
  if (rejections.length === 0) return;
  throw new Error(rejections.map(({ name, reason }) => `${name}: ${reason}`).join("; ").slice(0, MAX_REASON_CHARS));
}
