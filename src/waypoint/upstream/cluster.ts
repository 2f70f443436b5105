/**
 * One cluster of a worker: who its hosts are (by its discovery), which one a request gets, connections to it, limits, and what is learnt of it.
 */
import type { ClusterName, ClusterSpec, EndpointsSpec, TransportSpec } from "../spec/mod.ts";
import { Balancer } from "./balancing/balancer.ts";
import type { ClusterState, UpstreamMeans } from "./cluster_state.ts";
import { ClusterCounters } from "./counters.ts";
import type { DialRequest } from "./dialer.ts";
import { createDiscovery, type Discovery, type HostChosen } from "./discovery/discovery.ts";
import { NO_HEALTHY_HOST, overflow } from "./failures.ts";
import type { Host } from "./host.ts";
import { type FoundEndpoints, HostSet } from "./host_set.ts";
import { ANSWERED, HttpPool } from "./http_pool.ts";
import { type LimitBoard, Limited, Limits } from "./limits.ts";
import { Outliers } from "./outliers.ts";
import { StreamDial } from "./stream_dial.ts";
import { NO_WISH, type Wish, wishKey, wishOf } from "./wish.ts";
import type {
  Cluster,
  HttpWaiter,
  PickRequest,
  StreamWaiter,
  UpstreamFailure,
  UpstreamHost,
  Wait,
} from "./upstream.ts";

const CONNECT_TIMEOUT_MS = 5_000;
const NO_ENDPOINTS: FoundEndpoints = { localities: [], overprovisioning: 140 };

export class UpstreamCluster implements Cluster, ClusterState {
  readonly counters = new ClusterCounters();
  readonly limits: Limits;
  readonly means: UpstreamMeans;
  readonly hosts: HostSet;
  #spec: ClusterSpec;
  #balancer: Balancer | undefined;
  #discovery: Discovery;
  #outliers: Outliers | undefined;

  constructor(spec: ClusterSpec, means: UpstreamMeans, board: LimitBoard, others: readonly LimitBoard[]) {
    this.#spec = spec;
    this.means = means;
    this.limits = new Limits(spec.limits, board, others);
    this.hosts = new HostSet(this, this.counters);
    this.#outliers = this.#createOutliers();
    this.#discovery = createDiscovery(this);
    this.#discovery.start();
  }

  get name(): ClusterName {
    return this.#spec.name;
  }

  get spec(): ClusterSpec {
    return this.#spec;
  }

  /** Hosts and what is known of them stay; connections only where they would be made in another way now. */
  update(spec: ClusterSpec): void {
    const before = this.#spec;
    this.#spec = spec;
    this.limits.spec = spec.limits;
    if (!isSame(before.balancing, spec.balancing)) {
      for (const host of this.allHosts()) host.ringHashes = [];
    }
    if (!isSame(before.outliers, spec.outliers)) {
      this.#outliers?.stop();
      if (spec.outliers === undefined) { for (const host of this.hosts.all()) this.#outliers?.forget(host); }
      this.#outliers = this.#createOutliers();
    }
    if (!isSame(connectionFacts(before), connectionFacts(spec))) {
      for (const host of this.allHosts()) host.drainPools();
    }
    if (!isSame(before.discovery, spec.discovery)) this.#replaceDiscovery();
    this.#balancer = undefined;
  }

  #replaceDiscovery(): void {
    const before = this.#discovery;
    this.#discovery = createDiscovery(this, before);
    const { kind } = this.spec.discovery;
    // Of the others the new hosts come at once, or with the endpoints that are told next: those that stay keep their connections.
    if (kind === "original destination" || kind === "dynamic forward") this.setFound(NO_ENDPOINTS);
    this.#discovery.start();
    before.stop();
    for (const host of before.hosts()) host.drainPools();
  }

  /** Endpoints of an EDS cluster. */
  setEndpoints(endpoints: EndpointsSpec | undefined): void {
    this.setFound(endpoints ?? NO_ENDPOINTS);
  }

