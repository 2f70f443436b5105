/** The tunnels of outbound connections: one to the destination or its waypoint, or one inside another to another network. */
import { type ConnectOwner, ConnectStream, type TunnelSource } from "../hbone/connect_stream.ts";
import { NestedSource } from "../hbone/nested_tunnel.ts";
import type { DialPlan, TunnelWaiter } from "../hbone/pool.ts";
import { formatForwarded, type Outbound, type SocketAddress } from "../mesh/mod.ts";
import type { TlsContext } from "../platform/tls_context.ts";
import type { Fields } from "../protocol/http2/mod.ts";
import { admitServer } from "./peer_identity.ts";
import type { PodProxy } from "./pod_proxy.ts";

export type Tunnelled = Extract<Outbound, { kind: "hbone" | "doubleHbone" }>;

/** A destination's pooled tunnels as one connection asks for them. */
export class PooledTunnels implements TunnelSource, DialPlan {
  readonly ip: string;
  readonly port: number;
  readonly #pod: PodProxy;
  readonly #identities: readonly string[];
  readonly #key: string;

  constructor(pod: PodProxy, to: SocketAddress, identities: readonly string[]) {
    this.#pod = pod;
    this.ip = to.ip;
    this.port = to.port;
    this.#identities = identities;
    this.#key = `${pod.identity}|${identities.join(",")}|${to.ip}|${to.port}`;
  }

  /** Read when a handshake begins: the pool keeps this plan, and the certificate may be replaced meanwhile. */
  get context(): TlsContext {
    return this.#pod.clientContext;
  }

  createSocket(family: number): number {
    return this.#pod.sockets.createClient(family);
  }

  admit(peerUris: readonly string[]): string | undefined {
    return admitServer(peerUris, this.#identities);
  }

  acquire(waiter: TunnelWaiter): void {
    this.#pod.pool.acquire(this.#key, this, waiter);
  }

  cancel(waiter: TunnelWaiter): void {
    this.#pod.pool.cancel(this.#key, waiter);
  }
}

/** The request for a decision's tunnel, one of `pooled`, to be started. `identified` is told which of its names what is behind a gateway proved. */
export function requestTunnel(
  pod: PodProxy,
  decision: Tunnelled,
  client: SocketAddress,
  owner: ConnectOwner,
  pooled: PooledTunnels,
  identified: (uri: string) => void,
): ConnectStream {
  const { reactor } = pod.env.io;
  const request = connectFields(pod, decision, client);
  if (decision.kind === "hbone") return new ConnectStream(reactor, pooled, request, owner);
  const inner = new NestedSource(pod.env.io, {
    outer: pooled,
    request,
    get context() {
      return pod.clientContext;
    },
    settings: pod.nestedSettings,
    admit: (uris) => {
      const refusal = admitServer(uris, decision.innerIdentities);
      if (refusal === undefined) identified(uris.find((uri) => decision.innerIdentities.includes(uri)) ?? "");
      return refusal;
    },
    refused: (failure) => pod.handshakeRefused(failure),
    tunnels: pod.nested,
  });
  // The far proxy learns from it that the client is of another network, whatever address it sees (reference ztunnel 6.8).
  const far = [...request, "x-forwarded-network", pod.env.settings.network];
  return new ConnectStream(reactor, inner, far, owner);
}

function connectFields(pod: PodProxy, decision: Tunnelled, client: SocketAddress): Fields {
  const { randomHex } = pod.env;
  return [
    ":method",
    "CONNECT",
    ":authority",
    decision.authority,
    "baggage",
    pod.baggage,
    "forwarded",
    formatForwarded(client, decision.service?.hostname),
    "traceparent",
    `00-${randomHex(16)}-${randomHex(8)}-00`,
  ];
}
