/** Options of `ambit local`, and the Config made of them. */
import type { LocalConfig } from "./config.ts";
import { UsageError } from "./errors.ts";
import { logFormat, logLevel } from "./log_options.ts";
import type { Environment, ParsedArguments } from "./options.ts";
import { boolean, custom, optionalText, resolveOptions } from "./options.ts";
import type { Host } from "./ztunnel_config.ts";
import type { WorkerCount } from "./values.ts";
import { parseWorkerCount } from "./values.ts";

export const localOptions = {
  stateDir: optionalText(
    { env: "AMBIT_STATE_DIR", flag: "state-dir", metavar: "DIR" },
    "Keep the CA (root certificate and key) here across runs; without it each run has a CA of its own.",
  ),
  workers: custom<WorkerCount>(
    { env: "ZTUNNEL_WORKER_THREADS", flag: "workers", metavar: "N|P%" },
    { kind: "count", count: 1 },
    "1",
    "Data-plane workers of each ztunnel and each waypoint: a number, a share of the CPUs, or 0 for one per CPU.",
    parseWorkerCount,
  ),
  dnsCapture: boolean(
    { env: "AMBIT_DNS_CAPTURE", flag: "dns-capture" },
    false,
    "Resolve names in pods by ztunnel's DNS proxy too, wildcards and headless services included.",
  ),
  cni: boolean(
    { env: "AMBIT_LOCAL_CNI", flag: "cni" },
    false,
    "Capture pods by istio-cni's node agent, as in a cluster: the label istio.io/dataplane-mode takes effect while they run.",
  ),
  logLevel,
  logFormat,
} as const;

/** @throws UsageError */
export function buildLocalConfig(parsed: ParsedArguments, env: Environment, host: Host): LocalConfig {
  const v = resolveOptions(localOptions, parsed, env);
  const [meshFile, extra] = parsed.positionals;
  if (extra !== undefined) throw new UsageError(`unexpected argument ${JSON.stringify(extra)}: local takes one file`);
  const workers = v.workers.kind === "count"
    ? v.workers.count
    : v.workers.kind === "all"
    ? host.cpus
    : Math.max(1, Math.ceil(host.cpus * v.workers.percent / 100));
  return Object.freeze({
    role: "local",
    meshFile,
    stateDir: v.stateDir,
    workers,
    dnsCapture: v.dnsCapture,
    cni: v.cni,
    log: Object.freeze({ filter: v.logLevel, format: v.logFormat }),
  });
}
