/**
 * Unix SOCK_SEQPACKET sockets and descriptors passed over them (SCM_RIGHTS, unix(7)): one message a call, never part of one.
 *
 * Every descriptor that comes in is handed to the caller, who owns it, or closed; none is lost on the way, whatever else the
 * message holds. Memory whose address the kernel reads through `msghdr` is allocated once and kept. Failures are `-errno`.
 */
import { EINVAL, ENAMETOOLONG } from "./errno.ts";
import { errnoWord, libc } from "./libc.ts";
import { runtime } from "./runtime.ts";
import { closeDescriptor } from "./socket.ts";

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const MSG_TRUNC = 0x20;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** `sun_path` with its final zero. */
const PATH_BYTES = 108;
const FAMILY_BYTES = 2;
/** The kernel passes no more in one message (SCM_MAX_FD). */
export const MAX_PASSED_DESCRIPTORS = 253;

/** `struct msghdr` on 64-bit Linux: name, namelen, iov, iovlen, control, controllen, flags. */
const MSGHDR_BYTES = 56;
const IOV_AT = 16;
const IOV_COUNT_AT = 24;
const CONTROL_AT = 32;
const CONTROL_LENGTH_AT = 40;
const FLAGS_AT = 48;
const IOVEC_BYTES = 16;
/** `struct cmsghdr`: len (8 bytes), level, type; then the data, the next header at the next multiple of 8. */
const CMSGHDR_BYTES = 16;
const CONTROL_BYTES = CMSGHDR_BYTES + align8(4 * MAX_PASSED_DESCRIPTORS);

const encoder = new TextEncoder();

function align8(bytes: number): number {
  return bytes + 7 & ~7;
}

/** An ArrayBuffer of its own never moves; a small typed array may, until its buffer is asked for. */
function fixedMemory(bytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(bytes));
}

/** `struct sockaddr_un`, or undefined when the path does not fit. */
function encodePath(path: string): Uint8Array | undefined {
  const text = encoder.encode(path);
  if (text.length === 0 || text.length >= PATH_BYTES || text.includes(0)) return undefined;
  const bytes = new Uint8Array(FAMILY_BYTES + text.length + 1);
  bytes[0] = AF_UNIX;
  bytes.set(text, FAMILY_BYTES);
  return bytes;
}

function createSocket(): number {
  const fd = libc.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  return fd < 0 ? -errnoWord[0] : fd;
}

/** A connected socket, at once: the descriptor, or `-errno` (ENOENT, ECONNREFUSED: nobody listens; EAGAIN: its queue is full). */
export function connectSeqpacket(path: string): number {
  const address = encodePath(path);
  if (address === undefined) return -ENAMETOOLONG;
  const fd = createSocket();
  if (fd < 0) return fd;
  const code = libc.connect(fd, address, address.length) < 0 ? errnoWord[0] : 0;
  if (code === 0) return fd;
  closeDescriptor(fd);
  return -code;
}

/** A listening socket at a path that must be free; `acceptSocket` takes from it. The file's mode is that of the process' umask. */
export function listenSeqpacket(path: string, backlog: number): number {
  const address = encodePath(path);
  if (address === undefined) return -ENAMETOOLONG;
  const fd = createSocket();
  if (fd < 0) return fd;
  let code = libc.bind(fd, address, address.length) < 0 ? errnoWord[0] : 0;
  if (code === 0) code = libc.listen(fd, backlog) < 0 ? errnoWord[0] : 0;
  if (code === 0) return fd;
  closeDescriptor(fd);
  return -code;
}

/** A connected pair. */
export function seqpacketPair(): readonly [number, number] {
  const pair = new Int32Array(2);
  const type = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const code = libc.socketpair(AF_UNIX, type, 0, new Uint8Array(pair.buffer)) < 0 ? errnoWord[0] : 0;
  return code === 0 ? [pair[0], pair[1]] : [-code, -code];
}

export interface Credentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

const credentialWords = new Int32Array(3);
const credentialBytes = new Uint8Array(credentialWords.buffer);
const credentialLength = new Uint32Array(1);
const credentialLengthBytes = new Uint8Array(credentialLength.buffer);

/** Who is at the other end, as the kernel knows it; undefined when it does not. */
export function peerCredentials(fd: number): Credentials | undefined {
  credentialLength[0] = credentialBytes.length;
  if (libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentialBytes, credentialLengthBytes) < 0) return undefined;
  return { pid: credentialWords[0], uid: credentialWords[1] >>> 0, gid: credentialWords[2] >>> 0 };
}

/** `msghdr`, one `iovec` and control memory that point at each other for life. */
class MessageMemory {
  readonly header = fixedMemory(MSGHDR_BYTES);
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly control = fixedMemory(CONTROL_BYTES);
  readonly #iov = fixedMemory(IOVEC_BYTES);
  readonly view: DataView;
  readonly controlView: DataView;
  readonly #iovView: DataView;
  readonly #controlAddress: bigint;

