/** ztunnel's three HTTP servers and what they show (reference ztunnel, section 9.1). */
import { compress } from "../admin/compression.ts";
import { readFileSync } from "node:fs";
import type { ResolverConfig } from "../admin/config_dump.ts";
import { lazyMeshDump } from "../admin/mesh_dump.ts";
import {
  type App,
  composeConfigDump,
  createAdminApp,
  createMetricsApp,
  createReadinessApp,
  type HttpServer,
  listen,
  type PodState,
  type Readiness,
} from "../admin/mod.ts";
import type { ZtunnelConfig } from "../cli/config.ts";
import { dumpPolicy, dumpService, dumpWorkload } from "../mesh/config_dump.ts";
import type { Certificates } from "../ztunnel/certificates.ts";
import type { CertificateFacts } from "../platform/certificates.ts";
import { openDescriptors } from "../platform/process.ts";
import {
  buildInfo,
  type Limits,
  type Log,
  openMetricsPieces,
  type ProcessMetrics,
  type Registry,
} from "../telemetry/mod.ts";
import type { ControlPlane } from "../ztunnel/control_plane.ts";
import type { ConnectionView } from "../ztunnel/messages.ts";
import { MAX_ROUNDS as DNS_ROUNDS, SERVER_TIMEOUT_MS as DNS_SERVER_TIMEOUT_MS } from "../ztunnel/dns/exchange.ts";
import { parseResolvConf } from "../ztunnel/dns/system_files.ts";
import { formatSocketAddress } from "../mesh/mod.ts";
import { explain } from "./ztunnel_explain.ts";

export interface AdminOptions {
  readonly config: ZtunnelConfig;
  readonly readiness: Readiness;
  readonly registry: Registry;
  readonly processMetrics: ProcessMetrics;
  readonly controlPlane: ControlPlane;
  readonly certificates: Certificates;
  readonly log: Log;
  readonly limits: Limits;
  /** Lines the main thread's log has dropped so far. */
  readonly droppedLines: () => number;
  /** Limit of open files. */
  readonly maxDescriptors: number;
  readonly shutdown: () => void;
}

/** Requests under way at the end get this long. */
const CLOSE_MS = 500;

/** Binds all three; rejects when an address is taken. The result closes them. */
export async function startAdminServers(options: AdminOptions): Promise<{ close(): Promise<void> }> {
  const { config, controlPlane, registry, processMetrics, log } = options;
  let droppedSeen = 0;
  const listenAt = (host: string, port: number, app: App) =>
    listen(host, port, app, () => options.limits.reached("admin_connections", { port }));
  const wildcard = config.ipv6Enabled ? "::" : "0.0.0.0";
  const metrics = createMetricsApp({
    async render() {
      await controlPlane.report(false);
      const dropped = options.droppedLines();
      options.limits.count("log_lines", dropped - droppedSeen);
      droppedSeen = dropped;
      options.certificates.observe();
      processMetrics.setFileDescriptors(countDescriptors(options), options.maxDescriptors);
      return openMetricsPieces(registry);
    },
  });
  const admin = createAdminApp({
    configDump: () => configDump(options),
    log: {
      get directives() {
        return log.directives;
      },
      change(directives, settings) {
        log.change(directives, settings);
        controlPlane.changeLog(log.directives);
      },
    },
    shutdown: options.shutdown,
    profile: async (seconds, frequencyHz) => await compress(await controlPlane.profile(seconds, frequencyHz), "gzip"),
    explain: (question) => explain(controlPlane.store, config, question),
  });
  const servers: HttpServer[] = [];
  const close = async () => {
    await Promise.all(servers.map((server) => server.close(CLOSE_MS)));
  };
  try {
    servers.push(await listenAt(wildcard, config.readinessPort, createReadinessApp(options.readiness)));
    servers.push(await listenAt(wildcard, config.statsPort, metrics));
    servers.push(await listenAt("127.0.0.1", config.adminPort, admin));
    // A machine without IPv6 on its loopback has no second admin address, which is fine.
    if (config.ipv6Enabled) await listenAt("::1", config.adminPort, admin).then((s) => servers.push(s), () => {});
  } catch (cause) {
    await close();
    throw new Error(`cannot open the admin servers: ${cause instanceof Error ? cause.message : cause}`);
  }
  return { close };
}

/** To count them takes one: without any left there are as many as there may be. */
function countDescriptors({ limits, maxDescriptors }: AdminOptions): number {
  try {
    return openDescriptors();
  } catch {
    limits.reached("open_files");
    return maxDescriptors;
  }
}

async function configDump(options: AdminOptions): Promise<unknown> {
  const { config, controlPlane, certificates } = options;
  const connections = Map.groupBy(await controlPlane.report(true), (connection) => connection.pod);
  const pods = new Map<string, PodState>();
  for (const { info, up } of controlPlane.pods.views()) {
    const { name, namespace, serviceAccount } = info;
    const own = connections.get(info.uid) ?? [];
    pods.set(info.uid, {
      state: up ? "Up" : "Pending",
      info: { name, namespace, serviceAccount },
      connections: {
        inbound: own.filter((view) => view.direction === "inbound").map(inboundView),
        outbound: own.filter((view) => view.direction === "outbound").map(outboundView),
      },
    });
  }
  const { workloads = [], services = [], policies = [] } = controlPlane.staticConfig ?? {};
  return composeConfigDump({
    mesh: lazyMeshDump(controlPlane.store),
    staticConfig: {
      workloads: workloads.map(dumpWorkload),
      services: services.map((service) => dumpService(service, { entries: [] })),
      policies: policies.map(dumpPolicy),
    },
    config,
    certificates: certificates.store.list().map(({ identity, state }) => ({
      identity,
      state: state.kind === "available"
        ? { kind: "available" as const, chain: state.chain.map(info), roots: state.roots.map(info) }
        : state,
    })),
    pods,
    build: buildInfo(),
    resolver: resolverConfig(),
  });
}

/** Where names that are not the mesh's are asked for, as this process sees it; a pod may say otherwise for itself. */
function resolverConfig(): ResolverConfig | undefined {
  let text: string;
  try {
    text = readFileSync("/etc/resolv.conf", "utf8");
  } catch {
    return undefined;
  }
  const { servers, search, ndots } = parseResolvConf(text);
  const nameServers = servers.map((ip) => formatSocketAddress({ ip, port: 53 }));
  return { search, nameServers, ndots, attempts: DNS_ROUNDS, timeoutMs: DNS_SERVER_TIMEOUT_MS };
}

function inboundView({ src, originalDst, actualDst, protocol }: ConnectionView) {
  return {
    src,
    originalDst: originalDst ?? null,
    actualDst,
    protocol: protocol === "TCP" ? "TCP" as const : "HBONE" as const,
  };
}

function outboundView({ src, originalDst, actualDst, protocol }: ConnectionView) {
  return { src, originalDst: originalDst ?? "", actualDst, protocol };
}

function info(facts: CertificateFacts) {
  return { ...facts, serialNumber: BigInt(facts.serialNumber) };
}
