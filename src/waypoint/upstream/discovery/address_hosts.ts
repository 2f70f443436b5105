/** Hosts that requests bring with them: made when an address is asked for, forgotten when nobody has used it for a while. Their number is bounded. */
import { Timer, type TimerTarget } from "../../../net/reactor.ts";
import type { EndpointReach } from "../../spec/mod.ts";
import { Host } from "../host.ts";
import type { DiscoveryHome } from "./discovery.ts";

/** Envoy's cleanup_interval of such clusters. */
const SWEEP_MS = 60_000;

export class AddressHosts implements TimerTarget {
  readonly #home: DiscoveryHome;
  readonly #most: number;
  readonly #hosts = new Map<string, Host>();
  readonly #timer = new Timer(this);
  #isRunning = false;

  constructor(home: DiscoveryHome, most: number) {
    this.#home = home;
    this.#most = most;
  }

  /** Undefined: there are too many that are in use. */
  get(id: string, hostname: string, reach: () => EndpointReach): Host | undefined {
    const known = this.#hosts.get(id);
    const { nowMs } = this.#home.means.timing;
    if (known !== undefined) {
      known.lastUsedMs = nowMs;
      return known;
    }
    if (this.#hosts.size >= this.#most && !this.#makeRoom()) return undefined;
    const endpoint = { id, reach: reach(), health: "healthy", weight: 1, tag: "plain", workload: "" } as const;
    const host = new Host(this.#home, endpoint, nowMs, hostname);
    this.#hosts.set(id, host);
    this.#home.counters.membership_total = this.#hosts.size;
    this.#home.counters.membership_healthy = this.#hosts.size;
    if (!this.#isRunning) {
      this.#isRunning = true;
      this.#home.means.timing.setTimer(this.#timer, SWEEP_MS);
    }
    return host;
  }

  all(): Iterable<Host> {
    return this.#hosts.values();
  }

  /** The one that nobody has used for longest, of those without anything under way. */
  #makeRoom(): boolean {
    let oldest: Host | undefined;
    for (const host of this.#hosts.values()) {
      if (host.rqActive > 0 || (oldest !== undefined && host.lastUsedMs >= oldest.lastUsedMs)) continue;
      oldest = host;
    }
    if (oldest !== undefined) this.#remove(oldest);
    return oldest !== undefined;
  }

  #remove(host: Host): void {
    this.#hosts.delete(host.endpoint.id);
    host.removed = true;
    host.drainPools();
    this.#home.counters.membership_total = this.#hosts.size;
    this.#home.counters.membership_healthy = this.#hosts.size;
  }

  expired(): void {
    const { timing } = this.#home.means;
    for (const host of [...this.#hosts.values()]) {
      // A connection that waits for the next request keeps its host.
      if (host.cxActive === 0 && timing.nowMs - host.lastUsedMs >= SWEEP_MS) this.#remove(host);
    }
    this.#isRunning = this.#hosts.size > 0;
    if (this.#isRunning) timing.setTimer(this.#timer, SWEEP_MS);
  }

  stop(): void {
    this.#home.means.timing.cancelTimer(this.#timer);
    this.#isRunning = false;
  }
}
