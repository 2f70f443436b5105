/** What a worker needs to answer its pods' questions, and to look up the hostnames of workloads. */
import type { IoContext } from "../../net/io_context.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { WorkerMetrics } from "../../telemetry/worker_metrics.ts";
import { randomId } from "../entropy.ts";
import type { MeshCache } from "../mesh_cache.ts";
import type { WorkerSettings } from "../messages.ts";
import { CacheBudget } from "./answer_cache.ts";
import type { DnsEnvironment } from "./environment.ts";
import { createHostResolver, type HostResolver } from "./host_resolver.ts";
import { SystemFiles } from "./system_files.ts";

/** Names that pods ask for, in one worker. */
export const MAX_DNS_NAMES = 2048;
/** What other name servers said about them, for all pods of a worker. */
const CACHE_BYTES = 32 * 1024 * 1024;

export interface WorkerDnsOptions {
  readonly io: IoContext;
  readonly settings: WorkerSettings;
  /** Answers about names, at most `MAX_DNS_NAMES`. */
  readonly names: MeshCache;
  readonly metrics: WorkerMetrics;
  readonly log: Logger;
  readonly worked: () => void;
}

export interface WorkerDns {
  readonly hosts: HostResolver;
  /** Undefined: there is no DNS proxy. */
  readonly dns: DnsEnvironment | undefined;
}

export function createWorkerDns({ io, settings, names, metrics, log, worked }: WorkerDnsOptions): WorkerDns {
  const files = new SystemFiles(() => io.reactor.nowMs);
  const random = Math.random;
  const hosts = createHostResolver({
    io,
    files,
    metrics: metrics.onDemandDns,
    ipv6Enabled: settings.ipv6Enabled,
    random,
    randomId,
  });
  const dns: DnsEnvironment | undefined = settings.dns && {
    io,
    settings: settings.dns,
    mesh: names,
    files,
    budget: new CacheBudget(CACHE_BYTES),
    metrics: metrics.dns,
    limits: metrics.limits,
    log,
    random,
    randomId,
    worked,
  };
  return { hosts, dns };
}
