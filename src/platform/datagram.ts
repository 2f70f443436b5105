/**
 * UDP sockets by system call: datagrams in batches, each with where it came from and, on a wildcard socket, which own address it came
 * to, so that the answer leaves from there. Memory whose address the kernel reads through `mmsghdr` is allocated once and kept.
 * Failures are `-errno`.
 */
import { errnoWord, libc } from "./libc.ts";
import { runtime } from "./runtime.ts";
import { decodeSockaddr, encodeSockaddr, type SocketAddress } from "./sockaddr.ts";
import { SOCK_DGRAM } from "./socket.ts";

const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const SOL_IP = 0;
const IP_PKTINFO = 8;
const SOL_IPV6 = 41;
const IPV6_RECVPKTINFO = 49;
const IPV6_PKTINFO = 50;
const F_DUPFD_CLOEXEC = 1030;
const MSG_TRUNC = 0x20;
const MSG_NOSIGNAL = 0x4000;

/** `struct mmsghdr` on 64-bit Linux: a `msghdr` (name, namelen, iov, iovlen, control, controllen, flags), then the length received. */
const MMSGHDR_BYTES = 64;
const NAME_LENGTH_AT = 8;
const IOV_AT = 16;
const IOV_COUNT_AT = 24;
const CONTROL_AT = 32;
const CONTROL_LENGTH_AT = 40;
const FLAGS_AT = 48;
const RECEIVED_AT = 56;
const IOVEC_BYTES = 16;
/** Room for a `sockaddr_in6`. */
const NAME_BYTES = 32;
/** Room for a header and an `in6_pktinfo`. */
const CONTROL_BYTES = 40;
const CMSGHDR_BYTES = 16;
/** `int ifindex; in_addr spec_dst; in_addr addr`, and `in6_addr addr; int ifindex`. */
const IN_PKTINFO_BYTES = 12;
const IN6_PKTINFO_BYTES = 20;

const option = new Int32Array(1);
const optionBytes = new Uint8Array(option.buffer);

function setOption(fd: number, level: number, name: number, value: number): number {
  option[0] = value;
  return libc.setsockopt(fd, level, name, optionBytes, 4) < 0 ? -errnoWord[0] : 0;
}

/** `socket(family, SOCK_DGRAM)`; it lies in the network namespace the thread is in. */
export function createDatagramSocket(family: number): number {
  const fd = libc.socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  return fd < 0 ? -errnoWord[0] : fd;
}

/** Has each datagram tell which own address it came to. */
export function setPacketInfo(fd: number, ipv6: boolean): number {
  const v4 = setOption(fd, SOL_IP, IP_PKTINFO, 1);
  return ipv6 ? setOption(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1) : v4;
}

/** A second descriptor of the same socket, so that each of two threads may close its own. `-errno` on failure. */
export function duplicateDescriptor(fd: number): number {
  const copy = libc.fcntl(fd, F_DUPFD_CLOEXEC, 0);
  return copy < 0 ? -errnoWord[0] : copy;
}

/** Where a datagram came from, in the kernel's own form, and what an answer must carry to leave from where it came to. */
export interface DatagramPeer {
  readonly address: Uint8Array;
  /** A control message; undefined: the socket is bound to one address. */
  readonly source: Uint8Array | undefined;
}

export function peerOf({ address }: DatagramPeer): SocketAddress | undefined {
  return decodeSockaddr(address);
}

/** The own address that a datagram came to, as bytes; undefined: the one its socket is bound to. */
export function arrivedAt({ source }: DatagramPeer): Uint8Array | undefined {
  if (source === undefined) return undefined;
  const v4 = source.length === CMSGHDR_BYTES + IN_PKTINFO_BYTES;
  return v4
    ? source.subarray(CMSGHDR_BYTES + 4, CMSGHDR_BYTES + 8)
    : source.subarray(CMSGHDR_BYTES, CMSGHDR_BYTES + 16);
}

/** For a datagram that is no answer. */
export function datagramPeer(ip: string, port: number, family: number): DatagramPeer {
  return { address: encodeSockaddr(ip, port, family), source: undefined };
}

function fixedMemory(bytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(bytes));
}

/** Receives up to `batch` datagrams of up to `capacity` bytes in one call; for any number of sockets of one thread. */
export class DatagramReceiver {
  readonly #batch: number;
  readonly #capacity: number;
  readonly #headers: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #names: Uint8Array<ArrayBuffer>;
  readonly #controls: Uint8Array<ArrayBuffer>;
  readonly #controlView: DataView;
  readonly #iovs: Uint8Array<ArrayBuffer>;
  readonly #bytes: Uint8Array<ArrayBuffer>;

