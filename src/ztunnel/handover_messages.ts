/**
 * What two ztunnels of one node tell each other during an upgrade, one JSON object a SOCK_SEQPACKET message: the new one asks for the
 * listening sockets of a pod, the old one sends them. A message that is not exactly of these shapes is refused.
 */

/** Of a pod in a network namespace, which must be the one the old process listens in. */
export interface HandoverRequest {
  readonly uid: string;
  /** Device and inode. */
  readonly netns: string;
}

/** `sockets` names the descriptors of the message, in order; none: it does not serve that pod. */
export interface HandoverAnswer {
  readonly uid: string;
  readonly sockets: readonly string[];
}

const VERSION = 1;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export function encodeHandoverRequest({ uid, netns }: HandoverRequest): Uint8Array {
  return encoder.encode(JSON.stringify({ version: VERSION, uid, netns }));
}

export function encodeHandoverAnswer({ uid, sockets }: HandoverAnswer): Uint8Array {
  return encoder.encode(JSON.stringify({ version: VERSION, uid, sockets }));
}

/** Undefined when it is none. */
export function decodeHandoverRequest(bytes: Uint8Array): HandoverRequest | undefined {
  const message = decode(bytes);
  if (message === undefined || typeof message.uid !== "string" || typeof message.netns !== "string") return undefined;
  return { uid: message.uid, netns: message.netns };
}

/** Undefined when it is none. */
export function decodeHandoverAnswer(bytes: Uint8Array): HandoverAnswer | undefined {
  const message = decode(bytes);
  if (message === undefined || typeof message.uid !== "string" || !Array.isArray(message.sockets)) return undefined;
  if (!message.sockets.every((name) => typeof name === "string")) return undefined;
  if (new Set(message.sockets).size !== message.sockets.length) return undefined;
  return { uid: message.uid, sockets: message.sockets };
}

function decode(bytes: Uint8Array): Readonly<Record<string, unknown>> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(bytes));
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const message = value as Readonly<Record<string, unknown>>;
  return message.version === VERSION ? message : undefined;
}
