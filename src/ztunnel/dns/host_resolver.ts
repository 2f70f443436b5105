/**
 * Addresses of workloads that have only a hostname, looked up when a connection needs one (reference ztunnel 5.3): asked of
 * ztunnel's own name servers, from its own network namespace, by its own /etc/resolv.conf and /etc/hosts. One per worker.
 */
import { formatIp, isIpv6 } from "../../mesh/ip.ts";
import type { IoContext } from "../../net/io_context.ts";
import { SocketFactory } from "../../net/socket_factory.ts";
import type { SocketAddress } from "../../platform/sockaddr.ts";
import { CLASS_IN, parseName, TYPE } from "../../protocol/dns/mod.ts";
import type { OnDemandDnsMetrics } from "../../telemetry/on_demand_dns_metrics.ts";
import type { TrafficPeer } from "../../telemetry/traffic_metrics.ts";
import { type Answer, CacheBudget } from "./answer_cache.ts";
import type { UpstreamQuestion, UpstreamSockets } from "./exchange.ts";
import { Forwarder, type ForwardWaiter } from "./forwarder.ts";
import type { ResolvConf, SystemFiles } from "./system_files.ts";

/** Somebody waiting for an address. Called once, unless cancelled. */
export interface HostWaiter {
  /**
   * `ip`: an address of the hostname, picked at random among those of the wanted family, else of the other one. Undefined: there is none
   * to be had, and `reason` says why, in words for the log.
   */
  hostResolved(ip: string | undefined, reason: string): void;
}

export interface HostResolver {
  /**
   * Looks a hostname up. A cached answer comes before this returns, any other in a later turn. `source` is the client, for
   * `istio_on_demand_dns_total`.
   */
  resolve(hostname: string, preferIpv6: boolean, source: TrafficPeer, waiter: HostWaiter): void;
  /** The waiter is not called any more. */
  cancel(hostname: string, waiter: HostWaiter): void;
}

export interface HostResolverOptions {
  readonly io: IoContext;
  readonly files: SystemFiles;
  readonly metrics: OnDemandDnsMetrics;
  /** Without it only A records are asked for. */
  readonly ipv6Enabled: boolean;
  /** [0, 1). */
  readonly random: () => number;
  readonly randomId: () => number;
  /** Undefined: plain sockets of this thread's own namespace. */
  readonly sockets?: UpstreamSockets;
  /** Port of the name servers; 53 but for tests. */
  readonly port?: number;
}

/** Two answers for each of ztunnel's 4,096 names, at what those usually take. */
const CACHE_BYTES = 4 * 1024 * 1024;
const MAX_LOOKUPS = 1024;
const DNS_PORT = 53;

export function createHostResolver(options: HostResolverOptions): HostResolver {
  return new SystemResolver(options);
}

/** The names to ask for, in order: a name with few dots is tried with the search domains first (resolv.conf(5), ndots). */
export function searchNames(hostname: string, { search, ndots }: ResolvConf): string[] {
  const name = parseName(hostname);
  if (name === undefined || name === "") return [];
  if (hostname.endsWith(".")) return [name];
  const searched = search.map((domain) => parseName(`${name}.${domain}`)).filter((full) => full !== undefined);
  const dots = name.split(".").length - 1;
  return [...new Set(dots >= ndots ? [name, ...searched] : [...searched, name])];
}

class SystemResolver implements HostResolver {
  readonly #options: HostResolverOptions;
  readonly #forwarder: Forwarder;
  readonly #lookups = new Map<string, Lookup>();

