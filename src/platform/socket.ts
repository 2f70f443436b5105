/**
 * Sockets by system call: what no runtime's own socket API offers (marks, original destinations, transparent
 * binding, EPOLLEXCLUSIVE listeners, creation inside another network namespace).
 *
 * Every function returns a value below zero, `-errno`, on failure and never throws for a network outcome.
 * Descriptors are close-on-exec and non-blocking, and belong to exactly one owner.
 */
import { EAGAIN, EINTR, SystemError } from "./errno.ts";
import { errnoWord, libc } from "./libc.ts";
import { AF_INET6, decodeSockaddr, lendSockaddr, type SocketAddress } from "./sockaddr.ts";

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;

const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_TYPE = 3;
const SO_ERROR = 4;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_KEEPALIVE = 9;
const SO_LINGER = 13;
const SO_REUSEPORT = 15;
const SO_ACCEPTCONN = 30;
const SO_MARK = 36;
const SO_PROTOCOL = 38;
const SO_DOMAIN = 39;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const TCP_USER_TIMEOUT = 18;
const SOL_IP = 0;
const IP_TRANSPARENT = 19;
const IP_BIND_ADDRESS_NO_PORT = 24;
const SO_ORIGINAL_DST = 80;
const SOL_IPV6 = 41;
const IPV6_TRANSPARENT = 75;
const IP6T_SO_ORIGINAL_DST = 80;
const MSG_NOSIGNAL = 0x4000;
const MSG_MORE = 0x8000;
const SHUT_WR = 1;

/** Scratch memory of this thread; the kernel reads or fills it within one call. */
const addressBytes = new Uint8Array(128);
const addressLength = new Uint32Array(1);
const addressLengthBytes = new Uint8Array(addressLength.buffer);
const optionWord = new Int32Array(2);
const optionBytes = new Uint8Array(optionWord.buffer);

/** `socket(family, SOCK_STREAM)`; the descriptor lies in the network namespace the thread is in. */
export function createTcpSocket(family: number): number {
  const fd = libc.socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  return fd < 0 ? -errnoWord[0] : fd;
}

export function bindSocket(fd: number, ip: string, port: number, family: number): number {
  const address = lendSockaddr(ip, port, family);
  return libc.bind(fd, address, address.length) < 0 ? -errnoWord[0] : 0;
}

export function listenSocket(fd: number, backlog: number): number {
  return libc.listen(fd, backlog) < 0 ? -errnoWord[0] : 0;
}

/** Starts a connection: 0 or `-EINPROGRESS` when it is on its way. */
export function connectSocket(fd: number, ip: string, port: number, family: number): number {
  const address = lendSockaddr(ip, port, family);
  return libc.connect(fd, address, address.length) < 0 ? -errnoWord[0] : 0;
}

/** The next connection of a listener; its peer is read by `acceptedPeer()` before any further call. */
export function acceptSocket(listener: number): number {
  addressLength[0] = addressBytes.length;
  const fd = libc.accept4(listener, addressBytes, addressLengthBytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
  return fd < 0 ? -errnoWord[0] : fd;
}

/** The peer of the connection `acceptSocket` just returned. */
export function acceptedPeer(): SocketAddress | undefined {
  return decodeSockaddr(addressBytes);
}

export function localAddress(fd: number): SocketAddress | undefined {
  addressLength[0] = addressBytes.length;
  return libc.getsockname(fd, addressBytes, addressLengthBytes) < 0 ? undefined : decodeSockaddr(addressBytes);
}

export function peerAddress(fd: number): SocketAddress | undefined {
  addressLength[0] = addressBytes.length;
  return libc.getpeername(fd, addressBytes, addressLengthBytes) < 0 ? undefined : decodeSockaddr(addressBytes);
}

/** True once a connect has succeeded, though the socket was not waited for: on the own machine that is at once. */
export function isConnected(fd: number): boolean {
  addressLength[0] = addressBytes.length;
  return libc.getpeername(fd, addressBytes, addressLengthBytes) === 0;
}

/** Where a redirected connection was going before netfilter rewrote it; undefined when it was not redirected. */
export function originalDestination(fd: number): SocketAddress | undefined {
  addressLength[0] = addressBytes.length;
  if (libc.getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, addressBytes, addressLengthBytes) === 0) {
    return decodeSockaddr(addressBytes);
  }
  addressLength[0] = addressBytes.length;
  if (libc.getsockopt(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST, addressBytes, addressLengthBytes) === 0) {
    return decodeSockaddr(addressBytes);
  }
  return undefined;
}

