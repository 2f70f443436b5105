/** A node whose parts are in memory and whose clock is moved by hand, for the agent's pure core. */
import { setImmediate } from "node:timers";
import type { Clock } from "../../../src/cni/agent/clock.ts";
import { createMemoryJournal } from "../../../src/cni/agent/journal.ts";
import { createNodeAgent, type NodeAgent, type NodeAgentOptions } from "../../../src/cni/agent/node_agent.ts";
import {
  type MeshNamespace,
  type MeshPod,
  PodGone,
  podKey,
  type PodSource,
  type PodSourceEvents,
  podUid,
  type RedirectionState,
} from "../../../src/cni/agent/pods.ts";
import type { AgentCounters, ZdsConnectionState } from "../../../src/cni/agent/ports.ts";
import { parseSelectors, REDIRECTION_ANNOTATION } from "../../../src/cni/eligibility.ts";
import type { PodNetns } from "../../../src/cni/netns/pod_netns.ts";
import type { RedirectionSettings } from "../../../src/cni/redirection/redirection.ts";

/** Istio's default selectors (reference cni.md 1.5). */
export const SELECTORS = parseSelectors([
  { podSelector: { matchLabels: { "istio.io/dataplane-mode": "ambient" } } },
  {
    podSelector: { matchExpressions: [{ key: "istio.io/dataplane-mode", operator: "NotIn", values: ["none"] }] },
    namespaceSelector: { matchLabels: { "istio.io/dataplane-mode": "ambient" } },
  },
]);
export const AMBIENT = { "istio.io/dataplane-mode": "ambient" };

export class ManualClock implements Clock {
  #now = 0;
  #timers: { atMs: number; order: number; task: () => void }[] = [];
  #order = 0;

  nowMs(): number {
    return this.#now;
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.#now;
  }

  schedule(task: () => void, delayMs: number): () => void {
    const timer = { atMs: this.#now + delayMs, order: this.#order++, task };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Lets what is under way come to its next wait. */
  async settle(): Promise<void> {
    for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await this.settle();
    for (;;) {
      const due = this.#timers.filter(({ atMs }) =>
        atMs <= end
      ).sort((a, b) => a.atMs - b.atMs || a.order - b.order)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.#now = Math.max(this.#now, due.atMs);
      due.task();
      await this.settle();
    }
    this.#now = end;
  }
}

export interface PodSpec {
  readonly namespace?: string;
  readonly name?: string;
  readonly uid?: string;
  readonly ips?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly phase?: string;
  readonly hostNetwork?: boolean;
  readonly deletionTimestamp?: string;
}

export function makePod(spec: PodSpec = {}): MeshPod {
  const { namespace = "shop", name = "cart", uid = `uid-${name}`, ips = ["10.0.0.7"], phase = "Running" } = spec;
  const { labels = {}, annotations = {}, hostNetwork, deletionTimestamp } = spec;
  return {
    metadata: { namespace, name, uid, labels, annotations, deletionTimestamp },
    spec: { nodeName: "node-a", serviceAccountName: "sa", hostNetwork },
    status: { phase, podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) },
  };
}

export function enabled(state: "enabled" | "pending" = "enabled"): Record<string, string> {
  return { [REDIRECTION_ANNOTATION]: state };
}

/** An API server without a server: changes are told at once. */
export class FakeSource implements PodSource {
  readonly #pods = new Map<string, MeshPod>();
  readonly #namespaces = new Map<string, MeshNamespace>();
  #events: PodSourceEvents | undefined;
  /** Only the direct question finds these. */
  readonly unseen = new Map<string, MeshPod>();
  readonly told: { pod: string; type: string; reason: string; message: string }[] = [];
  readonly steps: string[];
  failAnnotate: ((state: RedirectionState) => Error | undefined) | undefined;
  fetches = 0;

  constructor(steps: string[]) {
    this.steps = steps;
  }

