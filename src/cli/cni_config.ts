/** The node agent's Config from its options. */
import type { CniConfig, CniStatusConfig } from "./config.ts";
import { cniOptions, cniStatusOptions } from "./cni_options.ts";
import { UsageError } from "./errors.ts";
import { type Environment, type ParsedArguments, resolveOptions } from "./options.ts";

/** What of the machine the agent's Config depends on. */
export interface CniHost {
  readonly hostName?: string;
}

/** @throws UsageError */
export function buildCniConfig(parsed: ParsedArguments, env: Environment, host: CniHost): CniConfig {
  const v = resolveOptions(cniOptions, parsed, withoutEmpty(env));
  if (v.ambientEnabled && v.selectors === undefined) {
    throw new UsageError(
      "ambient mode needs AMBIENT_ENABLEMENT_SELECTOR (flag --ambient-enablement-selector): " +
        "without it no pod would ever be captured",
    );
  }
  if (v.ownedConfig && !v.chained) {
    throw new UsageError("ISTIO_OWNED_CNI_CONFIG needs CHAINED_CNI_PLUGIN: a file of the plugin's own is no chain");
  }
  if (v.runDir.length > MAX_RUN_DIR) {
    throw new UsageError(`CNI_AGENT_RUN_DIR: a path of ${v.runDir.length} characters is too long for a unix socket`);
  }
  const procRoot = `${v.hostRoot}/proc`;
  return Object.freeze({
    role: "cni",
    runDir: v.runDir,
    hostRoot: v.hostRoot,
    procRoot,
    nodeName: v.nodeName ?? v.kubernetesNodeName ?? host.hostName ?? "",
    podName: v.podName,
    podNamespace: v.podNamespace,
    systemNamespace: v.systemNamespace,
    revision: v.revision,
    excludedNamespaces: v.excludedNamespaces,
    install: Object.freeze({
      netDir: v.netDir,
      confName: v.confName,
      chained: v.chained,
      ownedConfig: v.ownedConfig,
      ownedConfigFile: v.ownedConfigFile ?? "02-istio-cni.conflist",
      kubeconfigMode: v.kubeconfigMode,
      confGroupRead: v.confGroupRead,
      kubeCaFile: v.kubeCaFile,
      skipTlsVerify: v.skipTlsVerify,
      binaryDir: v.binaryDir ?? `${v.hostRoot}/opt/cni/bin`,
      binarySource: v.binarySource ?? "/opt/cni/bin",
      serviceAccountDir: v.serviceAccountDir,
      kubernetesHost: v.kubernetesHost,
      kubernetesPort: v.kubernetesPort,
      kubernetesProtocol: v.kubernetesProtocol,
      pluginLogLevel: levelOf("cni-plugin", v.logLevel),
    }),
    ambient: Object.freeze({
      enabled: v.ambientEnabled,
      selectors: v.selectors,
      dnsCapture: v.dnsCapture,
      ipv6: v.ipv6,
      reconcileOnStartup: v.reconcileOnStartup,
      disableSafeUpgrade: v.disableSafeUpgrade,
      detectionRetry: v.detectionRetry,
      nativeNftables: v.nativeNftables,
      forceIptablesBinary: v.forceIptablesBinary,
      probeIpv4: v.probeIpv4,
      probeIpv6: v.probeIpv6,
      scopedXtablesLocking: v.scopedXtablesLocking,
      awsBranchEni: v.awsBranchEni,
      hostNetns: v.switchToHostNs ? `${procRoot}/1/ns/net` : undefined,
      ztunnelSocket: v.ztunnelSocket,
      verifyIntervalMs: v.verifyIntervalMs,
      hostVerifyIntervalMs: v.hostVerifyIntervalMs,
    }),
    repair: !v.repairEnabled
      ? "none"
      : v.repairPods
      ? "repair"
      : v.repairDelete
      ? "delete"
      : v.repairLabel
      ? "label"
      : "none",
    monitoringPort: Math.max(0, v.monitoringPort),
    healthPort: v.healthPort,
    ctrlzPort: v.ctrlzPort,
    ctrlzAddress: v.ctrlzAddress,
    logTargets: Object.freeze([...new Set(parsed.flags.get(cniOptions.logTarget.flag) ?? [v.logTarget])]),
    log: Object.freeze({ filter: v.logLevel, format: v.logAsJson ? "json" : "plain" }),
  });
}

/** A unix socket's path has at most 107 bytes; the longest name in the directory is pluginevent.sock. */
const MAX_RUN_DIR = 107 - "/pluginevent.sock".length;

/** @throws UsageError */
export function buildCniStatusConfig(parsed: ParsedArguments, env: Environment): CniStatusConfig {
  if (parsed.positionals.length > 0) {
    throw new UsageError(`unexpected argument ${JSON.stringify(parsed.positionals[0])}: cni status takes only flags`);
  }
  return Object.freeze({ ...resolveOptions(cniStatusOptions, parsed, withoutEmpty(env)) });
}

/** The original reads its variables with a library for which an empty one is not set. */
function withoutEmpty(env: Environment): Environment {
  return Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ""));
}

/** Level of one scope among the directives of the log, in the words of Istio's Go components. */
function levelOf(scope: string, directives: string): string {
  const levels = new Map(
    directives.split(",").map((part): [string, string] => {
      const [target, level] = part.includes("=") ? part.split("=", 2) : ["", part];
      return [target, level];
    }),
  );
  const level = levels.get(scope) ?? levels.get("") ?? "info";
  return level === "off" ? "none" : level;
}
