/**
 * istiod as the source of the mesh and of certificates: xDS pushes go into the control plane, certificate requests to the CA. Loaded by
 * processes under istiod only: what it imports takes memory that `ambit local`'s ztunnels do not need.
 */
import type { IstiodClientConfig, ZtunnelConfig } from "../cli/config.ts";
import { createCaClient } from "../control/ca/mod.ts";
import { type IstiodEndpoint, tlsOptions } from "../control/istiod/mod.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, createMeshSink, type MeshTarget } from "../control/xds/intake/mod.ts";
import {
  createXdsClient,
  type DemandOutcome,
  describeNode,
  openXdsStream,
  type XdsClient,
} from "../control/xds/mod.ts";
import type { Authority } from "../identity/certificate_store.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Limits } from "../telemetry/limits.ts";
import { createXdsMetrics } from "../telemetry/xds_metrics.ts";
import type { Registry } from "../telemetry/registry.ts";

export interface IstiodControlOptions {
  readonly config: ZtunnelConfig;
  readonly target: MeshTarget;
  readonly registry: Registry;
  readonly log: Logger;
  readonly limits: Pick<Limits, "reached">;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  /** The mesh that istiod has is in force, or there is no istiod to wait for. Called once, not before this function returns. */
  readonly synced: () => void;
  /** Why it is not yet. */
  readonly waiting: (reason: string) => void;
}

export interface IstiodControl extends Authority {
  /** Asks for one address by name. Undefined when everything is sent without being asked for. */
  readonly onDemand: ((name: string, timeoutMs: number) => Promise<DemandOutcome>) | undefined;
  close(): void;
}

/** Begins to connect, and keeps at it. Throws when the TLS that the configuration asks for cannot be had. */
export function followIstiod(options: IstiodControlOptions): IstiodControl {
  const { config, log } = options;
  const caEndpoint = endpoint(config, config.ca);
  const ca = caEndpoint && createCaClient({
    endpoint: caEndpoint,
    validityMs: config.ca.secretTtlMs,
    // A dedicated proxy's token is its workload's own.
    impersonate: config.proxyMode === "shared",
    log,
  });
  const xds = startXds(options);
  return {
    onDemand: config.xds.onDemand && xds !== undefined
      ? (name, timeoutMs) => xds.demand(ADDRESS_TYPE, name, timeoutMs)
      : undefined,
    requestCertificate(identity, csrPem) {
      if (ca !== undefined) return ca.requestCertificate(identity, csrPem);
      return Promise.reject(new Error("there is no CA: CA_ADDRESS is empty"));
    },
    close() {
      xds?.close();
      ca?.close();
    },
  };
}

function startXds(options: IstiodControlOptions): XdsClient | undefined {
  const { config, target, registry, log, limits, schedule, synced, waiting } = options;
  const xdsEndpoint = endpoint(config, config.xds);
  if (xdsEndpoint === undefined) {
    log.log("info", "xds", "no xDS: XDS_ADDRESS is empty");
    queueMicrotask(synced);
    return undefined;
  }
  return createXdsClient({
    address: xdsEndpoint.address,
    subscriptions: [
      { typeUrl: ADDRESS_TYPE, mode: config.xds.onDemand ? "on-demand" : "wildcard" },
      { typeUrl: AUTHORIZATION_TYPE, mode: "wildcard" },
    ],
    node: describeNode(config),
    open: (signal) => openXdsStream(xdsEndpoint, signal, { attend: () => target.attend() }),
    sink: createMeshSink(target),
    log,
    metrics: createXdsMetrics(registry),
    limits,
    synced,
    waiting,
    schedule,
    nowMs: () => performance.now(),
    random: Math.random,
  });
}

function endpoint(config: ZtunnelConfig, client: IstiodClientConfig): IstiodEndpoint | undefined {
  const { address, root, altHostname, headers } = client;
  if (address === undefined) return undefined;
  const { authToken: token, clusterId, tls12Enabled } = config;
  const made = {
    address,
    root,
    altHostname,
    headers,
    token,
    clusterId,
    tls12Enabled,
    pqc: config.compliancePolicy === "pqc",
  };
  tlsOptions(made);
  return made;
}
