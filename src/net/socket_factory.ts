/**
 * Sockets of one pod: made inside its network namespace, marked so that the redirection rules let them pass, and tuned as
 * ztunnel tunes them (reference ztunnel 1.4). Without a namespace they are made where the thread is.
 */
import { EINVAL, EMFILE } from "../platform/errno.ts";
import { createDatagramSocket, setPacketInfo } from "../platform/datagram.ts";
import { insideNamespace } from "../platform/netns.ts";
import { AF_INET, AF_INET6, isIpv6 } from "../platform/sockaddr.ts";
import {
  bindForeignSource,
  bindSocket,
  closeDescriptor,
  createTcpSocket,
  type Keepalive,
  listenSocket,
  setKeepalive,
  setMark,
  setNoDelay,
  setReuseAddress,
  setReusePort,
  setTransparent,
  setUserTimeout,
} from "../platform/socket.ts";
import { isReserved } from "./descriptor_reserve.ts";

export interface SocketTuning {
  readonly keepalive: Keepalive | undefined;
  /** TCP_USER_TIMEOUT, when it is on. */
  readonly userTimeoutMs: number | undefined;
}

export interface ListenOptions {
  readonly port: number;
  /** Undefined: the wildcard address. */
  readonly ip?: string;
  readonly ipv6Enabled: boolean;
  /** A second process may listen beside this one, as during an upgrade; otherwise a conflict is an error. */
  readonly reusePort: boolean;
  /** True: must be transparent; false: is not; undefined: where the kernel allows it. */
  readonly transparent: boolean | undefined;
  /** False: without the factory's mark. */
  readonly marked?: boolean;
}

export interface ListenerSocket {
  /** The descriptor, or `-errno`. */
  readonly fd: number;
  readonly transparent: boolean;
}

/** More than ztunnel's 128: a burst waits in the queue instead of being refused. The kernel's own limit (somaxconn) applies too. */
const BACKLOG = 1024;

export class SocketFactory {
  readonly #namespace: number;
  readonly #mark: number | undefined;
  readonly tuning: SocketTuning;

  /** `namespace` is an open descriptor of a network namespace, or -1 for the thread's own. The caller keeps it open. */
  constructor(namespace: number, mark: number | undefined, tuning: SocketTuning) {
    this.#namespace = namespace;
    this.#mark = mark;
    this.tuning = tuning;
  }

  /** An outgoing socket with its options set: the descriptor, or `-errno`. */
  createClient(family: number): number {
    return this.#prepare(this.#create(family), false);
  }

  /**
   * An outgoing socket and up to `spares` more like it, which are added to `into`, all without keepalive: that is left to LateKeepalive.
   * The descriptor, or `-errno`.
   */
  createClients(family: number, spares: number, into: number[]): number {
    const fd = this.#prepare(spares > 0 ? this.#createSeveral(family, spares) : this.#create(family), true);
    for (let i = 0; i < made; i++) {
      const spare = this.#prepare(madeSpares[i], true);
      if (spare >= 0) into.push(spare);
    }
    made = 0;
    return fd;
  }

