/**
 * `ambit local --cni`: the node agent of istio-cni in place of the mesh's own hand, one for each node. A pod is captured because its labels say
 * so, and let go when they say so no longer, while it runs; its node's ztunnel is told over the agent's own socket.
 *
 * The same core as in a cluster (cni/agent/node_agent.ts): only where pods come from, and where their namespaces are, is the mesh file's.
 */
import { join } from "node:path";
import { SYSTEM_CLOCK } from "../cni/agent/clock.ts";
import { createMemoryJournal } from "../cni/agent/journal.ts";
import { workloadOf } from "../cni/agent/namespaces.ts";
import { createNodeAgent, type NodeAgent } from "../cni/agent/node_agent.ts";
import { type MeshPod, podUid } from "../cni/agent/pods.ts";
import type { AgentCounters, Namespaces } from "../cni/agent/ports.ts";
import { serveZtunnels, type ZtunnelServer } from "../cni/agent/ztunnel_server.ts";
import { parseSelectors } from "../cni/eligibility.ts";
import { createNetnsCache, type NetnsCache, type PodNetns } from "../cni/netns/cache.ts";
import { openReportedNetns } from "../cni/netns/open.ts";
import type { Redirection } from "../cni/redirection/redirection.ts";
import type { Log } from "../telemetry/log.ts";
import type { PlannedPod } from "./change_plan.ts";
import { FilePods } from "./file_pods.ts";

export interface NodeAgentsOptions {
  /** For the agents' sockets. */
  readonly directory: string;
  /** Path of a pod's network namespace. Throws for an unknown pod. */
  readonly netnsOf: (uid: string) => string;
  readonly redirection: Redirection;
  readonly dnsCapture: boolean;
  /** Module of the thread that watches ztunnels' connections. */
  readonly workerEntry: URL;
  readonly log: Log;
  /** A pod was captured, or let go. */
  readonly changed: () => void;
}

/** As Istio's chart has it; every namespace of a mesh file counts as labelled. */
const SELECTORS = parseSelectors([
  { podSelector: { matchLabels: { "istio.io/dataplane-mode": "ambient" } } },
  {
    podSelector: { matchExpressions: [{ key: "istio.io/dataplane-mode", operator: "NotIn", values: ["none"] }] },
    namespaceSelector: { matchLabels: { "istio.io/dataplane-mode": "ambient" } },
  },
]);
/** From one look at a captured pod to the next: somebody who plays with its rules sees them come back. */
const VERIFY_INTERVAL_MS = 10_000;
const CONCURRENCY = 4;
/** The plugin's patience, in its place. */
const ENROLL_TIMEOUT_MS = 10_000;

interface Agent {
  readonly pods: FilePods;
  readonly core: NodeAgent;
  readonly ztunnels: ZtunnelServer;
  readonly cache: NetnsCache;
}

export class NodeAgents {
  readonly #options: NodeAgentsOptions;
  readonly #agents = new Map<string, Agent>();

  constructor(options: NodeAgentsOptions) {
    this.#options = options;
  }

  /** Starts a node's agent. Resolves with the socket at which its ztunnel finds it. */
  async startNode(node: string): Promise<string> {
    const { directory, log, redirection, dnsCapture, workerEntry, changed } = this.#options;
    const path = join(directory, `${node}.zds`);
    const cache = createNetnsCache();
    const pods = new FilePods(
      (pod, event) => log.log("warn", "cni-agent", event.message, { pod: podUid(pod), reason: event.reason }),
      changed,
    );
    const ztunnels = serveZtunnels({
      path,
      cache,
      workerEntry,
      log: (level, message, fields) => log.log(level, "cni-agent", message, { node, ...fields }),
      connected() {},
      served: () => core.ztunnelReady(),
    });
    const core = createNodeAgent({
      source: pods,
      rules: { selectors: SELECTORS, excludedNamespaces: new Set(), systemNamespace: "" },
      redirection,
      defaults: { ipv6: true, dnsCapture },
      ztunnels,
      host: undefined,
      namespaces: this.#namespaces(cache),
      journal: createMemoryJournal(),
      reconcileOnStartup: false,
      verifyIntervalMs: VERIFY_INTERVAL_MS,
      hostVerifyIntervalMs: 0,
      concurrency: CONCURRENCY,
      clock: SYSTEM_CLOCK,
      log,
      counters: NO_COUNTERS,
    });
    this.#agents.set(node, { pods, core, ztunnels, cache });
    await core.start();
    ztunnels.accept();
    return path;
  }