/** Takes and clears the pending error of a socket: 0, or the errno of a failed connect. */
export function takeSocketError(fd: number): number {
  addressLength[0] = 4;
  if (libc.getsockopt(fd, SOL_SOCKET, SO_ERROR, optionBytes, addressLengthBytes) < 0) return errnoWord[0];
  return optionWord[0];
}

/** What a socket is: its family, type, protocol, and whether it listens. Undefined when the descriptor is no socket. */
export interface SocketKind {
  readonly family: number;
  readonly type: number;
  readonly protocol: number;
  readonly listening: boolean;
}

export function socketKind(fd: number): SocketKind | undefined {
  const family = getOption(fd, SOL_SOCKET, SO_DOMAIN);
  const type = getOption(fd, SOL_SOCKET, SO_TYPE);
  const protocol = getOption(fd, SOL_SOCKET, SO_PROTOCOL);
  const listening = getOption(fd, SOL_SOCKET, SO_ACCEPTCONN);
  if (family < 0 || type < 0 || protocol < 0) return undefined;
  return { family, type, protocol, listening: listening === 1 };
}

/** The option's value, or `-errno`. For options that are not below zero. */
function getOption(fd: number, level: number, option: number): number {
  addressLength[0] = 4;
  if (libc.getsockopt(fd, level, option, optionBytes, addressLengthBytes) < 0) return -errnoWord[0];
  return optionWord[0];
}

function setOption(fd: number, level: number, option: number, value: number): number {
  optionWord[0] = value;
  return libc.setsockopt(fd, level, option, optionBytes, 4) < 0 ? -errnoWord[0] : 0;
}

export function setNoDelay(fd: number): number {
  return setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

export function setMark(fd: number, mark: number): number {
  return setOption(fd, SOL_SOCKET, SO_MARK, mark);
}

export function setReusePort(fd: number): number {
  return setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1);
}

export function setReuseAddress(fd: number): number {
  return setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
}

export function setReceiveBuffer(fd: number, bytes: number): number {
  return setOption(fd, SOL_SOCKET, SO_RCVBUF, bytes);
}

export function setSendBuffer(fd: number, bytes: number): number {
  return setOption(fd, SOL_SOCKET, SO_SNDBUF, bytes);
}

/** Times in seconds, as TCP counts them. */
export interface Keepalive {
  readonly idleSeconds: number;
  readonly intervalSeconds: number;
  readonly probes: number;
}

export function setKeepalive(fd: number, keepalive: Keepalive): number {
  const enabled = setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  if (enabled < 0) return enabled;
  setOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, keepalive.idleSeconds);
  setOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, keepalive.intervalSeconds);
  return setOption(fd, IPPROTO_TCP, TCP_KEEPCNT, keepalive.probes);
}

export function setUserTimeout(fd: number, milliseconds: number): number {
  return setOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, milliseconds);
}

/** Makes the next close send a RST instead of a FIN: the peer learns that the connection failed. */
export function setResetOnClose(fd: number): number {
  optionWord[0] = 1;
  optionWord[1] = 0;
  return libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, optionBytes, 8) < 0 ? -errnoWord[0] : 0;
}