  /** For discoveries. */
  setFound(found: FoundEndpoints): void {
    this.hosts.update(found, this.means.timing.nowMs, (host) => this.#outliers?.forget(host));
    this.#balancer = undefined;
    this.hosts.arrange();
  }

  /** Those of the discovery's own making included. */
  *allHosts(): Iterable<Host> {
    yield* this.hosts.all();
    yield* this.#discovery.hosts();
  }

  // ---- for the engine

  http(request: PickRequest, downstreamVersion: "1.0" | "1.1" | "2", waiter: HttpWaiter): Wait {
    const { asynchronous } = this.#discovery;
    const version = this.#version(downstreamVersion);
    if (asynchronous === undefined) return this.#acquire(this.#choose(request), undefined, request, version, waiter);
    return waitFor(
      (chosen) => asynchronous.choose(request, chosen),
      (host, failure) => this.#acquire(host, failure, request, version, waiter),
    );
  }

  stream(request: PickRequest, waiter: StreamWaiter): Wait {
    const { asynchronous } = this.#discovery;
    if (asynchronous === undefined) return this.#open(this.#choose(request), undefined, request, waiter);
    return waitFor(
      (chosen) => asynchronous.choose(request, chosen),
      (host, failure) => this.#open(host, failure, request, waiter),
    );
  }

  #choose(request: PickRequest): Host | undefined {
    const own = this.#discovery.choose;
    return own === undefined ? this.balance(request) : own.call(this.#discovery, request);
  }

  /** For discoveries. */
  balance(request: PickRequest): Host | undefined {
    return (this.#balancer ??= this.#createBalancer()).pick(request);
  }

  #acquire(
    host: Host | undefined,
    failure: UpstreamFailure | undefined,
    request: PickRequest,
    version: 1 | 2,
    waiter: HttpWaiter,
  ): Wait {
    return host === undefined ? this.#refuse(waiter, failure) : this.#pool(host, request, version).acquire(waiter);
  }

  #open(
    host: Host | undefined,
    failure: UpstreamFailure | undefined,
    request: PickRequest,
    waiter: StreamWaiter,
  ): Wait {
    if (host === undefined) return this.#refuse(waiter, failure);
    if (!this.limits.allows(Limited.CONNECTIONS)) {
      this.counters.upstream_cx_overflow++;
      waiter.failed(overflow("connections"), host);
      return ANSWERED;
    }
    const wish = wishOf(this.#transportOf(host), request);
    return new StreamDial(this, host, waiter).start(this.#dialRequest(host, wish, ""));
  }

  #refuse(waiter: HttpWaiter | StreamWaiter, failure: UpstreamFailure = NO_HEALTHY_HOST): Wait {
    if (failure === NO_HEALTHY_HOST) this.counters.upstream_cx_none_healthy++;
    waiter.failed(failure, undefined);
    return ANSWERED;
  }

  outcome(
    upstreamHost: UpstreamHost,
    outcome: { readonly status: number } | { readonly localFailure: "connect" | "reset" | "timeout" },
  ): void {
    const host = upstreamHost as Host;
    if ("status" in outcome) {
      this.counters.answered(outcome.status);
      if (outcome.status >= 500) host.rqError++;
      else host.rqSuccess++;
      return this.#outliers?.answered(host, outcome.status);
    }
    host.rqError++;
    if (outcome.localFailure === "timeout") {
      host.rqTimeout++;
      this.counters.upstream_rq_timeout++;
    }
    this.#outliers?.failed(host, outcome.localFailure);
  }

  takeRetry(): (() => void) | undefined {
    if (!this.limits.allows(Limited.RETRIES)) {
      this.counters.upstream_rq_retry_overflow++;
      return undefined;
    }
    this.counters.upstream_rq_retry++;
    this.limits.add(Limited.RETRIES, 1);
    let isDone = false;
    return () => {
      if (!isDone) this.limits.add(Limited.RETRIES, -1);
      isDone = true;
    };
  }

  // ---- connections

  #version(downstream: "1.0" | "1.1" | "2"): 1 | 2 {
    const { kind } = this.#spec.protocol;
    return kind === "http2" || (kind === "as downstream" && downstream === "2") ? 2 : 1;
  }

  #pool(host: Host, request: PickRequest, version: 1 | 2): HttpPool {
    const transport = this.#transportOf(host);
    const wish = transport.kind === "raw" ? NO_WISH : wishOf(transport, request);
    const key = wish === NO_WISH ? RAW_KEYS[version] : `${version} ${wishKey(wish)}`;
    const known = host.pools.get(key);
    if (known !== undefined) return known as HttpPool;
    const dialRequest = (): DialRequest => this.#dialRequest(host, wish, version === 2 ? "h2" : "http/1.1");
    const pool = new HttpPool(this, host, version, dialRequest, (empty) => {
      if (host.pools.get(key) === empty) host.pools.delete(key);
    });
    host.pools.set(key, pool);
    return pool;
  }

  #transportOf({ endpoint }: Host): TransportSpec {
    for (const { tag, transport } of this.#spec.transportByTag) if (tag === endpoint.tag) return transport;
    return this.#spec.transport;
  }

  #dialRequest(host: Host, { serverName, ends }: Wish, protocol: DialRequest["protocol"]): DialRequest {
    return {
      reach: host.endpoint.reach,
      transport: this.#transportOf(host),
      serverName,
      protocol,
      timeoutMs: this.#spec.connectTimeoutMs || CONNECT_TIMEOUT_MS,
      keepalive: this.#spec.keepalive,
      ends,
    };
  }

  #createBalancer(): Balancer {
    const { timing, random } = this.means;
    const context = { random: () => random(), nowMs: () => timing.nowMs };
    return new Balancer(this.#spec.balancing, this.hosts.arrange(), context, this.counters);
  }

  #createOutliers(): Outliers | undefined {
    const { outliers } = this.#spec;
    if (outliers === undefined) return undefined;
    return new Outliers(outliers, this.means.timing, this.counters, this.hosts, () => this.#balancer = undefined);
  }

  /** No request will come any more: what is under way goes on. */
  retire(): void {
    this.#discovery.stop();
    this.#outliers?.stop();
    for (const host of this.allHosts()) host.drainPools();
  }

  close(reason: string): void {
    this.#discovery.stop();
    this.#outliers?.stop();
    for (const host of this.allHosts()) host.closePools(reason);
  }
}

const RAW_KEYS = { 1: "1", 2: "2" } as const;

/** A choice that may take time: `use` gives what can be cancelled once it is made. */
function waitFor(choose: (chosen: HostChosen) => Wait, use: (...found: Parameters<HostChosen>) => Wait): Wait {
  let current: Wait = ANSWERED;
  let isChosen = false;
  const waiting = choose((host, failure) => {
    isChosen = true;
    current = use(host, failure);
  });
  if (!isChosen) current = waiting;
  return { cancel: () => current.cancel() };
}

function connectionFacts({ protocol, transport, transportByTag, limits, keepalive }: ClusterSpec): unknown {
  const { maxRequestsPerConnection, idleTimeoutMs, maxConnectionMs, maxConcurrentStreams } = limits;
  return [
    protocol,
    transport,
    transportByTag,
    keepalive ?? null,
    [maxRequestsPerConnection, idleTimeoutMs, maxConnectionMs, maxConcurrentStreams],
  ];
}

/** Plain data made by the same code. */
function isSame(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
