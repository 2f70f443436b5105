/** Options of the roles other than ztunnel, and the Config each makes of them. */
import type { CniConfig, LocalConfig, WaypointConfig } from "./config.ts";
import { UsageError } from "./errors.ts";
import { istioLogLevel, logAsJson, logFormat, logLevel } from "./log_options.ts";
import type { Environment, Option, ParsedArguments } from "./options.ts";
import { boolean, custom, optionalText, resolveOptions, text } from "./options.ts";
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
    "Data-plane workers of each node: a number, a share of the CPUs, or 0 for one per CPU.",
    parseWorkerCount,
  ),
  dnsCapture: boolean(
    { env: "AMBIT_DNS_CAPTURE", flag: "dns-capture" },
    false,
    "Resolve names in pods by ztunnel's DNS proxy too, wildcards and headless services included.",
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
    log: Object.freeze({ filter: v.logLevel, format: v.logFormat }),
  });
}

/** A flag of pilot-agent that is taken so that Istio's own template works, and has no effect. */
function ignored(flag: string, help: string): Option<string | undefined> {
  return optionalText({ flag }, `${help} Accepted and without effect.`);
}

export const waypointOptions = {
  domain: text(
    { env: "DNS_DOMAIN", flag: "domain" },
    "",
    "DNS domain of the own namespace: $(POD_NAMESPACE).svc.cluster.local.",
  ),
  serviceCluster: text(
    { env: "SERVICE_CLUSTER", flag: "serviceCluster", flagAliases: ["service-cluster"] },
    "",
    "Service account and namespace, joined by a dot.",
  ),
  logLevel: istioLogLevel,
  logAsJson,
  proxyLogLevel: ignored("proxyLogLevel", "Envoy's log level."),
  proxyComponentLogLevel: ignored("proxyComponentLogLevel", "Envoy's log level by component."),
  outlierLogPath: ignored("outlierLogPath", "Envoy's log of ejected hosts."),
  concurrency: ignored("concurrency", "Envoy's worker threads."),
  meshConfig: ignored("meshConfig", "Mesh configuration file."),
  templateFile: ignored("templateFile", "Envoy's bootstrap template."),
  stsPort: ignored("stsPort", "Port of the token exchange."),
  profiling: ignored("profiling", "Profiling of pilot-agent."),
} as const;

/** @throws UsageError */
export function buildWaypointConfig(parsed: ParsedArguments, env: Environment): WaypointConfig {
  const v = resolveOptions(waypointOptions, parsed, env);
  return Object.freeze({
    role: "waypoint",
    domain: v.domain,
    serviceCluster: v.serviceCluster,
    log: Object.freeze({ filter: v.logLevel, format: v.logAsJson ? "json" : "plain" }),
  });
}

export const cniOptions = { logLevel: istioLogLevel, logAsJson } as const;

/** @throws UsageError */
export function buildCniConfig(parsed: ParsedArguments, env: Environment): CniConfig {
  const v = resolveOptions(cniOptions, parsed, env);
  return Object.freeze({
    role: "cni",
    log: Object.freeze({ filter: v.logLevel, format: v.logAsJson ? "json" : "plain" }),
  });
}