  async start(events: PodSourceEvents): Promise<void> {
    this.#events = events;
    for (const pod of this.#pods.values()) events.podAdded(pod);
    for (const namespace of this.#namespaces.values()) events.namespaceAdded(namespace);
  }

  pod(namespace: string, name: string): MeshPod | undefined {
    return this.#pods.get(`${namespace}/${name}`);
  }

  pods(): readonly MeshPod[] {
    return [...this.#pods.values()];
  }

  namespace(name: string): MeshNamespace | undefined {
    return this.#namespaces.get(name);
  }

  async fetchPod(namespace: string, name: string): Promise<MeshPod | undefined> {
    this.fetches++;
    return this.unseen.get(`${namespace}/${name}`) ?? this.pod(namespace, name);
  }

  async fetchNamespace(name: string): Promise<MeshNamespace | undefined> {
    return this.namespace(name);
  }

  async annotate(pod: MeshPod, state: RedirectionState): Promise<void> {
    const failure = this.failAnnotate?.(state);
    if (failure !== undefined) {
      this.steps.push(`annotate ${pod.metadata.name} ${state} failed`);
      throw failure;
    }
    const current = this.#pods.get(podKey(pod));
    if (current === undefined || podUid(current) !== podUid(pod)) throw new PodGone("no such pod");
    this.steps.push(`annotate ${pod.metadata.name} ${state}`);
    const annotations: Record<string, string> = { ...current.metadata.annotations };
    if (state === null) delete annotations[REDIRECTION_ANNOTATION];
    else annotations[REDIRECTION_ANNOTATION] = state;
    this.set({ ...current, metadata: { ...current.metadata, annotations } });
  }

  async event(pod: MeshPod, event: { type: string; reason: string; message: string }): Promise<void> {
    this.told.push({ pod: podKey(pod), ...event });
  }

  stop(): void {
    this.#events = undefined;
  }

  set(pod: MeshPod): void {
    const before = this.#pods.get(podKey(pod));
    this.#pods.set(podKey(pod), pod);
    if (before === undefined) this.#events?.podAdded(pod);
    else this.#events?.podUpdated(before, pod);
  }

  delete(namespace: string, name: string): void {
    const pod = this.#pods.get(`${namespace}/${name}`);
    this.#pods.delete(`${namespace}/${name}`);
    if (pod !== undefined) this.#events?.podDeleted(pod);
  }

  /** Gone, and nobody has told of it yet. */
  vanish(namespace: string, name: string): void {
    this.#pods.delete(`${namespace}/${name}`);
  }

  setNamespace(name: string, labels: Readonly<Record<string, string>> = {}): void {
    const before = this.#namespaces.get(name);
    const after = { metadata: { name, labels } };
    this.#namespaces.set(name, after);
    if (before === undefined) this.#events?.namespaceAdded(after);
    else this.#events?.namespaceUpdated(before, after);
  }

  deleteNamespace(name: string): void {
    this.#namespaces.delete(name);
  }

  annotation(name: string, namespace = "shop"): string | undefined {
    return this.pod(namespace, name)?.metadata.annotations?.[REDIRECTION_ANNOTATION];
  }
}

/** Everything around the core, writing down what is done to it. */
export class FakeNode {
  readonly clock = new ManualClock();
  readonly steps: string[] = [];
  readonly logged: string[] = [];
  readonly source = new FakeSource(this.steps);
  readonly journal;
  /** Namespaces that the search by /proc would find. */
  readonly processes = new Map<string, string>();
  readonly paths = new Map<string, string>();
  readonly open = new Map<string, PodNetns>();
  readonly rules = new Map<string, RedirectionSettings>();
  readonly hostSet = new Map<string, string>();
  readonly counts = new Map<string, number>();
  /** Undefined: no ztunnel. */
  acked: Set<string> | undefined = new Set();
  held = 0;
  fail: Partial<
    Record<"apply" | "remove" | "verify" | "zdsAdd" | "zdsDel" | "hostAdd" | "hostRemove" | "hostSync", string>
  > = {};
  /** Steps that do not end before they are let go. */
  readonly blocked = new Map<string, Promise<void>>();
  hostDrift: string[] = [];
  agent!: NodeAgent;

  constructor(bootId = "boot-1") {
    this.journal = createMemoryJournal(bootId);
  }

  #netns(identity: string): PodNetns {
    this.held++;
    let holders = 1;
    return {
      fd: 3,
      identity,
      path: `/ns/${identity}`,
      retain: () => {
        holders++;
        return true;
      },
      release: () => {
        if (--holders === 0) this.held--;
      },
    };
  }

  #check(step: keyof FakeNode["fail"]): void {
    const failure = this.fail[step];
    if (failure !== undefined) throw new Error(failure);
  }

  #upsert(uid: string, identity: string): PodNetns {
    const known = this.open.get(uid);
    if (known?.identity === identity) return known;
    known?.release();
    const netns = this.#netns(identity);
    this.open.set(uid, netns);
    return netns;
  }

