/**
 * Netlink, netlink(7): questions and orders to the kernel's tables of one network namespace, answered within the call.
 *
 * A socket belongs for life to the namespace it was made in. Functions return `-errno` on failure and never throw for what the
 * kernel refuses.
 */
import { EAGAIN, EINTR, ETIMEDOUT } from "./errno.ts";
import { errnoWord, libc } from "./libc.ts";
import { insideNamespace } from "./netns.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
const NLM_F_DUMP = 0x300;
/** The table changed while it was read. */
const NLM_F_DUMP_INTR = 0x10;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
export const NLMSG_HEADER_BYTES = 16;
const NLA_HEADER_BYTES = 4;
/** Without the flags for nested values and byte order. */
const NLA_TYPE_MASK = 0x3fff;

/** As upstream for a link: a table that changes that often is not going to hold still. */
const DUMP_TRIES = 5;

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** What follows the header. */
  readonly body: Uint8Array;
}

/** A socket in the namespace of this descriptor. The caller closes it. */
export function openNetlink(namespace: number, protocol: number): number {
  return insideNamespace(namespace, () => {
    const fd = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    return fd < 0 ? -errnoWord[0] : fd;
  });
}

let lastSequence = 0;

/** One message; `flags` are added to NLM_F_REQUEST. */
export function netlinkMessage(type: number, flags: number, body: Uint8Array, sequence = ++lastSequence): Uint8Array {
  const message = new Uint8Array(NLMSG_HEADER_BYTES + align(body.length));
  const view = new DataView(message.buffer);
  view.setUint32(0, NLMSG_HEADER_BYTES + body.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags | NLM_F_REQUEST, true);
  view.setUint32(8, sequence, true);
  message.set(body, NLMSG_HEADER_BYTES);
  return message;
}

/** Gives an order and waits for its acknowledgement: 0, or `-errno`. */
export function netlinkOrder(fd: number, type: number, flags: number, body: Uint8Array): number {
  const sequence = ++lastSequence;
  const sent = sendNetlink(fd, netlinkMessage(type, flags | NLM_F_ACK, body, sequence));
  return sent < 0 ? sent : receiveAck(fd, sequence);
}

/** Sends messages that are written already, as one unit. */
export function sendNetlink(fd: number, bytes: Uint8Array): number {
  return libc.send(fd, bytes, bytes.length, 0) < 0 ? -errnoWord[0] : 0;
}

/** The kernel's word on the message with this sequence, or the first refusal of an earlier one of the same unit: 0, or `-errno`. */
export function receiveAck(fd: number, sequence: number): number {
  while (true) {
    const messages = receive(fd);
    if (typeof messages === "number") return messages;
    for (const message of messages) {
      if (message.type !== NLMSG_ERROR) continue;
      const error = errorOf(message);
      if (message.sequence === sequence || error < 0) return error;
    }
  }
}

/** Asks one question that has one answer. */
export function netlinkGet(fd: number, type: number, body: Uint8Array): NetlinkMessage | number {
  const sequence = ++lastSequence;
  const sent = sendNetlink(fd, netlinkMessage(type, 0, body, sequence));
  if (sent < 0) return sent;
  while (true) {
    const messages = receive(fd);
    if (typeof messages === "number") return messages;
    const answer = messages.find((message) => message.sequence === sequence);
    if (answer !== undefined) return answer.type === NLMSG_ERROR ? errorOf(answer) : answer;
  }
}

/** All entries of a table. */
export function netlinkDump(fd: number, type: number, body: Uint8Array): readonly NetlinkMessage[] | number {
  for (let tries = 1;; tries++) {
    const sequence = ++lastSequence;
    const sent = sendNetlink(fd, netlinkMessage(type, NLM_F_DUMP, body, sequence));
    if (sent < 0) return sent;
    const found: NetlinkMessage[] = [];
    let interrupted = false;
    let error: number | undefined;
    while (error === undefined) {
      const messages = receive(fd);
      if (typeof messages === "number") return messages;
      for (const message of messages) {
        if (message.sequence !== sequence) continue;
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) error = errorOf(message);
        else found.push(message);
      }
    }
    if (error === -EINTR || interrupted) {
      if (tries < DUMP_TRIES) continue;
      return -EINTR;
    }
    return error < 0 ? error : found;
  }
}

/** The kernel packs a dump into pieces of at most 32 KiB, or of what was offered. */
const buffer = new Uint8Array(new ArrayBuffer(64 * 1024));

/** The messages of one datagram, as copies. */
function receive(fd: number): readonly NetlinkMessage[] | number {
  const length = libc.recv(fd, buffer, buffer.length, 0);
  const code = length < 0 ? errnoWord[0] : 0;
  // The kernel answers before `send` returns: nothing there means nothing will come.
  if (length < 0) return code === EAGAIN ? -ETIMEDOUT : -code;
  return readMessages(buffer.slice(0, length));
}

/** Cuts a datagram into messages; what is cut off at the end is left out. */
export function readMessages(bytes: Uint8Array): readonly NetlinkMessage[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at + NLMSG_HEADER_BYTES <= bytes.length;) {
    const length = view.getUint32(at, true);
    if (length < NLMSG_HEADER_BYTES || at + length > bytes.length) break;
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      body: bytes.subarray(at + NLMSG_HEADER_BYTES, at + length),
    });
    at += align(length);
  }
  return messages;
}

/** 0 for an acknowledgement, otherwise `-errno`, which is what the kernel writes there. */
function errorOf({ body }: NetlinkMessage): number {
  return body.length < 4 ? 0 : new DataView(body.buffer, body.byteOffset).getInt32(0, true);
}

/** Attributes by type, the last of each; what is cut off at the end is left out. */
export function readAttributes(bytes: Uint8Array, start = 0): ReadonlyMap<number, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const attributes = new Map<number, Uint8Array>();
  for (let at = start; at + NLA_HEADER_BYTES <= bytes.length;) {
    const length = view.getUint16(at, true);
    if (length < NLA_HEADER_BYTES || at + length > bytes.length) break;
    attributes.set(view.getUint16(at + 2, true) & NLA_TYPE_MASK, bytes.subarray(at + NLA_HEADER_BYTES, at + length));
    at += align(length);
  }
  return attributes;
}

/** An attribute with its padding. */
export function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(NLA_HEADER_BYTES + align(value.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, NLA_HEADER_BYTES + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, NLA_HEADER_BYTES);
  return bytes;
}

/** A number as rtnetlink has it, in the machine's order: little-endian on x86-64 and arm64. */
export function u32Attribute(type: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return attribute(type, bytes);
}

/** A number as nfnetlink has it, in network order. */
export function beU32Attribute(type: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, false);
  return attribute(type, bytes);
}

/** Text with the zero that ends it. */
export function textAttribute(type: number, text: string): Uint8Array {
  return attribute(type, new TextEncoder().encode(`${text}\0`));
}

/** 0 when there is no such number. */
export function readU32(value: Uint8Array | undefined, littleEndian: boolean): number {
  if (value === undefined || value.length < 4) return 0;
  return new DataView(value.buffer, value.byteOffset).getUint32(0, littleEndian);
}

export function readText(value: Uint8Array | undefined): string {
  return new TextDecoder().decode(value ?? new Uint8Array()).replace(/\0.*$/s, "");
}

export function joinBytes(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function align(length: number): number {
  return length + 3 & ~3;
}
