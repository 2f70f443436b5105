/**
 * A pod in one worker before it can be served: its record in the mesh, its certificate or both are still to come. What connects is held
 * back and not read; it is handed to the pod when it is up, or refused after ztunnel's 5 s. So a pod may start and talk at once, and
 * nothing passes before its policies are in force.
 */
import { describeErrno, EMFILE, ENFILE } from "../platform/errno.ts";
import { localAddress, originalDestination } from "../platform/socket.ts";
import type { SocketAddress } from "../platform/sockaddr.ts";
import { formatSocketAddress } from "../mesh/mod.ts";
import { Listener } from "../net/listener.ts";
import { Timer, type TimerTarget } from "../net/reactor.ts";
import { isDatagramKind } from "./dns/listeners.ts";
import type { ListenerKind, PodDescription } from "./messages.ts";
import { type PodEnvironment, resetClient } from "./pod_proxy.ts";

/** ztunnel's wait for a local workload's record. */
export const HOLD_MS = 5_000;
/** More wait in the kernel's queue: held connections are as many descriptors. */
const MAX_HELD = 1024;

export interface HeldConnection {
  readonly kind: ListenerKind;
  readonly fd: number;
  readonly peer: SocketAddress;
}

interface Held extends HeldConnection {
  readonly untilMs: number;
}

export class WaitingPod implements TimerTarget {
  readonly #env: Pick<PodEnvironment, "io" | "access" | "log" | "metrics">;
  readonly #timer = new Timer(this);
  #description: PodDescription;
  #reason: string;
  #listeners: Listener[] = [];
  /** Oldest first, and so the first to be refused. */
  #held: Held[] = [];
  #draining = false;

  constructor(
    env: Pick<PodEnvironment, "io" | "access" | "log" | "metrics">,
    description: PodDescription,
    reason: string,
  ) {
    this.#env = env;
    this.#description = description;
    this.#reason = reason;
    this.#listen();
  }

  /** Connections held back. */
  get held(): number {
    return this.#held.length;
  }

  explain(reason: string): void {
    this.#reason = reason;
  }

  /** Ends the waiting; whoever takes the connections owns them. */
  end(): readonly HeldConnection[] {
    this.#stop();
    return this.#held.splice(0);
  }

  /** Holds a connection that another worker accepted. */
  hold(kind: ListenerKind, fd: number, peer: SocketAddress): void {
    const { reactor } = this.#env.io;
    reactor.own(fd);
    this.#held.push({ kind, fd, peer, untilMs: reactor.nowMs + HOLD_MS });
    if (this.#held.length === 1) reactor.setTimer(this.#timer, HOLD_MS);
    if (this.#held.length < MAX_HELD) return;
    this.#env.metrics.limits.reached("connections_held", {
      pod: `${this.#description.namespace}/${this.#description.name}`,
    });
    this.#unlisten();
  }

  sweep(): void {
    for (const listener of [...this.#listeners]) listener.sweep();
  }

  /** Accepts no more; what is held is still served, or refused in its time. */
  drain(): void {
    this.#draining = true;
    for (const listener of this.#listeners) listener.acceptLast();
    this.#unlisten();
  }

  /** The pod is gone. */
  close(): void {
    this.#stop();
    for (const held of this.#held.splice(0)) this.#refuse(held, "the pod is gone");
  }

  expired(): void {
    const { reactor } = this.#env.io;
    while (this.#held.length > 0 && this.#held[0].untilMs <= reactor.nowMs) {
      this.#refuse(this.#held.shift() as Held, this.#reason);
    }
    if (this.#held.length > 0) reactor.setTimer(this.#timer, Math.max(1, this.#held[0].untilMs - reactor.nowMs));
    if (this.#listeners.length === 0 && !this.#draining && this.#held.length < MAX_HELD) this.#listen();
  }

  #refuse({ kind, fd, peer }: Held, reason: string): void {
    const target = (kind === "inboundHbone" ? undefined : originalDestination(fd)) ?? localAddress(fd);
    this.#env.access.failed(
      formatSocketAddress(peer),
      target === undefined ? "" : formatSocketAddress(target),
      kind === "outbound" ? "outbound" : "inbound",
      reason,
    );
    resetClient(this.#env.io, fd);
  }

  #listen(): void {
    const { listeners, namespace, name } = this.#description;
    for (const [kind, fd] of Object.entries(listeners) as [ListenerKind, number][]) {
      // Datagrams wait in the kernel.
      if (isDatagramKind(kind)) continue;
      this.#listeners.push(
        new Listener(this.#env.io.reactor, fd, {
          accepted: (accepted, peer) => this.hold(kind, accepted, peer),
          acceptFailed: (code) => {
            if (code === EMFILE || code === ENFILE) {
              return this.#env.metrics.limits.reached("open_files", { pod: `${namespace}/${name}`, listener: kind });
            }
            this.#env.log.log("error", "proxy", `cannot accept connections for a moment: ${describeErrno(code)}`, {
              pod: `${namespace}/${name}`,
              listener: kind,
            });
          },
        }),
      );
    }
  }

  #unlisten(): void {
    for (const listener of this.#listeners.splice(0)) listener.close();
  }

  #stop(): void {
    this.#unlisten();
    this.#env.io.reactor.cancelTimer(this.#timer);
  }
}
