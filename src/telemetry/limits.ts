/**
 * Limits that were reached: one counter by name, and one log line by name and 10 s. Every limit that can refuse, drop or end
 * something has its name here; docs/limits.md has the numbers.
 *
 *   createLimits({ registry, log, nowMs }): Limits
 *     reached(limit, fields?)   the limit was hit once
 *     count(limit, times)       the same without a log line
 */
import type { Fields, Logger } from "./log.ts";
import { labelSet } from "./metric_family.ts";
import type { Registry, Slot } from "./registry.ts";

/** What happens at the limit, and what to do about it. */
export const LIMITS = {
  open_files: "no more open files: raise RLIMIT_NOFILE, or look for a leak in process_open_fds",
  tunnel_streams:
    "a peer opened more streams on a tunnel than it may: they are refused, and it may open another tunnel",
  tunnel_abuse: "a peer sent more than a tunnel may hold or cost: the tunnel is closed",
  tunnel_headers: "a peer sent more header bytes than a request may have: the request is refused",
  mesh_answer: "the main thread did not say in time what a destination is: the connection is refused",
  mesh_cache: "a worker knows more destinations than it may: the oldest are dropped, and asked for again when needed",
  connections_held:
    "too many connections wait for a pod that cannot be served yet: further ones wait in the kernel's queue",
  missing_policy: "a pod names a policy that did not come in time, or cannot be read: the connection is refused",
  worker_report:
    "a worker did not report in time: its metrics come with the next scrape, its connections are not shown",
  on_demand_names:
    "too many addresses are waited for on demand; the connections to further ones wait, then are refused",
  xds_message: "istiod sent a message above the limit: the stream is ended and opened again",
  dns_in_flight: "too many DNS requests wait for the upstream: further ones are refused",
  dns_connections: "too many DNS clients on TCP: further ones are closed",
  socks_handshake: "a SOCKS client did not finish its handshake in time, or sent too much: it is closed",
  log_lines: "the log is not read fast enough: lines are dropped",
  metric_series: "too many series of a metric: further label sets are counted together",
  admin_connections: "too many connections to an admin port: further ones are closed",
} as const satisfies Readonly<Record<string, string>>;

export type LimitName = keyof typeof LIMITS;

export interface Limits {
  /** @param fields of the log line, if this one is written. */
  reached(limit: LimitName, fields?: Fields): void;
  /** Counts without a log line, for what has said so itself. */
  count(limit: LimitName, times: number): void;
}

export interface LimitsSettings {
  readonly registry: Registry;
  readonly log: Logger;
  /** Milliseconds on a clock that only moves forward. */
  readonly nowMs: () => number;
}

/** A limit that is hit all the time says so once in this time, with how often. */
const LOG_INTERVAL_MS = 10_000;

interface Reached {
  readonly slot: Slot;
  unlogged: number;
  loggedAtMs: number;
}

export function createLimits({ registry, log, nowMs }: LimitsSettings): Limits {
  const family = registry.register({
    name: "ambit_limit_reached",
    help: "How often a limit was reached; docs/limits.md has the limits",
    type: "counter",
    unstable: true,
  });
  const seen = new Map<LimitName, Reached>();
  function stateOf(limit: LimitName): Reached {
    let state = seen.get(limit);
    if (state === undefined) {
      state = { slot: registry.acquire(family, labelSet({ limit })), unlogged: 0, loggedAtMs: -Infinity };
      seen.set(limit, state);
    }
    return state;
  }
  return {
    reached(limit, fields) {
      const state = stateOf(limit);
      registry.add(state.slot, 1);
      state.unlogged++;
      const now = nowMs();
      if (now - state.loggedAtMs < LOG_INTERVAL_MS) return;
      log.log("warn", "limits", `limit reached: ${LIMITS[limit]}`, { limit, times: state.unlogged, ...fields });
      state.loggedAtMs = now;
      state.unlogged = 0;
    },
    count(limit, times) {
      if (times > 0) registry.add(stateOf(limit).slot, times);
    },
  };
}
