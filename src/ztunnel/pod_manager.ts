/**
 * Which pods this ztunnel serves, and how it comes by their sockets: the node agent's conversation, what the process before it hands over,
 * its own listener, or the one workload of the dedicated mode (reference ztunnel 1.2, section 2).
 *
 * It begins when the first mesh is in force; before that no pod could be served.
 */
import type { ZtunnelConfig } from "../cli/config.ts";
import { fileIdentity, openNamespace } from "../platform/netns.ts";
import { closeDescriptor } from "../platform/socket.ts";
import type { Log } from "../telemetry/log.ts";
import type { ControlPlane } from "./control_plane.ts";
import { HandoverClient } from "./handover_client.ts";
import { HandoverServer } from "./handover_server.ts";
import { openPodListeners, type PodListeners, podListeners, SELF_LISTENERS } from "./pod_listeners.ts";
import type { PodInfo } from "./pods.ts";
import { socketTuning, workerSettings } from "./settings.ts";
import { ZdsClient } from "./zds_client.ts";

export interface PodManagerOptions {
  readonly config: ZtunnelConfig;
  readonly readiness: {
    done(task: "workload proxy manager" | "proxy"): void;
    pend(task: "workload proxy manager", reason: string): void;
  };
  readonly log: Log;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  /** The process has to end with a failure. */
  readonly fatal: (reason: string) => void;
}

/** Beside the node agent's socket, in the directory that both processes of an upgrade mount: `ztunnel.handover.sock`. */
const HANDOVER_SUFFIX = ".handover.sock";
/** No pod's uid: those are the API server's. */
const SELF_UID = "ztunnel:self";
const DEDICATED_UID = "ztunnel:dedicated";
const MIGRATE_HINT = "connections that are being set up when the other ztunnel stops may be reset; " +
  "the sysctl net.ipv4.tcp_migrate_req=1 in the pods lessens that";

export class PodManager {
  readonly #options: PodManagerOptions;
  #controlPlane: ControlPlane | undefined;
  #predecessor: HandoverClient | undefined;
  #handover: HandoverServer | undefined;
  #agent: ZdsClient | undefined;
  #started = false;
  #stopped = false;

  constructor(options: PodManagerOptions) {
    this.#options = options;
  }

  /** For the control plane, which is made with these and then attached. */
  readonly openListeners = async (info: PodInfo): Promise<PodListeners> => {
    const { config, log } = this.#options;
    const common = { ipv6Enabled: config.ipv6Enabled, tuning: socketTuning(workerSettings(config)) };
    if (info.self === true) {
      return openPodListeners({
        ...common,
        netns: undefined,
        listeners: SELF_LISTENERS,
        mark: undefined,
        reusePort: false,
        requireOriginalSource: false,
      });
    }
    const dnsAddress = config.dnsProxyEnabled ? config.dnsProxyAddress : undefined;
    const listeners = podListeners(config);
    const own = {
      ...common,
      listeners,
      dnsAddress,
      mark: config.packetMark,
      requireOriginalSource: config.requireOriginalSource,
    };
    if (info.netns === undefined) {
      return openPodListeners({ ...own, netns: undefined, markListeners: false, reusePort: false });
    }
    const pod = `${info.namespace}/${info.name}`;
    return openPodListeners({
      ...own,
      netns: info.netns,
      reusePort: config.inpodPortReuse,
      inherited: await this.#inherit(info),
      refused: (kind, error) =>
        log.log("warn", "inpod", "a listener of the other ztunnel is not used", {
          pod,
          listener: kind,
          error,
          hint: MIGRATE_HINT,
        }),
    });
  };

  readonly podsChanged = (): void => this.#agent?.podsChanged();

  attach(controlPlane: ControlPlane): void {
    const { config, readiness } = this.#options;
    this.#controlPlane = controlPlane;
    if (config.podSource === "agent") {
      readiness.pend("workload proxy manager", "the node agent is asked after the first mesh");
    }
  }

