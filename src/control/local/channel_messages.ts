/**
 * Messages between `ambit local` and a proxy that it started, the ztunnel of a node or a waypoint: one JSON object a line,
 * both ways.
 *
 * The parent is the control plane (mesh state, pods, compiled configuration, certificates), the child a data plane. A
 * message that does not have exactly the shape below is an error of the peer: the reader of it closes the channel.
 */
import { Buffer } from "node:buffer";

/** Version of this protocol; the child names it in its hello. */
export const CHANNEL_VERSION = 2;

/** Longest line either side accepts, in bytes: a snapshot of about 100,000 workloads fits. */
export const MAX_LINE_BYTES = 64 * 1024 * 1024;

/** The complete state of the mesh as it travels; `src/mesh/parse.ts` makes resources of it. */
export interface MeshSnapshot {
  readonly workloads: readonly unknown[];
  readonly services: readonly unknown[];
  readonly policies: readonly unknown[];
}

/** A captured pod of the child's node. `netns` is a path that `setns` takes. */
export interface LocalPod {
  readonly uid: string;
  readonly netns: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** Whose channel it is: a node's name for its ztunnel, `namespace/name` for a waypoint. */
export interface ChannelPeer {
  readonly role: "ztunnel" | "waypoint";
  readonly name: string;
}

export type ChildMessage =
  | ({ readonly type: "hello"; readonly version: number; readonly pid: number } & ChannelPeer)
  | { readonly type: "csr"; readonly id: number; readonly identity: string; readonly csr: string }
  /** It serves: said once, and again on each new connection. */
  | { readonly type: "ready" }
  | { readonly type: "ack"; readonly id: number; readonly error?: string };

/** One type of a waypoint's configuration, as in a delta push of istiod. */
export interface ResourcesMessage {
  readonly type: "resources";
  readonly id: number;
  readonly typeUrl: string;
  /** Each an envoy.service.discovery.v3.Resource, in base64. */
  readonly resources: readonly string[];
  readonly removed: readonly string[];
}

/** What a child acknowledges. */
export type ToldMessage =
  | { readonly type: "mesh"; readonly id: number; readonly resources: MeshSnapshot }
  | ({ readonly type: "pod_add"; readonly id: number } & LocalPod)
  | { readonly type: "pod_del"; readonly id: number; readonly uid: string }
  | { readonly type: "pods_done"; readonly id: number }
  | ResourcesMessage;

export type CertificateMessage =
  | {
    readonly type: "certificate";
    readonly id: number;
    readonly chain: readonly string[];
    readonly roots: readonly string[];
  }
  | { readonly type: "certificate"; readonly id: number; readonly error: string };

export type ParentMessage = ToldMessage | CertificateMessage;

/** The peer broke the protocol. The message says how; the channel is not usable afterwards. */
export class ChannelProtocolError extends Error {
  override readonly name = "ChannelProtocolError";
}

/** The line that carries `message`, newline included. */
export function encodeMessage(message: ChildMessage | ParentMessage): string {
  return JSON.stringify(message) + "\n";
}

/** Reads a line from the child. Throws {@link ChannelProtocolError}. */
export function decodeChildMessage(line: string): ChildMessage {
  const fields = decodeObject(line);
  switch (fields.type) {
    case "hello":
      return {
        type: "hello",
        role: role(fields),
        name: text(fields, "name"),
        version: integer(fields, "version"),
        pid: integer(fields, "pid"),
      };
    case "csr":
      return { type: "csr", id: integer(fields, "id"), identity: text(fields, "identity"), csr: text(fields, "csr") };
    case "ready":
      return { type: "ready" };
    case "ack":
      return fields.error === undefined
        ? { type: "ack", id: integer(fields, "id") }
        : { type: "ack", id: integer(fields, "id"), error: text(fields, "error") };
    default:
      throw unknownType(fields);
  }
}

/** Reads a line from the parent. Throws {@link ChannelProtocolError}. */
export function decodeParentMessage(line: string): ParentMessage {
  const fields = decodeObject(line);
  const id = integer(fields, "id");
  switch (fields.type) {
    case "mesh":
      return { type: "mesh", id, resources: decodeSnapshot(fields.resources) };
    case "pod_add":
      return {
        type: "pod_add",
        id,
        uid: text(fields, "uid"),
        netns: text(fields, "netns"),
        name: text(fields, "name"),
        namespace: text(fields, "namespace"),
        serviceAccount: text(fields, "serviceAccount"),
      };
    case "pod_del":
      return { type: "pod_del", id, uid: text(fields, "uid") };
    case "pods_done":
      return { type: "pods_done", id };
    case "resources":
      return {
        type: "resources",
        id,
        typeUrl: text(fields, "typeUrl"),
        resources: base64s(fields, "resources"),
        removed: texts(fields, "removed"),
      };
    case "certificate":
      return fields.error === undefined
        ? { type: "certificate", id, chain: texts(fields, "chain"), roots: texts(fields, "roots") }
        : { type: "certificate", id, error: text(fields, "error") };
    default:
      throw unknownType(fields);
  }
}

type Fields = Readonly<Record<string, unknown>>;

function decodeObject(line: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new ChannelProtocolError("a line is not JSON");
  }
  if (!isObject(value)) throw new ChannelProtocolError("a line is not a JSON object");
  return value;
}

function decodeSnapshot(value: unknown): MeshSnapshot {
  if (!isObject(value)) throw new ChannelProtocolError(`"resources" is not an object`);
  const { workloads, services, policies } = value;
  if (!Array.isArray(workloads) || !Array.isArray(services) || !Array.isArray(policies)) {
    throw new ChannelProtocolError(`"resources" lacks one of the lists workloads, services, policies`);
  }
  return { workloads, services, policies };
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function role(fields: Fields): ChannelPeer["role"] {
  const value = fields.role;
  if (value !== "ztunnel" && value !== "waypoint") throw new ChannelProtocolError(`"role" is not ztunnel or waypoint`);
  return value;
}

function text(fields: Fields, key: string): string {
  const value = fields[key];
  if (typeof value !== "string") throw new ChannelProtocolError(`"${key}" is not a string`);
  return value;
}

function texts(fields: Fields, key: string): readonly string[] {
  const value = fields[key];
  if (!Array.isArray(value) || !value.every((item): item is string => typeof item === "string")) {
    throw new ChannelProtocolError(`"${key}" is not a list of strings`);
  }
  return value;
}

/** The runtimes' own decoder passes over what is none: only what it gives back unchanged is base64. */
function base64s(fields: Fields, key: string): readonly string[] {
  const values = texts(fields, key);
  for (const value of values) {
    if (Buffer.from(value, "base64").toString("base64") !== value) {
      throw new ChannelProtocolError(`"${key}" holds what is not base64`);
    }
  }
  return values;
}

function integer(fields: Fields, key: string): number {
  const value = fields[key];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw new ChannelProtocolError(`"${key}" is not a whole number`);
  }
  return Math.abs(value); // JSON knows a minus zero
}

function unknownType(fields: Fields): ChannelProtocolError {
  return new ChannelProtocolError(`unknown message type ${JSON.stringify(fields.type)?.slice(0, 64)}`);
}
