/**
 * The node agent's part for the mesh, put together: the node's own rules, the sockets of ztunnel and of the plugin, the pods of
 * the API server, and the core that captures them (cni/agent/node_agent.ts).
 */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { CniConfig } from "../cli/config.ts";
import { sleep, SYSTEM_CLOCK } from "../cni/agent/clock.ts";
import { messageOf } from "../cni/agent/errors.ts";
import { serveUnix } from "../cni/agent/http_server.ts";
import { createFileJournal, readBootId } from "../cni/agent/journal.ts";
import { createKubeSource } from "../cni/agent/kube_source.ts";
import type { CniMetrics } from "../cni/agent/metrics.ts";
import { createNamespaces } from "../cni/agent/namespaces.ts";
import { createNodeAgent } from "../cni/agent/node_agent.ts";
import { pluginHandler } from "../cni/agent/plugin_server.ts";
import type { AgentReport } from "../cni/agent/status.ts";
import { serveZtunnels } from "../cni/agent/ztunnel_server.ts";
import type { EnablementSelector } from "../cni/eligibility.ts";
import { createHostRules, type HostRules } from "../cni/host/host.ts";
import { createNetnsCache } from "../cni/netns/cache.ts";
import { createNamespaceFinder } from "../cni/netns/finder.ts";
import { EVENT_SOCKET_NAME } from "../cni/net_conf.ts";
import { createNetnsRunner, createRedirection } from "../cni/redirection/mod.ts";
import type { KubeClient } from "../control/kube/client.ts";
import type { Fields, Level, Limits, Log } from "../telemetry/mod.ts";

export interface AmbientOptions {
  readonly config: CniConfig;
  readonly selectors: readonly EnablementSelector[];
  readonly client: KubeClient;
  readonly metrics: CniMetrics;
  readonly limits: Limits;
  readonly log: Log;
}

export interface Ambient {
  /** Captured pods are known again, and ztunnels are served. */
  readonly started: Promise<void>;
  report(): Pick<AgentReport, "redirection" | "ztunnels" | "host" | "queue" | "pods">;
  /** Gauges of what is now. */
  updateMetrics(): void;
  /** Closes the sockets. Rules in pods and annotations stay; the node's own rules only if `keep`. */
  stop(keep: boolean): Promise<void>;
}

const SCOPE = "cni-agent";
/** Every local user's container runtime may run the plugin. */
const PLUGIN_SOCKET_MODE = 0o666;
/** Requests of the plugin under way at the end get this long. */
const CLOSE_MS = 2_000;
/** As the original: whatever else changes the node's rules at its start has done so by then. */
const HOST_TRIES = 10;
const HOST_RETRY_MS = 2_000;

