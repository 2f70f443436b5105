/** The upstream side of a worker: its clusters, and what they reach endpoints by. */
import type { HandshakeFailure } from "../../hbone/connection.ts";
import type { IoContext } from "../../net/io_context.ts";
import { SocketFactory } from "../../net/socket_factory.ts";
import type { Revocations } from "../../platform/revocations.ts";
import type { ClusterName, ConfigUpdate, TextMatch } from "../spec/mod.ts";
import { Secrets } from "../transport/secrets.ts";
import { type ClusterSet, createClusters } from "../upstream/clusters.ts";
import type { LimitBoard } from "../upstream/limits.ts";
import { type DnsAnswer, type DnsQuestion, RemoteResolver } from "../upstream/resolver.ts";
import type { Clusters } from "../upstream/upstream.ts";
import { createDialer, type WorkerDialer } from "../upstream/worker_dialer.ts";
import type { WorkerSettings } from "./messages.ts";

export interface UpstreamsOptions {
  readonly io: IoContext;
  readonly settings: Pick<WorkerSettings, "tls" | "endpointPort">;
  /** A cluster's counts in each worker, this one's first. */
  readonly boards: (cluster: ClusterName) => readonly LimitBoard[];
  readonly resolve: (question: DnsQuestion) => void;
  /** Who the far end of a tunnel may be. */
  readonly tunnelPeers: () => readonly TextMatch[];
  readonly revocations?: Revocations;
  /** The far end of a tunnel did not prove who it is. */
  readonly tunnelRefused?: (failure: HandshakeFailure) => void;
}

export interface Upstreams extends Clusters {
  readonly clusters: ClusterSet;
  readonly dialer: WorkerDialer;
  apply(update: ConfigUpdate): void;
  /** What the main thread found out about a name. */
  resolved(id: number, answer: DnsAnswer): void;
  close(reason: string): void;
}

export function createUpstreams(options: UpstreamsOptions): Upstreams {
  const { io, settings, boards, resolve, tunnelPeers, revocations } = options;
  const secrets = new Secrets({ policy: settings.tls, revocations });
  const sockets = new SocketFactory(-1, undefined, { keepalive: undefined, userTimeoutMs: undefined });
  const dialer = createDialer({
    io,
    secrets,
    tunnelPeers,
    refused: options.tunnelRefused,
    hbonePort: settings.endpointPort,
    createSocket: (family) => sockets.createClient(family),
  });
  const resolver = new RemoteResolver(resolve, (work) => io.reactor.defer({ deferred: false, flush: work }));
  const clusters = createClusters({
    timing: io.reactor,
    dialer,
    resolver,
    buffers: io.pool,
    random: Math.random,
    boards,
  });
  return {
    clusters,
    dialer,
    get: (name) => clusters.get(name),
    apply(update) {
      if (update.secrets !== undefined) secrets.apply(update.secrets);
      clusters.apply(update);
    },
    resolved: (id, answer) => resolver.received(id, answer),
    close(reason) {
      clusters.close(reason);
      dialer.close(reason);
    },
  };
}