  constructor(batch: number, capacity: number) {
    this.#batch = batch;
    this.#capacity = capacity;
    this.#headers = fixedMemory(batch * MMSGHDR_BYTES);
    this.#view = new DataView(this.#headers.buffer);
    this.#names = fixedMemory(batch * NAME_BYTES);
    this.#controls = fixedMemory(batch * CONTROL_BYTES);
    this.#controlView = new DataView(this.#controls.buffer);
    this.#iovs = fixedMemory(batch * IOVEC_BYTES);
    this.#bytes = fixedMemory(batch * capacity);
    const iovView = new DataView(this.#iovs.buffer);
    const [names, controls, iovs, bytes] = [this.#names, this.#controls, this.#iovs, this.#bytes].map(
      runtime.addressOf,
    );
    for (let i = 0; i < batch; i++) {
      const at = i * MMSGHDR_BYTES;
      iovView.setBigUint64(i * IOVEC_BYTES, bytes + BigInt(i * capacity), true);
      iovView.setBigUint64(i * IOVEC_BYTES + 8, BigInt(capacity), true);
      this.#view.setBigUint64(at, names + BigInt(i * NAME_BYTES), true);
      this.#view.setBigUint64(at + IOV_AT, iovs + BigInt(i * IOVEC_BYTES), true);
      this.#view.setBigUint64(at + IOV_COUNT_AT, 1n, true);
      this.#view.setBigUint64(at + CONTROL_AT, controls + BigInt(i * CONTROL_BYTES), true);
      this.#arm(at);
    }
  }

  get batch(): number {
    return this.#batch;
  }

  /** How many datagrams came, or `-errno` (`-EAGAIN`: none waits). They are valid until the next call. */
  receive(fd: number): number {
    const count = libc.recvmmsg(fd, this.#headers, this.#batch, 0, null);
    if (count < 0) return -errnoWord[0];
    return count;
  }

  /** A view; undefined when the datagram was longer than the memory. */
  datagram(index: number): Uint8Array | undefined {
    const at = index * MMSGHDR_BYTES;
    if ((this.#view.getInt32(at + FLAGS_AT, true) & MSG_TRUNC) !== 0) return undefined;
    const start = index * this.#capacity;
    return this.#bytes.subarray(start, start + this.#view.getUint32(at + RECEIVED_AT, true));
  }

  /** A copy. Taken once for each datagram: it also readies its memory for the next call. */
  takePeer(index: number): DatagramPeer {
    const at = index * MMSGHDR_BYTES;
    const nameAt = index * NAME_BYTES;
    const address = this.#names.slice(nameAt, nameAt + this.#view.getUint32(at + NAME_LENGTH_AT, true));
    const controlLength = Number(this.#view.getBigUint64(at + CONTROL_LENGTH_AT, true));
    const source = controlLength < CMSGHDR_BYTES ? undefined : this.#source(index * CONTROL_BYTES);
    this.#arm(at);
    return { address, source };
  }

  /** The same control message as the kernel wants it back: the interface is left to routing. */
  #source(at: number): Uint8Array | undefined {
    const level = this.#controlView.getInt32(at + 8, true);
    const type = this.#controlView.getInt32(at + 12, true);
    const data = at + CMSGHDR_BYTES;
    if (level === SOL_IP && type === IP_PKTINFO) {
      const control = this.#controls.slice(at, data + IN_PKTINFO_BYTES);
      control.fill(0, CMSGHDR_BYTES, CMSGHDR_BYTES + 4);
      return control;
    }
    if (level === SOL_IPV6 && type === IPV6_PKTINFO) {
      const control = this.#controls.slice(at, data + IN6_PKTINFO_BYTES);
      control.fill(0, CMSGHDR_BYTES + 16);
      return control;
    }
    return undefined;
  }

  #arm(at: number): void {
    this.#view.setUint32(at + NAME_LENGTH_AT, NAME_BYTES, true);
    this.#view.setBigUint64(at + CONTROL_LENGTH_AT, BigInt(CONTROL_BYTES), true);
  }
}

/** One `msghdr` for answers from a chosen source. */
const MAX_DATAGRAM_BYTES = 65_507;
let sender: { readonly header: Uint8Array; readonly view: DataView; readonly parts: Uint8Array[] } | undefined;

function senderMemory() {
  if (sender !== undefined) return sender;
  const header = fixedMemory(MMSGHDR_BYTES);
  const view = new DataView(header.buffer);
  const iov = fixedMemory(IOVEC_BYTES);
  const parts = [fixedMemory(NAME_BYTES), fixedMemory(CONTROL_BYTES), fixedMemory(MAX_DATAGRAM_BYTES), iov];
  const [name, control, bytes, iovAddress] = parts.map(runtime.addressOf);
  new DataView(iov.buffer).setBigUint64(0, bytes, true);
  view.setBigUint64(0, name, true);
  view.setBigUint64(IOV_AT, iovAddress, true);
  view.setBigUint64(IOV_COUNT_AT, 1n, true);
  view.setBigUint64(CONTROL_AT, control, true);
  return sender = { header, view, parts };
}

/** Sends one datagram: its length, or `-errno` (`-EAGAIN`: the socket's buffer is full; the datagram is lost, as datagrams are). */
export function sendDatagram(fd: number, bytes: Uint8Array, { address, source }: DatagramPeer): number {
  if (source === undefined) {
    const n = libc.sendto(fd, bytes, bytes.length, MSG_NOSIGNAL, address, address.length);
    return n < 0 ? -errnoWord[0] : n;
  }
  const { header, view, parts: [name, control, payload, iov] } = senderMemory();
  name.set(address);
  control.set(source);
  payload.set(bytes.length > MAX_DATAGRAM_BYTES ? bytes.subarray(0, MAX_DATAGRAM_BYTES) : bytes);
  new DataView(iov.buffer).setBigUint64(8, BigInt(bytes.length), true);
  view.setUint32(NAME_LENGTH_AT, address.length, true);
  view.setBigUint64(CONTROL_LENGTH_AT, BigInt(source.length), true);
  const n = libc.sendmsg(fd, header, MSG_NOSIGNAL);
  return n < 0 ? -errnoWord[0] : n;
}