/** Lets a listener accept connections to addresses that are not its own. Needs NET_ADMIN. */
export function setTransparent(fd: number, family: number): number {
  const v4 = setOption(fd, SOL_IP, IP_TRANSPARENT, 1);
  return family === AF_INET6 && v4 === 0 ? setOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1) : v4;
}

/**
 * Lets an outgoing socket take a source address that is not local, then takes it, on `port` (0: any port). A transparent
 * socket may bind any address, so IP_FREEBIND has nothing to add.
 */
export function bindForeignSource(fd: number, ip: string, family: number, port = 0): number {
  const v6 = family === AF_INET6;
  const transparent = v6 ? setOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1) : setOption(fd, SOL_IP, IP_TRANSPARENT, 1);
  if (transparent < 0) return transparent;
  setOption(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  return bindSocket(fd, ip, port, family);
}

/** Receives into `bytes[start, end)`: the count, 0 at end of stream, or `-errno`. */
export function receive(fd: number, bytes: Uint8Array, start: number, end: number): number {
  const n = libc.recv(fd, start === 0 ? bytes : bytes.subarray(start), end - start, 0);
  return n < 0 ? -errnoWord[0] : n;
}

/** Sends `bytes[start, end)`: the count the kernel took, or `-errno`. Never raises SIGPIPE. */
export function send(fd: number, bytes: Uint8Array, start: number, end: number): number {
  const n = libc.send(fd, start === 0 ? bytes : bytes.subarray(start), end - start, MSG_NOSIGNAL);
  return n < 0 ? -errnoWord[0] : n;
}

/** Like `send`, of what `shutdownWrite` or `closeDescriptor` follows at once: the last bytes and the end travel together. */
export function sendLast(fd: number, bytes: Uint8Array, start: number, end: number): number {
  const n = libc.send(fd, start === 0 ? bytes : bytes.subarray(start), end - start, MSG_NOSIGNAL | MSG_MORE);
  return n < 0 ? -errnoWord[0] : n;
}

/** Ends the sending half: the peer reads end of stream, and may go on sending. */
export function shutdownWrite(fd: number): number {
  return libc.shutdown(fd, SHUT_WR) < 0 ? -errnoWord[0] : 0;
}

export function closeDescriptor(fd: number): void {
  libc.close(fd);
}

/** Closes a descriptor but keeps its number taken, by a copy of `by`. 0 or `-errno`. */
export function replaceDescriptor(fd: number, by: number): number {
  return libc.dup3(by, fd, SOCK_CLOEXEC) < 0 ? -errnoWord[0] : 0;
}

/** A connected pair of non-blocking unix stream sockets. */
export function socketPair(): readonly [number, number] | undefined {
  const AF_UNIX = 1;
  if (libc.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, optionBytes) < 0) return undefined;
  return [optionWord[0], optionWord[1]];
}

const POLLOUT = 4;
/** A pipe that is writable at all takes this much without blocking (PIPE_BUF). */
const PIPE_BYTES = 4096;
const pollFd = new Int32Array(2);
const pollBytes = new Uint8Array(pollFd.buffer);

/**
 * Writes whole lines to a descriptor that may be a blocking pipe without ever waiting for its reader: the count taken, 0 when
 * it would block. Throws when nothing reads it any more.
 */
export function writeLines(fd: number, bytes: Uint8Array): number {
  pollFd[0] = fd;
  pollFd[1] = POLLOUT;
  if (libc.poll(pollBytes, 1, 0) !== 1) return 0;
  let length = bytes.length;
  if (length > PIPE_BYTES) {
    const newline = bytes.lastIndexOf(NEWLINE, PIPE_BYTES - 1);
    length = newline === -1 ? PIPE_BYTES : newline + 1;
  }
  const n = libc.write(fd, bytes, length);
  const code = n < 0 ? errnoWord[0] : 0;
  if (code === EAGAIN || code === EINTR) return 0;
  if (n < 0) throw new SystemError(`cannot write to descriptor ${fd}`, code);
  return n;
}

const NEWLINE = 10;
