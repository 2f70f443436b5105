/**
 * Opening the listening sockets of a pod inside its network namespace (reference ztunnel 1.3, 1.4), or taking them over from the
 * process that served the pod so far. The main thread owns them; workers watch them.
 */
import { describeErrno, EADDRINUSE, EPERM } from "../platform/errno.ts";
import { fileIdentity, openNamespace, socketNamespaceIdentity } from "../platform/netns.ts";
import { AF_INET, AF_INET6 } from "../platform/sockaddr.ts";
import {
  acceptSocket,
  closeDescriptor,
  localAddress,
  SOCK_DGRAM,
  SOCK_STREAM,
  socketKind,
} from "../platform/socket.ts";
import { SocketFactory, type SocketTuning } from "../net/socket_factory.ts";
import { dnsListeners } from "./dns/listeners.ts";
import type { ListenerKind } from "./messages.ts";
import type { PodNamespace } from "./pod_namespace.ts";
import { SOCKS_PORT } from "./settings.ts";

/** ztunnel's ports; they are part of the redirection contract with istio-cni and not configurable. */
export const LISTENER_PORTS = {
  outbound: 15001,
  inboundPlaintext: 15006,
  inboundHbone: 15008,
} as const satisfies Partial<Record<ListenerKind, number>>;

/** One listening TCP socket of a pod. `kind` also names it to the process that takes over. */
export interface ListenerPlan {
  readonly kind: ListenerKind;
  readonly port: number;
  /** Undefined: the wildcard address. */
  readonly ip?: string;
  /** Undefined: TCP. */
  readonly protocol?: "tcp" | "udp";
}

/** What every pod has. */
export const POD_LISTENERS: readonly ListenerPlan[] = [
  { kind: "inboundHbone", port: LISTENER_PORTS.inboundHbone },
  { kind: "inboundPlaintext", port: LISTENER_PORTS.inboundPlaintext },
  { kind: "outbound", port: LISTENER_PORTS.outbound },
];
/** What is opened in pods for TCP: nothing for a proxy of DNS alone, and SOCKS where it is wanted. */
export function podListeners(
  config: { readonly proxyEnabled: boolean; readonly socks5Enabled: boolean },
): readonly ListenerPlan[] {
  if (!config.proxyEnabled) return [];
  return config.socks5Enabled
    ? [...POD_LISTENERS, { kind: "socks", port: SOCKS_PORT, ip: "127.0.0.1" }]
    : POD_LISTENERS;
}

/** What ztunnel opens for itself: only tunnels come in. */
export const SELF_LISTENERS: readonly ListenerPlan[] = [POD_LISTENERS[0]];

/** More than a queue holds. */
const BACKLOG_BOUND = 4096;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;

export interface PodListeners {
  /** -1: the thread's own. */
  readonly namespaceFd: number;
  /** Device and inode of the namespace; "" for the thread's own. */
  readonly namespaceIdentity: string;
  /** Empty once the listening has ended. */
  readonly fds: Readonly<Partial<Record<ListenerKind, number>>>;
  /** SO_MARK of the pod's sockets. */
  readonly mark: number | undefined;
  /** Inbound connections can keep their client's source address. */
  readonly originalSource: boolean;
  /** Another process watches these sockets too: what connects is served there meanwhile. */
  readonly shared: boolean;
  /**
   * Accepts what waits in the queues and ends the listening; whoever takes a descriptor owns it. The namespace stays open up to `close`:
   * what was accepted still needs its second half. Without `take` the queues are left to whoever else has these sockets.
   */
  stopListening(take: ((kind: ListenerKind, fd: number) => void) | undefined): void;
  close(): void;
}

export interface PodListenerOptions {
  /** Undefined: this thread's own (dedicated mode, self listener). A descriptor is only used, not taken over. */
  readonly netns: PodNamespace | undefined;
  readonly listeners?: readonly ListenerPlan[];
  /** Where the DNS proxy listens, besides: `localhost:port` or `ip:port`. Undefined: nowhere. */
  readonly dnsAddress?: string | undefined;
  /** SO_MARK of what is made for the pod. */
  readonly mark: number | undefined;
  /** The listeners have the mark too; in dedicated mode only outgoing sockets do. */
  readonly markListeners?: boolean;
  readonly ipv6Enabled: boolean;
  readonly reusePort: boolean;
  readonly requireOriginalSource: boolean | undefined;
  /** What every accepted connection has. */
  readonly tuning: SocketTuning;
  /** Sockets of the process that served the pod so far, by kind; each is used or closed. */
  readonly inherited?: ReadonlyMap<string, number>;
  /** An inherited socket was refused. */
  readonly refused?: (kind: string, reason: string) => void;
}

