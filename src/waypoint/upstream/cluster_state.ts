/** What the parts of one cluster share: its spec as it is now, counts, limits, and the worker's means. */
import type { BufferPool } from "../../net/buffer_pool.ts";
import type { Timing } from "../http/timing.ts";
import type { ClusterSpec } from "../spec/mod.ts";
import type { ClusterCounters } from "./counters.ts";
import type { Dialer } from "./dialer.ts";
import type { Limits } from "./limits.ts";
import type { Resolver } from "./resolver.ts";

export interface UpstreamMeans {
  readonly timing: Timing;
  readonly dialer: Dialer;
  readonly resolver: Resolver;
  readonly buffers: BufferPool;
  /** From 0 to below 1. */
  random(): number;
}

export interface ClusterState {
  readonly spec: ClusterSpec;
  readonly counters: ClusterCounters;
  readonly limits: Limits;
  readonly means: UpstreamMeans;
}