  create(overrides: Partial<NodeAgentOptions> = {}): NodeAgent {
    const count = (name: string) => void this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    const counters: AgentCounters = {
      reconciled: (type) => count(`reconciled ${type}`),
      drifted: (kind) => count(`drift ${kind}`),
      repaired: (kind, success) => count(`repair ${kind} ${success}`),
      verified: () => count("verified"),
      enrolled: () => count("enrolled"),
      enrolmentFailed: (step) => count(`failed ${step}`),
    };
    const connection = (): ZdsConnectionState[] =>
      this.acked === undefined
        ? []
        : [{ id: "1", sinceMs: 0, snapshotSent: true, acked: (uid) => this.acked!.has(uid) }];
    this.agent = createNodeAgent({
      source: this.source,
      rules: { selectors: SELECTORS, excludedNamespaces: new Set(["kube-system"]), systemNamespace: "istio-system" },
      defaults: { ipv6: true, dnsCapture: true },
      redirection: {
        describe: () => "nftables",
        apply: async (path, settings) => {
          this.steps.push(`apply ${path}`);
          await this.blocked.get("apply");
          this.#check("apply");
          this.rules.set(path, settings);
        },
        verify: async (path, settings) => {
          this.#check("verify");
          const found = this.rules.get(path);
          if (found === undefined) return ["no rules"];
          return JSON.stringify(found) === JSON.stringify(settings) ? [] : ["other rules"];
        },
        remove: async (path) => {
          this.steps.push(`remove ${path}`);
          this.#check("remove");
          this.rules.delete(path);
        },
      },
      ztunnels: {
        add: async (pod, _netns, signal) => {
          this.steps.push(`zds add ${pod.metadata.name}`);
          await this.blocked.get("zds");
          signal?.throwIfAborted();
          if (this.acked === undefined) throw new Error("no ztunnel connection");
          this.#check("zdsAdd");
          this.acked.add(podUid(pod));
        },
        del: async (uid) => {
          this.steps.push(`zds del ${uid}`);
          this.#check("zdsDel");
          this.acked?.delete(uid);
        },
        connections: connection,
      },
      host: {
        addPod: async (uid, ips) => {
          this.steps.push(`host add ${uid} ${ips.join(",")}`);
          this.#check("hostAdd");
          for (const ip of ips) this.hostSet.set(ip, uid);
        },
        removePod: async (uid, ips) => {
          this.steps.push(`host remove ${uid}`);
          this.#check("hostRemove");
          for (const ip of ips) if (this.hostSet.get(ip) === uid) this.hostSet.delete(ip);
        },
        sync: async (pods) => {
          this.#check("hostSync");
          this.hostSet.clear();
          for (const { uid, ips } of pods) for (const ip of ips) this.hostSet.set(ip, uid);
        },
        verify: async () => this.hostDrift,
        repair: async () => {
          this.steps.push("host repair");
          this.hostDrift = [];
        },
        describe: () => "fake host",
      },
      namespaces: {
        ensure: (pod) => void this.steps.push(`ensure ${pod.metadata.name}`),
        get: (uid) => this.open.get(uid),
        open: async (pod, path) => {
          const identity = this.paths.get(path);
          if (identity === undefined) throw new Error(`${path} is no namespace`);
          return this.#upsert(podUid(pod), identity);
        },
        find: async (wanted, { replace = false } = {}) => {
          const found = new Map<string, PodNetns>();
          for (const uid of wanted.keys()) {
            const identity = this.processes.get(uid);
            if (identity === undefined) continue;
            const known = this.open.get(uid);
            found.set(uid, known !== undefined && !replace ? known : this.#upsert(uid, identity));
          }
          return found;
        },
        look: async (wanted) =>
          new Map(
            [...wanted.keys()].map((uid) => [uid, this.processes.get(uid)]).filter((entry): entry is [string, string] =>
              entry[1] !== undefined
            ),
          ),
        take: (uid) => {
          const netns = this.open.get(uid);
          this.open.delete(uid);
          return netns;
        },
      },
      journal: this.journal,
      reconcileOnStartup: false,
      verifyIntervalMs: 60_000,
      hostVerifyIntervalMs: 10_000,
      concurrency: 4,
      clock: this.clock,
      log: {
        enabled: () => true,
        log: (level, _scope, message, fields) =>
          void this.logged.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
      },
      counters,
      ...overrides,
    });
    return this.agent;
  }

  /** A pod with a process in a namespace of its own. */
  run(spec: PodSpec = {}): MeshPod {
    const pod = makePod(spec);
    this.processes.set(podUid(pod), `ns-${pod.metadata.name}`);
    this.source.set(pod);
    return pod;
  }

  async started(overrides: Partial<NodeAgentOptions> = {}): Promise<void> {
    await this.create(overrides).start();
    await this.clock.settle();
  }

  count(name: string): number {
    return this.counts.get(name) ?? 0;
  }

  state(name: string): string | undefined {
    return this.agent.pods().find((pod) => pod.name === name)?.state;
  }
}