/** Rejects when a socket cannot be opened, when there is no means of redirection, or when the node's rules cannot be set up. */
export async function startAmbient(
  { config, selectors, client, metrics, limits, log }: AmbientOptions,
): Promise<Ambient> {
  const { ambient, procRoot, hostRoot, runDir } = config;
  const say = (level: Level, message: string, fields?: Fields) => log.log(level, SCOPE, message, fields);
  const run = createNetnsRunner();
  const redirection = await createRedirection({
    run,
    nativeNftables: ambient.nativeNftables,
    forceIptablesBinary: ambient.forceIptablesBinary ?? "",
    ipv6: ambient.ipv6,
    scopedXtablesLock: ambient.scopedXtablesLocking,
    probe: { ipv4: ambient.probeIpv4, ipv6: ambient.probeIpv6 },
    enter: ambient.hostNetns,
    stateDir: runDir,
    log: say,
  });
  const host = createHostRules({
    backend: redirection.describe(),
    ipv6: ambient.ipv6,
    snatV4: ambient.probeIpv4,
    snatV6: ambient.probeIpv6,
    enter: ambient.hostNetns,
    procRoot,
    branchEni: ambient.awsBranchEni,
    run,
    log: say,
  });
  await setUpHost(host, log);

  const cache = createNetnsCache();
  const source = createKubeSource({ client, nodeName: config.nodeName, log, wallMs: Date.now });
  const ztunnels = serveZtunnels({
    path: ambient.ztunnelSocket,
    cache,
    workerEntry: new URL("./cni_worker.ts", import.meta.url),
    log: say,
    connected: metrics.setZtunnels,
    served: () => agent.ztunnelReady(),
  });
  const agent = createNodeAgent({
    source,
    rules: {
      selectors,
      excludedNamespaces: new Set(config.excludedNamespaces),
      systemNamespace: config.systemNamespace,
    },
    redirection,
    defaults: { ipv6: ambient.ipv6, dnsCapture: ambient.dnsCapture },
    ztunnels,
    host,
    namespaces: createNamespaces({ cache, finder: createNamespaceFinder(procRoot), hostRoot, procRoot, log }),
    journal: createFileJournal(runDir, readBootId()),
    reconcileOnStartup: ambient.reconcileOnStartup,
    verifyIntervalMs: ambient.verifyIntervalMs,
    hostVerifyIntervalMs: ambient.hostVerifyIntervalMs,
    // More only makes each of them later; and one that waits for a lock must not hold up the others.
    concurrency: Math.max(4, 2 * availableParallelism()),
    clock: SYSTEM_CLOCK,
    log,
    counters: metrics,
  });
  let plugin: Awaited<ReturnType<typeof serveUnix>>;
  try {
    plugin = await serveUnix(join(runDir, EVENT_SOCKET_NAME), PLUGIN_SOCKET_MODE, {
      handler: pluginHandler({ enroll: agent.enroll, log, counted: metrics.pluginRequest }),
      full: () => limits.reached("admin_connections", { socket: EVENT_SOCKET_NAME }),
    });
  } catch (error) {
    ztunnels.close();
    throw error;
  }

  let stopped: Promise<void> | undefined;
  const stop = async (keep: boolean) => {
    await plugin.close(CLOSE_MS);
    await agent.stop();
    ztunnels.close();
    cache.clear();
    if (!keep) {
      await host.tearDown().catch((error) =>
        say("error", "cannot remove the node's rules", { error: messageOf(error) })
      );
    }
  };
  return {
    started: agent.start().then(() => ztunnels.accept()),
    report: () => ({
      redirection: redirection.describe(),
      ztunnels: ztunnels.connections().map(({ id, sinceMs, snapshotSent }) => ({
        id,
        since: new Date(sinceMs).toISOString(),
        snapshotSent,
      })),
      host: {
        by: host.describe(),
        verifiedAt: agent.healer.hostState === undefined
          ? undefined
          : new Date(agent.healer.hostState.wallMs).toISOString(),
        drift: agent.healer.hostState?.drift ?? [],
        problem: agent.healer.hostState?.problem,
      },
      queue: agent.queueLength,
      pods: agent.pods(),
    }),
    updateMetrics() {
      metrics.setQueue(agent.queueLength);
      const count = { enrolled: 0, pending: 0, failed: 0 };
      for (const { state } of agent.pods()) {
        if (state === "enrolled") count.enrolled++;
        else if (state === "pending ztunnel") count.pending++;
        else if (state === "failed") count.failed++;
      }
      metrics.setPods(count.enrolled, count.pending, count.failed);
    },
    stop: (keep) => stopped ??= stop(keep),
  };
}

async function setUpHost(host: HostRules, log: Log): Promise<void> {
  for (let attempt = 1;; attempt++) {
    try {
      return await host.setUp();
    } catch (error) {
      if (attempt === HOST_TRIES) {
        throw new Error(
          `cannot set up the node's rules for kubelet's probes after ${HOST_TRIES} tries: ${messageOf(error)}; ` +
            "the agent needs NET_ADMIN, and SYS_ADMIN to enter the node's network namespace",
        );
      }
      log.log("warn", SCOPE, "cannot set up the node's rules for kubelet's probes, will try again", {
        component: "host",
        attempt,
        error: messageOf(error),
      });
      await sleep(SYSTEM_CLOCK, HOST_RETRY_MS);
    }
  }
}