  constructor(options: HostResolverOptions) {
    this.#options = options;
    this.#forwarder = new Forwarder({
      io: options.io,
      sockets: options.sockets ?? new SocketFactory(-1, undefined, { keepalive: undefined, userTimeoutMs: undefined }),
      randomId: options.randomId,
      files: options.files,
      budget: new CacheBudget(CACHE_BYTES),
      maxCacheBytes: CACHE_BYTES,
      hostsTtlSeconds: 0,
    });
  }

  resolve(hostname: string, preferIpv6: boolean, source: TrafficPeer, waiter: HostWaiter): void {
    this.#options.metrics.resolved(source, hostname);
    const running = this.#lookups.get(hostname);
    if (running !== undefined) return running.join(preferIpv6, waiter);
    if (this.#lookups.size >= MAX_LOOKUPS) {
      return waiter.hostResolved(undefined, `${MAX_LOOKUPS} other names are being resolved`);
    }
    const { files, ipv6Enabled, random, port } = this.#options;
    const { resolvConf } = files;
    const lookup = new Lookup({
      hostname,
      names: searchNames(hostname, resolvConf),
      types: ipv6Enabled ? [TYPE.A, TYPE.AAAA] : [TYPE.A],
      servers: resolvConf.servers.map((ip) => ({ ip, port: port ?? DNS_PORT })),
      forwarder: this.#forwarder,
      random,
      done: () => this.#lookups.delete(hostname),
    });
    this.#lookups.set(hostname, lookup);
    lookup.join(preferIpv6, waiter);
    lookup.start();
  }

  cancel(hostname: string, waiter: HostWaiter): void {
    this.#lookups.get(hostname)?.leave(waiter);
  }
}

interface LookupPlan {
  readonly hostname: string;
  readonly names: readonly string[];
  readonly types: readonly number[];
  readonly servers: readonly SocketAddress[];
  readonly forwarder: Forwarder;
  readonly random: () => number;
  readonly done: () => void;
}

/** One hostname being looked up, for everybody who wants it. */
class Lookup {
  readonly #plan: LookupPlan;
  readonly #waiters = new Map<HostWaiter, boolean>();
  #next = 0;
  #pending = 0;
  #addresses: string[] = [];
  #failure = "";

  constructor(plan: LookupPlan) {
    this.#plan = plan;
  }

  join(preferIpv6: boolean, waiter: HostWaiter): void {
    this.#waiters.set(waiter, preferIpv6);
  }

  leave(waiter: HostWaiter): void {
    this.#waiters.delete(waiter);
  }

  start(): void {
    const { names, hostname, types, forwarder, servers } = this.#plan;
    const name = names[this.#next++];
    if (name === undefined) {
      const reason = this.#failure !== "" ? this.#failure : names.length === 0 ? "it is no name" : "it has no address";
      return this.#finish(`cannot resolve ${hostname}: ${reason}`);
    }
    this.#pending = types.length;
    for (const type of types) {
      const question: UpstreamQuestion = { name, type, class: CLASS_IN, ...RECURSIVE };
      const waiter: ForwardWaiter = {
        forwarded: (answer) => this.#answered(answer, type),
        forwardFailed: (reason) => this.#failed(reason),
      };
      const known = forwarder.known(question, servers);
      if (known === undefined) forwarder.ask(question, servers, waiter);
      else waiter.forwarded(known);
    }
  }

  #answered(answer: Answer, type: number): void {
    for (const record of answer.answers) {
      const length = type === TYPE.A ? 4 : 16;
      if (record.type === type && record.class === CLASS_IN && record.data.length === length) {
        this.#addresses.push(formatIp(record.data));
      }
    }
    // Who has what he wants does not wait for the other family, which some servers never answer.
    for (const [waiter, preferIpv6] of [...this.#waiters]) {
      if (preferIpv6 !== (type === TYPE.AAAA) || !this.#addresses.some((ip) => isIpv6(ip) === preferIpv6)) continue;
      this.#waiters.delete(waiter);
      waiter.hostResolved(this.#pick(preferIpv6), "");
    }
    this.#settle();
  }

  #failed(reason: string): void {
    this.#failure = reason;
    this.#settle();
  }

  #settle(): void {
    if (--this.#pending > 0) return;
    if (this.#addresses.length > 0) this.#finish("");
    else this.start();
  }

  #finish(reason: string): void {
    this.#plan.done();
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const [waiter, preferIpv6] of waiters) waiter.hostResolved(this.#pick(preferIpv6), reason);
  }

  #pick(preferIpv6: boolean): string | undefined {
    const wanted = this.#addresses.filter((ip) => isIpv6(ip) === preferIpv6);
    const choice = wanted.length > 0 ? wanted : this.#addresses;
    return choice[Math.floor(this.#plan.random() * choice.length)];
  }
}

const RECURSIVE = { recursionDesired: true, checkingDisabled: false, authenticData: false, dnssecOk: false };