/** Opens all or none. Throws with what failed and what to do. */
export function openPodListeners(options: PodListenerOptions): PodListeners {
  const inherited = new Map(options.inherited ?? []);
  const fds: Partial<Record<ListenerKind, number>> = {};
  const { netns } = options;
  let namespaceFd = -1;
  let ownsNamespace = false;
  const stopListening = (take?: (kind: ListenerKind, fd: number) => void) => {
    for (const kind of Object.keys(fds) as ListenerKind[]) {
      const fd = fds[kind] as number;
      for (let i = 0; take !== undefined && i < BACKLOG_BOUND; i++) {
        const accepted = acceptSocket(fd);
        if (accepted < 0) break;
        take(kind, accepted);
      }
      delete fds[kind];
      closeDescriptor(fd);
    }
  };
  const close = () => {
    stopListening();
    if (ownsNamespace) closeDescriptor(namespaceFd);
    ownsNamespace = false;
  };
  try {
    if (netns?.kind === "path") {
      namespaceFd = openNamespace(netns.path);
      if (namespaceFd < 0) {
        throw new Error(`cannot open the network namespace ${netns.path}: ${describeErrno(-namespaceFd)}`);
      }
      ownsNamespace = true;
    } else if (netns !== undefined) {
      namespaceFd = netns.fd;
    }
    const namespaceIdentity = namespaceFd === -1 ? "" : fileIdentity(namespaceFd) ?? "";
    const factory = new SocketFactory(namespaceFd, options.mark, options.tuning);
    let originalSource = true;
    let shared = false;
    const plans: ListenerPlan[] = [...options.listeners ?? POD_LISTENERS];
    if (options.dnsAddress !== undefined) plans.push(...dnsListeners(options.dnsAddress, options.ipv6Enabled, factory));
    for (const plan of plans) {
      const old = inherited.get(plan.kind);
      inherited.delete(plan.kind);
      let reason = old === undefined ? "" : unfit(old, plan, options.ipv6Enabled, namespaceIdentity);
      let transparent = false;
      if (old !== undefined && reason === undefined && plan.protocol === "udp") fds[plan.kind] = old;
      else if (old !== undefined && reason === undefined) {
        const adopted = factory.adoptListener(old, listenOptions(options, plan));
        transparent = adopted.transparent;
        if (adopted.fd < 0) reason = `cannot set its options: ${describeErrno(-adopted.fd)}`;
        else fds[plan.kind] = old;
      }
      if (old !== undefined && reason !== undefined) {
        closeDescriptor(old);
        options.refused?.(plan.kind, reason);
      }
      if (fds[plan.kind] !== undefined) {
        shared = true;
      } else {
        const made = plan.protocol === "udp"
          ? { fd: factory.bindDatagram(plan.ip ?? "::", plan.port, options.reusePort), transparent: false }
          : factory.listen(listenOptions(options, plan));
        if (made.fd < 0) {
          throw new Error(`cannot listen on port ${plan.port}: ${describeErrno(-made.fd)}${hint(-made.fd)}`);
        }
        fds[plan.kind] = made.fd;
        transparent = made.transparent;
      }
      // What the application sees as its client depends on the inbound ones.
      if (plan.kind === "inboundHbone" || plan.kind === "inboundPlaintext") originalSource &&= transparent;
    }
    const { mark } = options;
    return { namespaceFd, namespaceIdentity, fds, mark, originalSource, shared, stopListening, close };
  } catch (error) {
    close();
    throw error;
  } finally {
    for (const fd of inherited.values()) closeDescriptor(fd);
  }
}

function listenOptions(options: PodListenerOptions, plan: ListenerPlan) {
  return {
    port: plan.port,
    ...(plan.ip === undefined ? {} : { ip: plan.ip }),
    ipv6Enabled: options.ipv6Enabled,
    reusePort: options.reusePort,
    // Only what sees its clients' own addresses needs it.
    transparent: isDnsPlan(plan) ? false : options.requireOriginalSource,
    marked: options.markListeners ?? true,
  };
}

/** Why a socket that another process sent is not the one it should be; undefined when it is. Nothing of it is taken on trust. */
function unfit(fd: number, plan: ListenerPlan, ipv6Enabled: boolean, namespace: string): string | undefined {
  const kind = socketKind(fd);
  if (kind === undefined) return "it is no socket";
  if (plan.protocol === "udp") {
    if (kind.type !== SOCK_DGRAM || kind.protocol !== IPPROTO_UDP) return "it is not for UDP";
  } else if (kind.type !== SOCK_STREAM || kind.protocol !== IPPROTO_TCP || !kind.listening) {
    return "it does not listen for TCP";
  }
  const local = localAddress(fd);
  const wildcard = ipv6Enabled ? "::" : "0.0.0.0";
  const family = (plan.ip ?? wildcard).includes(":") ? AF_INET6 : AF_INET;
  if (kind.family !== family || local?.ip !== (plan.ip ?? wildcard) || local.port !== plan.port) {
    return `it listens on ${local?.ip ?? "?"} port ${local?.port ?? "?"}`;
  }
  const where = socketNamespaceIdentity(fd);
  if (where === undefined) return "the kernel does not tell its network namespace";
  return namespace === "" || where !== namespace ? "it lies in another network namespace" : undefined;
}

function isDnsPlan({ kind }: ListenerPlan): boolean {
  return kind.startsWith("dns");
}

function hint(code: number): string {
  if (code === EADDRINUSE) return "; another ztunnel, or the application itself, listens there";
  return code === EPERM ? "; ztunnel needs the capabilities NET_ADMIN and SYS_ADMIN" : "";
}
