/** ztunnel's three HTTP servers and what they show (reference ztunnel, section 9.1). */
import {
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

import type { CertificateStore } from "../identity/certificate_store.ts";
import type { CertificateFacts } from "../platform/certificates.ts";
import { openDescriptors } from "../platform/process.ts";
import { buildInfo, type Log, type ProcessMetrics, type Registry, renderOpenMetrics } from "../telemetry/mod.ts";
import type { ControlPlane } from "../ztunnel/control_plane.ts";

export interface AdminOptions {
  readonly config: ZtunnelConfig;
  readonly readiness: Readiness;
  readonly registry: Registry;
  readonly processMetrics: ProcessMetrics;
  readonly controlPlane: ControlPlane;
  readonly certificates: CertificateStore;
  readonly log: Log;
  /** Limit of open files. */
  readonly maxDescriptors: number;
  readonly shutdown: () => void;
}

/** Requests under way at the end get this long. */
const CLOSE_MS = 500;

/** Binds all three; rejects when an address is taken. The result closes them. */
export async function startAdminServers(options: AdminOptions): Promise<{ close(): Promise<void> }> {
  const { config, controlPlane, registry, processMetrics, log } = options;
  const wildcard = config.ipv6Enabled ? "::" : "0.0.0.0";
  const metrics = createMetricsApp({
    async render() {
      await controlPlane.report(false);
      processMetrics.setFileDescriptors(openDescriptors(), options.maxDescriptors);
      return renderOpenMetrics(registry);
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
  });
  const servers: HttpServer[] = [];
  const close = async () => {
    await Promise.all(servers.map((server) => server.close(CLOSE_MS)));
  };
  try {
    servers.push(await listen(wildcard, config.readinessPort, createReadinessApp(options.readiness)));
    servers.push(await listen(wildcard, config.statsPort, metrics));
    servers.push(await listen("127.0.0.1", config.adminPort, admin));
    // A machine without IPv6 on its loopback has no second admin address, which is fine.
    if (config.ipv6Enabled) await listen("::1", config.adminPort, admin).then((s) => servers.push(s), () => {});
  } catch (cause) {
    await close();
    throw new Error(`cannot open the admin servers: ${cause instanceof Error ? cause.message : cause}`);
  }
  return { close };
}

async function configDump(options: AdminOptions): Promise<unknown> {
  const { config, controlPlane, certificates } = options;
  const connections = await controlPlane.report(true);
  const pods = new Map<string, PodState>();
  for (const { info, up } of controlPlane.pods.views()) {
    const { name, namespace, serviceAccount } = info;
    const own = connections.filter((connection) => connection.pod === info.uid);
    pods.set(info.uid, {
      state: up ? "Up" : "Pending",
      info: { name, namespace, serviceAccount },
      connections: {
        inbound: own.filter((view) => view.direction === "inbound").map((view) => ({
          src: view.src,
          originalDst: view.originalDst ?? null,
          actualDst: view.actualDst,
          protocol: view.protocol === "TCP" ? "TCP" as const : "HBONE" as const,
        })),
        outbound: own.filter((view) => view.direction === "outbound").map((view) => ({
          src: view.src,
          originalDst: view.originalDst ?? "",
          actualDst: view.actualDst,
          protocol: view.protocol,
        })),
      },
    });
  }
  return composeConfigDump({
    mesh: controlPlane.store.configDump(),
    staticConfig: { workloads: [], services: [], policies: [] },
    config,
    certificates: certificates.list().map(({ identity, state }) => ({
      identity,
      state: state.kind === "available"
        ? { kind: "available" as const, chain: state.chain.map(info), roots: state.roots.map(info) }
        : state,
    })),
    pods,
    build: buildInfo(),
  });
}

function info(facts: CertificateFacts) {
  return { ...facts, serialNumber: BigInt(facts.serialNumber) };
}
