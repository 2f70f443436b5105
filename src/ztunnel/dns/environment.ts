/** What the DNS of all pods of a worker shares. */
import type { IoContext } from "../../net/io_context.ts";
import type { DnsMetrics } from "../../telemetry/dns_metrics.ts";
import type { Limits } from "../../telemetry/limits.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { MeshCache } from "../mesh_cache.ts";
import type { CacheBudget } from "./answer_cache.ts";
import type { DnsSettings } from "./settings.ts";
import type { SystemFiles } from "./system_files.ts";

export interface DnsEnvironment {
  readonly io: IoContext;
  readonly settings: DnsSettings;
  /** Answers about names. */
  readonly mesh: MeshCache;
  readonly files: SystemFiles;
  readonly budget: CacheBudget;
  readonly metrics: DnsMetrics;
  readonly limits: Pick<Limits, "reached">;
  readonly log: Logger;
  /** [0, 1). */
  readonly random: () => number;
  readonly randomId: () => number;
  /** A question was forwarded, which leaves garbage and memory to be given back. */
  readonly worked?: () => void;
}