  constructor(capacity: number) {
    this.bytes = fixedMemory(capacity);
    this.view = new DataView(this.header.buffer);
    this.controlView = new DataView(this.control.buffer);
    this.#iovView = new DataView(this.#iov.buffer);
    this.#controlAddress = runtime.addressOf(this.control);
    this.#iovView.setBigUint64(0, runtime.addressOf(this.bytes), true);
    this.view.setBigUint64(IOV_AT, runtime.addressOf(this.#iov), true);
    this.view.setBigUint64(IOV_COUNT_AT, 1n, true);
  }

  /** Sets what the kernel reads, and what an earlier call wrote over. */
  arm(length: number, controlLength: number): void {
    this.#iovView.setBigUint64(8, BigInt(length), true);
    this.view.setBigUint64(CONTROL_AT, controlLength === 0 ? 0n : this.#controlAddress, true);
    this.view.setBigUint64(CONTROL_LENGTH_AT, BigInt(controlLength), true);
    this.view.setInt32(FLAGS_AT, 0, true);
  }
}

/** Receives messages into memory of its own. */
export class MessageReceiver {
  readonly #memory: MessageMemory;
  /** Descriptors of the last message; the caller owns them. */
  fds: number[] = [];
  /** The message was longer than the memory: its end is lost. */
  truncated = false;
  /** Descriptors were lost, for want of room or because this process may open no more. */
  controlTruncated = false;

  /** `capacity`: the longest message, in bytes. */
  constructor(capacity: number) {
    this.#memory = new MessageMemory(capacity);
  }

  /**
   * The next message: its length, `-EAGAIN` when there is none. 0 is the end of the connection, or an empty message, which a
   * reader cannot tell apart.
   */
  receive(fd: number): number {
    const memory = this.#memory;
    this.fds = [];
    this.truncated = this.controlTruncated = false;
    memory.arm(memory.bytes.length, memory.control.length);
    const length = libc.recvmsg(fd, memory.header, MSG_CMSG_CLOEXEC);
    if (length < 0) return -errnoWord[0];
    const flags = memory.view.getInt32(FLAGS_AT, true);
    this.truncated = (flags & MSG_TRUNC) !== 0;
    this.controlTruncated = (flags & MSG_CTRUNC) !== 0;
    this.#takeDescriptors();
    return length;
  }

  /** A copy of the first `length` bytes of the last message. */
  copy(length: number): Uint8Array<ArrayBuffer> {
    return this.#memory.bytes.slice(0, length);
  }

  closeDescriptors(): void {
    for (const fd of this.fds) closeDescriptor(fd);
    this.fds = [];
  }

  #takeDescriptors(): void {
    const { controlView, view } = this.#memory;
    const end = Number(view.getBigUint64(CONTROL_LENGTH_AT, true));
    for (let at = 0; at + CMSGHDR_BYTES <= end;) {
      const length = Number(controlView.getBigUint64(at, true));
      if (length < CMSGHDR_BYTES || at + length > end) return;
      if (controlView.getInt32(at + 8, true) === SOL_SOCKET && controlView.getInt32(at + 12, true) === SCM_RIGHTS) {
        for (let data = at + CMSGHDR_BYTES; data + 4 <= at + length; data += 4) {
          this.fds.push(controlView.getInt32(data, true));
        }
      }
      at += align8(length);
    }
  }
}

/** Sends messages from memory of its own. */
export class MessageSender {
  readonly #memory: MessageMemory;
  readonly #capacity: number;

  constructor(capacity: number) {
    this.#memory = new MessageMemory(capacity);
    this.#capacity = capacity;
  }

  /** Sends all of it or nothing: its length, or `-errno`. The descriptors stay the caller's; the other end gets copies. */
  send(fd: number, bytes: Uint8Array, fds: readonly number[] = []): number {
    const memory = this.#memory;
    if (bytes.length > this.#capacity || fds.length > MAX_PASSED_DESCRIPTORS) return -EINVAL;
    memory.bytes.set(bytes);
    const controlBytes = CMSGHDR_BYTES + 4 * fds.length;
    memory.arm(bytes.length, fds.length === 0 ? 0 : align8(controlBytes));
    if (fds.length > 0) {
      memory.controlView.setBigUint64(0, BigInt(controlBytes), true);
      memory.controlView.setInt32(8, SOL_SOCKET, true);
      memory.controlView.setInt32(12, SCM_RIGHTS, true);
      for (let i = 0; i < fds.length; i++) memory.controlView.setInt32(CMSGHDR_BYTES + 4 * i, fds[i], true);
      // The last, odd descriptor's padding is not to be read as one more.
      memory.view.setBigUint64(CONTROL_LENGTH_AT, BigInt(controlBytes), true);
    }
    const sent = libc.sendmsg(fd, memory.header, MSG_NOSIGNAL);
    return sent < 0 ? -errnoWord[0] : sent;
  }
}
