/** Where the hosts of a cluster come from. */
import type { ClusterSpec } from "../../spec/mod.ts";
import type { UpstreamMeans } from "../cluster_state.ts";
import type { ClusterCounters } from "../counters.ts";
import type { Host } from "../host.ts";
import type { FoundEndpoints } from "../host_set.ts";
import type { Cluster, PickRequest, UpstreamFailure, Wait } from "../upstream.ts";
import { DnsDiscovery } from "./dns.ts";
import { DynamicForward } from "./dynamic_forward.ts";
import { OriginalDestination } from "./original_destination.ts";

/** What a discovery knows of its cluster. */
export interface DiscoveryHome extends Cluster {
  readonly spec: ClusterSpec;
  readonly means: UpstreamMeans;
  readonly counters: ClusterCounters;
  setFound(found: FoundEndpoints): void;
  /** A host of those that were found. */
  balance(request: PickRequest): Host | undefined;
}

export type HostChosen = (host: Host | undefined, failure: UpstreamFailure | undefined) => void;

export interface Discovery {
  start(): void;
  /** Asks no more; who waits for it is answered. */
  stop(): void;
  /** Hosts of its own making, beside those it gave the cluster. */
  hosts(): Iterable<Host>;
  /** It says itself where a request goes. */
  choose?(request: PickRequest): Host | undefined;
  /** Likewise, perhaps in a later turn. Asked for at each request. */
  readonly asynchronous?: undefined | { choose(request: PickRequest, chosen: HostChosen): Wait };
}

/** Of the kind that the cluster's spec names. `before`: the one whose place it takes. */
export function createDiscovery(home: DiscoveryHome, before?: Discovery): Discovery {
  const { discovery } = home.spec;
  switch (discovery.kind) {
    case "eds":
      return { ...SILENT };
    case "static":
      return { ...SILENT, start: () => home.setFound(discovery.endpoints) };
    case "dns":
      return new DnsDiscovery(home, discovery, before instanceof DnsDiscovery ? before : undefined);
    case "original destination":
      return new OriginalDestination(home, discovery);
    case "dynamic forward":
      return new DynamicForward(home, discovery);
  }
}

/** Somebody else brings the hosts. */
const SILENT: Discovery = { start() {}, stop() {}, hosts: () => [] };
