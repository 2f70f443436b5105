/**
 * Opening the three listening sockets of a pod inside its network namespace (reference ztunnel 1.3, 1.4). The main
 * thread owns them; workers watch them.
 */
import { describeErrno, EADDRINUSE } from "../platform/errno.ts";
import { openNamespace } from "../platform/netns.ts";
import { acceptSocket, closeDescriptor } from "../platform/socket.ts";
import { SocketFactory, type SocketTuning } from "../net/socket_factory.ts";
import type { ListenerKind } from "./messages.ts";

/** ztunnel's ports; they are part of the redirection contract with istio-cni and not configurable. */
export const LISTENER_PORTS: Readonly<Record<ListenerKind, number>> = {
  outbound: 15001,
  inboundPlaintext: 15006,
  inboundHbone: 15008,
};

/** More than a queue holds. */
const BACKLOG_BOUND = 4096;
const KINDS: readonly ListenerKind[] = ["inboundHbone", "inboundPlaintext", "outbound"];

export interface PodListeners {
  readonly namespaceFd: number;
  readonly fds: Readonly<Record<ListenerKind, number>>;
  /** Inbound connections can keep their client's source address. */
  readonly originalSource: boolean;
  /**
   * Accepts what waits in the queues and ends the listening; whoever takes a descriptor owns it. The namespace stays open up to `close`:
   * what was accepted still needs its second half.
   */
  acceptLast(take: (kind: ListenerKind, fd: number) => void): void;
  close(): void;
}

export interface PodListenerOptions {
  /** Path of the namespace; undefined: this thread's own (dedicated mode). */
  readonly netns: string | undefined;
  readonly mark: number | undefined;
  readonly ipv6Enabled: boolean;
  readonly reusePort: boolean;
  readonly requireOriginalSource: boolean | undefined;
  /** What every accepted connection has. */
  readonly tuning: SocketTuning;
}

/** Opens all three or none. Throws with what failed and what to do. */
export function openPodListeners(options: PodListenerOptions): PodListeners {
  const namespaceFd = options.netns === undefined ? -1 : openNamespace(options.netns);
  if (options.netns !== undefined && namespaceFd < 0) {
    throw new Error(`cannot open the network namespace ${options.netns}: ${describeErrno(-namespaceFd)}`);
  }
  const factory = new SocketFactory(namespaceFd, options.mark, options.tuning);
  const fds: Partial<Record<ListenerKind, number>> = {};
  let originalSource = true;
  let listening = true;
  const stopListening = () => {
    if (!listening) return;
    listening = false;
    for (const kind of KINDS) {
      const fd = fds[kind];
      if (fd !== undefined) closeDescriptor(fd);
    }
  };
  const close = () => {
    stopListening();
    if (namespaceFd >= 0) closeDescriptor(namespaceFd);
  };
  for (const kind of KINDS) {
    const { fd, transparent } = factory.listen({
      port: LISTENER_PORTS[kind],
      ipv6Enabled: options.ipv6Enabled,
      reusePort: options.reusePort,
      transparent: options.requireOriginalSource,
    });
    if (fd < 0) {
      close();
      throw new Error(`cannot listen on port ${LISTENER_PORTS[kind]}: ${describeErrno(-fd)}${hint(-fd)}`);
    }
    fds[kind] = fd;
    originalSource &&= transparent;
  }
  const acceptLast = (take: (kind: ListenerKind, fd: number) => void) => {
    for (const kind of listening ? KINDS : []) {
      for (let i = 0; i < BACKLOG_BOUND; i++) {
        const fd = acceptSocket(fds[kind] as number);
        if (fd < 0) break;
        take(kind, fd);
      }
    }
    stopListening();
  };
  return { namespaceFd, fds: fds as Record<ListenerKind, number>, originalSource, acceptLast, close };
}

function hint(code: number): string {
  if (code === EADDRINUSE) return "; another ztunnel, or the application itself, listens there";
  return code === 1 ? "; ztunnel needs the capabilities NET_ADMIN and SYS_ADMIN" : "";
}