  async stopNode(node: string): Promise<void> {
    const agent = this.#agents.get(node);
    if (agent === undefined) return;
    this.#agents.delete(node);
    await agent.core.stop();
    agent.ztunnels.close();
    agent.cache.clear();
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#agents.keys()].map((node) => this.stopNode(node)));
  }

  /** Whether the pod's traffic passes its ztunnel now. */
  isCaptured(uid: string): boolean {
    for (const { pods } of this.#agents.values()) if (pods.state(uid) === "enabled") return true;
    return false;
  }

  /** Pods that were just made: those that belong into the mesh are captured when this resolves. */
  async add(pods: readonly PlannedPod[]): Promise<void> {
    await Promise.all(pods.map(async (pod) => {
      const agent = this.#agents.get(pod.node);
      if (agent === undefined) return;
      agent.pods.put(pod);
      if (!pod.captured) return;
      const event = {
        netns: this.#options.netnsOf(pod.uid),
        podName: pod.name,
        podNamespace: pod.namespace,
        ips: [...pod.addresses],
      };
      await agent.core.enroll(event, AbortSignal.timeout(ENROLL_TIMEOUT_MS));
    }));
  }

  /** Pods whose labels may be other ones now. Resolves when each is captured, or let go, as they say. */
  async update(pods: readonly PlannedPod[]): Promise<void> {
    await Promise.all(pods.map(async (pod) => {
      const agent = this.#agents.get(pod.node);
      if (agent === undefined) return;
      agent.pods.put(pod);
      await agent.pods.reached(pod.uid, pod.captured ? "enabled" : null, ENROLL_TIMEOUT_MS);
    }));
  }

  /** Pods that are about to go. */
  async remove(pods: readonly PlannedPod[]): Promise<void> {
    await Promise.all(pods.map(async ({ uid, node }) => {
      const agent = this.#agents.get(node);
      if (agent === undefined) return;
      agent.pods.drop(uid);
      // The controller forgets it in its own time; its sockets and its namespace must be let go now.
      agent.cache.take(uid)?.release();
      await agent.ztunnels.del(uid).catch(() => {});
    }));
  }

  #namespaces(cache: NetnsCache): Namespaces {
    const { netnsOf } = this.#options;
    const open = (uid: string, workload?: ReturnType<typeof workloadOf>): PodNetns =>
      cache.upsert(uid, openReportedNetns(netnsOf(uid), "", "/proc"), workload);
    const each = <T>(wanted: ReadonlyMap<string, readonly string[]>, take: (uid: string) => T): Map<string, T> => {
      const found = new Map<string, T>();
      for (const uid of wanted.keys()) {
        try {
          found.set(uid, take(uid));
        } catch {
          // A pod that is gone is found nowhere.
        }
      }
      return found;
    };
    return {
      ensure: (pod: MeshPod) => cache.ensure(podUid(pod), workloadOf(pod)),
      get: (uid) => cache.get(uid),
      open: async (pod) => open(podUid(pod), workloadOf(pod)),
      find: async (wanted) => each(wanted, (uid) => cache.get(uid) ?? open(uid)),
      look: async (wanted) => each(wanted, (uid) => (cache.get(uid) ?? open(uid)).identity),
      take: (uid) => cache.take(uid),
    };
  }
}

/** Nobody scrapes a mesh on one machine. */
const NO_COUNTERS: AgentCounters = {
  reconciled() {},
  drifted() {},
  repaired() {},
  verified() {},
  enrolled() {},
  enrolmentFailed() {},
};
