/**
 * Outlier detection (waypoint.md 4.7): a host that fails several times in a row gets nothing for a while, longer each time. Each worker judges by what
 * it sees itself.
 */
import { Timer, type TimerTarget } from "../../net/reactor.ts";
import type { Timing } from "../http/timing.ts";
import type { OutlierSpec } from "../spec/mod.ts";
import type { ClusterCounters } from "./counters.ts";
import type { Host } from "./host.ts";

export type LocalFailure = "connect" | "reset" | "timeout";
type Kind = "consecutive_5xx" | "consecutive_gateway_failure" | "consecutive_local_origin_failure";

export class Outliers implements TimerTarget {
  readonly #spec: OutlierSpec;
  readonly #timing: Timing;
  readonly #counters: ClusterCounters;
  readonly #hosts: () => Iterable<Host>;
  readonly #count: () => number;
  readonly #changed: () => void;
  readonly #timer = new Timer(this);
  #isRunning = false;

  /** `changed`: hosts were ejected or taken back. */
  constructor(
    spec: OutlierSpec,
    timing: Timing,
    counters: ClusterCounters,
    hosts: { all(): Iterable<Host>; count(): number },
    changed: () => void,
  ) {
    this.#spec = spec;
    this.#timing = timing;
    this.#counters = counters;
    this.#hosts = () => hosts.all();
    this.#count = () => hosts.count();
    this.#changed = changed;
    // Hosts stay ejected when their cluster's rules change.
    for (const host of hosts.all()) if (host.isEjected) this.#start();
  }

  answered(host: Host, status: number): void {
    host.consecutiveLocalFailures = 0;
    this.#judge(host, status);
  }

  failed(host: Host, failure: LocalFailure): void {
    if (!this.#spec.splitLocalOrigin) return this.#judge(host, failure === "timeout" ? 504 : 503);
    host.consecutiveLocalFailures++;
    if (host.consecutiveLocalFailures !== this.#spec.consecutiveLocalOrigin) return;
    this.#detected(host, "consecutive_local_origin_failure");
    if (!host.isEjected) host.consecutiveLocalFailures = 0;
  }

  #judge(host: Host, status: number): void {
    if (status < 500) {
      host.consecutive5xx = 0;
      host.consecutiveGatewayFailures = 0;
      return;
    }
    const { consecutive5xx, consecutiveGatewayFailure } = this.#spec;
    if (status >= 502 && status <= 504) {
      host.consecutiveGatewayFailures++;
      if (host.consecutiveGatewayFailures === consecutiveGatewayFailure) {
        this.#detected(host, "consecutive_gateway_failure");
        host.consecutiveGatewayFailures = 0;
      }
    } else {
      host.consecutiveGatewayFailures = 0;
    }
    host.consecutive5xx++;
    if (host.consecutive5xx !== consecutive5xx) return;
    this.#detected(host, "consecutive_5xx");
    host.consecutive5xx = 0;
  }

  #detected(host: Host, kind: Kind): void {
    if (host.isEjected || host.removed) return;
    const counters = this.#counters;
    counters[`outlier_detection.ejections_detected_${kind}`]++;
    const active = counters["outlier_detection.ejections_active"];
    if (100 * (active + 1) / this.#count() > Math.min(100, this.#spec.maxEjectionPercent)) {
      counters["outlier_detection.ejections_overflow"]++;
      return;
    }
    counters[`outlier_detection.ejections_enforced_${kind}`]++;
    counters["outlier_detection.ejections_enforced_total"]++;
    counters["outlier_detection.ejections_active"]++;
    host.isEjected = true;
    host.ejectedAtMs = this.#timing.nowMs;
    const { baseEjectionMs, maxEjectionMs } = this.#spec;
    if (host.ejections * baseEjectionMs < maxEjectionMs + baseEjectionMs) host.ejections++;
    this.#start();
    this.#changed();
  }

  /** A host is gone, or belongs to nobody any more. */
  forget(host: Host): void {
    if (!host.isEjected) return;
    host.isEjected = false;
    this.#counters["outlier_detection.ejections_active"]--;
  }

  /** The sweep: takes back whose time is over; who was well since the last one is trusted more again. */
  expired(): void {
    this.#isRunning = false;
    const { baseEjectionMs, maxEjectionMs } = this.#spec;
    let isBusy = false;
    let isChanged = false;
    for (const host of this.#hosts()) {
      if (host.isEjected) {
        const lastsMs = Math.min(baseEjectionMs * host.ejections, maxEjectionMs);
        if (this.#timing.nowMs - host.ejectedAtMs >= lastsMs) {
          this.forget(host);
          host.consecutive5xx = 0;
          host.consecutiveGatewayFailures = 0;
          host.consecutiveLocalFailures = 0;
          isChanged = true;
        }
        isBusy = true;
      } else if (host.ejections > 0) {
        host.ejections--;
        isBusy ||= host.ejections > 0;
      }
    }
    if (isBusy) this.#start();
    if (isChanged) this.#changed();
  }

  stop(): void {
    this.#timing.cancelTimer(this.#timer);
  }

  /** Only as long as somebody is ejected, or was lately. */
  #start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#timing.setTimer(this.#timer, this.#spec.intervalMs);
  }
}