  /** The first mesh is in force. Again is nothing new. */
  async start(): Promise<void> {
    const { config } = this.#options;
    if (this.#started || this.#stopped) return;
    this.#started = true;
    if (config.podSource === "agent") {
      await this.#takeOver();
      if (!this.#stopped) this.#followAgent();
    }
    if (config.proxyMode === "shared" && config.proxyEnabled && !this.#stopped) this.#listenForItself();
  }

  /** The dedicated mode's workload. Rejects when a port is taken. */
  async serveOwnWorkload(): Promise<void> {
    const { config, readiness } = this.#options;
    const workload = config.proxyWorkload;
    if (workload === undefined) return;
    await this.#pods.announce({ uid: DEDICATED_UID, netns: undefined, ...workload });
    readiness.done("proxy");
  }

  /** A drain begins: no news of pods any more. */
  stop(): void {
    this.#stopped = true;
    this.#agent?.stop();
  }

  close(): void {
    this.#predecessor?.close();
    this.#handover?.close();
  }

  get #pods() {
    return (this.#controlPlane as ControlPlane).pods;
  }

  get #links() {
    return (this.#controlPlane as ControlPlane).links;
  }

  /** Finds the process before this one, then takes its place for the one after it. */
  async #takeOver(): Promise<void> {
    const { config, log, schedule } = this.#options;
    const path = config.inpodSocketPath.replace(/\.sock$/, "") + HANDOVER_SUFFIX;
    const say = (level: "info" | "warn" | "debug", message: string, error?: string) => {
      const hint = level === "warn" ? { hint: MIGRATE_HINT } : {};
      log.log(level, "handover", message, error === undefined ? {} : { error, ...hint });
    };
    const predecessor = new HandoverClient({
      path,
      connect: (to, handler) => this.#links.connect(to, handler),
      closeDescriptor,
      gone: () => (this.#controlPlane as ControlPlane).sweep(),
      schedule,
      log: say,
    });
    this.#predecessor = predecessor;
    await predecessor.connected;
    if (this.#stopped) return;
    const handover = new HandoverServer({
      path,
      serve: (fd, accepted) => this.#links.serve(fd, accepted),
      listenersOf: (uid) => this.#pods.listenersOf(uid),
      log: say,
    });
    this.#handover = handover;
    (this.#controlPlane as ControlPlane).inherited = (uid) => handover.inherited(uid);
  }

  async #inherit(info: PodInfo): Promise<ReadonlyMap<string, number> | undefined> {
    const { netns } = info;
    if (this.#predecessor === undefined || netns === undefined) return undefined;
    if (netns.kind === "fd") return await this.#predecessor.fetch(info.uid, netns.identity);
    const fd = openNamespace(netns.path);
    if (fd < 0) return undefined;
    const identity = fileIdentity(fd);
    closeDescriptor(fd);
    return identity === undefined ? undefined : await this.#predecessor.fetch(info.uid, identity);
  }

  #followAgent(): void {
    const { config, readiness, log, schedule, fatal } = this.#options;
    this.#agent = new ZdsClient({
      path: config.inpodSocketPath,
      connect: (path, handler) => this.#links.connect(path, handler),
      pods: this.#pods,
      closeDescriptor,
      schedule,
      random: Math.random,
      ready: (pending) => {
        if (pending === undefined) readiness.done("workload proxy manager");
        else readiness.pend("workload proxy manager", pending);
      },
      fatal,
      log: (level, message, error) => log.log(level, "inpod", message, error === undefined ? {} : { error }),
    });
    this.#agent.start();
  }

  /** Whoever scrapes or probes this pod from a mesh pod comes by a tunnel (1.2). */
  #listenForItself(): void {
    const { podName: name, podNamespace: namespace, serviceAccount } = this.#options.config;
    if (name === "" || namespace === "" || serviceAccount === "") return;
    const info: PodInfo = { uid: SELF_UID, netns: undefined, name, namespace, serviceAccount, self: true };
    this.#pods.announce(info).catch(() => {
      // Logged, and tried again.
    });
  }
}