  /** The options of a fresh socket; it is closed when it cannot have them. */
  #prepare(fd: number, keepaliveLater: boolean): number {
    if (fd < 0) return fd;
    const outcome = isReserved(fd) ? -EMFILE : this.#mark === undefined ? 0 : setMark(fd, this.#mark);
    if (outcome < 0) {
      closeDescriptor(fd);
      return outcome;
    }
    tune(fd, this.tuning, keepaliveLater);
    return fd;
  }

  /** The first one, or `-errno`; the others are noted in `madeSpares`. */
  #createSeveral(family: number, spares: number): number {
    if (family !== AF_INET && family !== AF_INET6) return -EINVAL;
    wanted = Math.min(spares, madeSpares.length);
    return this.run(family === AF_INET6 ? createSeveralV6 : createSeveralV4);
  }

  /** An outgoing UDP socket: the descriptor, or `-errno`. */
  createDatagramClient(family: number): number {
    const fd = this.run(family === AF_INET6 ? createDatagramV6 : createDatagramV4);
    if (fd < 0) return fd;
    const outcome = isReserved(fd) ? -EMFILE : this.#mark === undefined ? 0 : setMark(fd, this.#mark);
    if (outcome === 0) return fd;
    closeDescriptor(fd);
    return outcome;
  }

  /** A UDP socket bound to an address: the descriptor, or `-errno`. On a wildcard address datagrams tell where they came to. */
  bindDatagram(ip: string, port: number, reusePort: boolean): number {
    const family = isIpv6(ip) ? AF_INET6 : AF_INET;
    const fd = this.run(family === AF_INET6 ? createDatagramV6 : createDatagramV4);
    if (fd < 0) return fd;
    let outcome = this.#mark === undefined ? 0 : setMark(fd, this.#mark);
    if (outcome === 0 && reusePort) outcome = setReusePort(fd);
    if (outcome === 0 && (ip === "::" || ip === "0.0.0.0")) outcome = setPacketInfo(fd, family === AF_INET6);
    if (outcome === 0) outcome = bindSocket(fd, ip, port, family);
    if (outcome === 0) return fd;
    closeDescriptor(fd);
    return outcome;
  }

  /** Does something at once, that must not throw, inside the namespace: a value, or `-errno`. */
  run(create: () => number): number {
    return this.#namespace === -1 ? create() : insideNamespace(this.#namespace, create);
  }

  /** Takes a source address that is another's, so that the application sees its real client. `-errno`: go on without. */
  takeSource(fd: number, ip: string, family: number, port = 0): number {
    return bindForeignSource(fd, ip, family, port);
  }

  /** A listening socket: the descriptor and whether it is transparent, or `-errno`. */
  listen(options: ListenOptions): ListenerSocket {
    const ip = options.ip ?? (options.ipv6Enabled ? "::" : "0.0.0.0");
    const family = isIpv6(ip) ? AF_INET6 : AF_INET;
    const fd = this.#create(family);
    if (fd < 0) return { fd, transparent: false };
    const fail = (code: number) => {
      closeDescriptor(fd);
      return { fd: code, transparent: false };
    };
    if (options.reusePort) setReusePort(fd);
    else setReuseAddress(fd);
    const { fd: outcome, transparent } = this.adoptListener(fd, options);
    if (outcome < 0) return fail(outcome);
    const bound = bindSocket(fd, ip, options.port, family);
    if (bound < 0) return fail(bound);
    const listening = listenSocket(fd, BACKLOG);
    if (listening < 0) return fail(listening);
    return { fd, transparent };
  }

  /**
   * Gives a listening socket of another process the options of an own one, or a new one before it is bound. `-errno` on failure: the
   * descriptor stays the caller's.
   */
  adoptListener(fd: number, options: ListenOptions): ListenerSocket {
    const family = isIpv6(options.ip ?? (options.ipv6Enabled ? "::" : "0.0.0.0")) ? AF_INET6 : AF_INET;
    if (this.#mark !== undefined && options.marked !== false) {
      const marked = setMark(fd, this.#mark);
      if (marked < 0) return { fd: marked, transparent: false };
    }
    // Accepted connections inherit these from their listener, which saves five calls on each.
    tune(fd, this.tuning);
    if (options.transparent === false) return { fd, transparent: false };
    const outcome = setTransparent(fd, family);
    if (outcome < 0 && options.transparent === true) return { fd: outcome, transparent: false };
    return { fd, transparent: outcome === 0 };
  }

  #create(family: number): number {
    if (this.#namespace === -1) return createTcpSocket(family);
    return insideNamespace(this.#namespace, family === AF_INET6 ? createV6 : family === AF_INET ? createV4 : refuse);
  }
}

/** Sets what every data connection has; failures leave the kernel's defaults, which work. */
export function tune(fd: number, tuning: SocketTuning, keepaliveLater = false): void {
  setNoDelay(fd);
  if (tuning.keepalive !== undefined && !keepaliveLater) setKeepalive(fd, tuning.keepalive);
  if (tuning.userTimeoutMs !== undefined) setUserTimeout(fd, tuning.userTimeoutMs);
}

const createV4 = () => createTcpSocket(AF_INET);
const createV6 = () => createTcpSocket(AF_INET6);
const refuse = () => -EINVAL;

/** What one visit to a namespace makes besides its first socket: it must not allocate there. */
const madeSpares = new Int32Array(16);
let wanted = 0;
let made = 0;

function createSeveral(family: number): number {
  const first = createTcpSocket(family);
  for (made = 0; first >= 0 && made < wanted; made++) {
    const fd = createTcpSocket(family);
    if (fd < 0) break;
    madeSpares[made] = fd;
  }
  return first;
}

const createSeveralV4 = () => createSeveral(AF_INET);
const createSeveralV6 = () => createSeveral(AF_INET6);
const createDatagramV4 = () => createDatagramSocket(AF_INET);
const createDatagramV6 = () => createDatagramSocket(AF_INET6);
