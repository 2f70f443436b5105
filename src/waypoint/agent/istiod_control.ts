/** istiod as the waypoint's source of configuration and of its certificate (waypoint.md 1.6, 1.7). */
import type { IstiodClientConfig, WaypointConfig } from "../../cli/config.ts";
import { type CaClient, createCaClient } from "../../control/ca/mod.ts";
import { type IstiodEndpoint, tlsOptions } from "../../control/istiod/mod.ts";
import { createXdsClient, openXdsStream, type XdsClient, type XdsSink } from "../../control/xds/mod.ts";
import { createXdsMetrics } from "../../telemetry/xds_metrics.ts";
import type { ControlOptions, WaypointControl } from "./control.ts";
import type { WaypointNode } from "./node.ts";
import { TYPE_URLS } from "./sink.ts";

export interface IstiodControlOptions extends ControlOptions {
  /** A function is asked again for each stream. */
  readonly node: WaypointNode | (() => WaypointNode);
  readonly sink: XdsSink;
  /** Why nothing has come yet. */
  readonly waiting: (reason: string) => void;
}

/** @throws Error when the TLS that the configuration asks for cannot be had */
export function openIstiod(options: ControlOptions): WaypointControl {
  const ca = createCa(options);
  let xds: XdsClient | undefined;
  return {
    requestCertificate: (identity, csrPem) => ca.requestCertificate(identity, csrPem),
    follow({ agent, waiting }) {
      xds = followIstiod({ ...options, node: agent.currentNode, sink: agent.sink, waiting });
    },
    watch: (typeUrl, names) => xds?.watch(typeUrl, names),
    // Kubernetes asks for itself.
    ready() {},
    close() {
      xds?.close();
      ca.close();
    },
  };
}

export function createCa({ config, log }: Pick<IstiodControlOptions, "config" | "log">): CaClient {
  return createCaClient({
    endpoint: endpoint(config, config.ca),
    validityMs: config.ca.secretTtlMs,
    // The token is the own pod's: istiod takes the identity from it.
    impersonate: false,
    certSigner: config.ca.certSigner,
    log,
  });
}

/** Begins to connect, and keeps at it. */
export function followIstiod(options: IstiodControlOptions): XdsClient {
  const { config, node, sink, registry, log, limits, schedule, waiting } = options;
  const xds = endpoint(config, config.xds);
  return createXdsClient({
    address: xds.address,
    subscriptions: [
      { typeUrl: TYPE_URLS.clusters, mode: "wildcard" },
      { typeUrl: TYPE_URLS.endpoints, mode: "named" },
      { typeUrl: TYPE_URLS.listeners, mode: "wildcard" },
      { typeUrl: TYPE_URLS.filters, mode: "named" },
      { typeUrl: TYPE_URLS.secrets, mode: "named" },
      { typeUrl: TYPE_URLS.workloads, mode: "wildcard" },
    ],
    node,
    open: (signal) => openXdsStream(xds, signal),
    sink,
    log,
    metrics: createXdsMetrics(registry),
    limits,
    // Readiness asks for more than that every type was taken in as a whole.
    synced: () => {},
    waiting,
    schedule,
    nowMs: () => performance.now(),
    random: Math.random,
  });
}

function endpoint(config: WaypointConfig, client: IstiodClientConfig): IstiodEndpoint {
  const { address, root, altHostname, headers } = client;
  if (address === undefined) throw new Error("no address of istiod: set discoveryAddress in PROXY_CONFIG");
  const made: IstiodEndpoint = {
    address,
    root,
    altHostname,
    headers,
    token: config.authToken,
    clusterId: config.clusterId,
    tls12Enabled: true,
    pqc: config.compliancePolicy === "pqc",
  };
  tlsOptions(made);
  return made;
}
