/**
 * HTTP connections to one host that are alike: HTTP/1.1 ones are reused, one request at a time, HTTP/2 ones shared. Requests that find none wait in
 * order for one that is free or being opened; a connect that fails answers all who wait, as Envoy's pools do.
 */
import type { Deferred } from "../../net/reactor.ts";
import type { ClusterState } from "./cluster_state.ts";
import type { DialRequest } from "./dialer.ts";
import { overflow } from "./failures.ts";
import type { Host, HostPool } from "./host.ts";
import { HttpConnection } from "./http_connection.ts";
import { Limited } from "./limits.ts";
import type { HttpWaiter, UpstreamFailure, Wait } from "./upstream.ts";

/** Streams that a connection is expected to take before its peer has said so. */
const ASSUMED_STREAMS = 100;

class Pending implements Wait {
  done = false;
  constructor(readonly pool: HttpPool, readonly waiter: HttpWaiter) {}

  cancel(): void {
    if (!this.done) this.pool.cancel(this);
  }
}

export const ANSWERED: Wait = { cancel() {} };

export class HttpPool implements HostPool, Deferred {
  deferred = false;
  readonly state: ClusterState;
  readonly host: Host;
  readonly version: 1 | 2;
  readonly dialRequest: () => DialRequest;
  readonly #onEmpty: (pool: HttpPool) => void;
  /** Every connection that is open or being opened. */
  readonly #all = new Set<HttpConnection>();
  /** Those that may take a request; the last one is used first, so that others can become idle and go. */
  readonly #ready: HttpConnection[] = [];
  #dialing = 0;
  #pending: Pending[] = [];
  #isDraining = false;

  constructor(
    state: ClusterState,
    host: Host,
    version: 1 | 2,
    dialRequest: () => DialRequest,
    onEmpty: (pool: HttpPool) => void,
  ) {
    this.state = state;
    this.host = host;
    this.version = version;
    this.dialRequest = dialRequest;
    this.#onEmpty = onEmpty;
  }

  get size(): number {
    return this.#all.size;
  }

  /** An answer may come from within. */
  acquire(waiter: HttpWaiter): Wait {
    const connection = this.#pending.length === 0 ? this.#takeReady() : undefined;
    if (connection !== undefined) {
      this.#assign(connection, waiter);
      return ANSWERED;
    }
    const { limits, counters } = this.state;
    if (!limits.allows(Limited.PENDING)) {
      counters.upstream_rq_pending_overflow++;
      waiter.failed(overflow("requests that wait"), this.host);
      return ANSWERED;
    }
    const pending = new Pending(this, waiter);
    limits.add(Limited.PENDING, 1);
    counters.upstream_rq_pending_total++;
    counters.upstream_rq_pending_active++;
    this.#pending.push(pending);
    this.#dialMore();
    return pending;
  }

  cancel(pending: Pending): void {
    const at = this.#pending.indexOf(pending);
    if (at < 0) return;
    this.#pending.splice(at, 1);
    this.#unpend(pending);
    this.state.counters.upstream_rq_cancelled++;
  }

  #unpend(pending: Pending): void {
    pending.done = true;
    this.state.limits.add(Limited.PENDING, -1);
    this.state.counters.upstream_rq_pending_active--;
  }

  #assign(connection: HttpConnection, waiter: HttpWaiter): void {
    const { limits, counters } = this.state;
    if (!limits.allows(Limited.REQUESTS)) {
      counters.upstream_rq_pending_overflow++;
      this.available(connection);
      return waiter.failed(overflow("requests"), this.host);
    }
    connection.assign(waiter);
    if (connection.available) this.available(connection);
  }

  #takeReady(): HttpConnection | undefined {
    for (;;) {
      const connection = this.#ready.pop();
      if (connection === undefined) return undefined;
      connection.isReady = false;
      if (connection.available) return connection;
    }
  }

  /** One connection for each that waits, or for as many as will share one. */
  #dialMore(): void {
    const perConnection = this.version === 1
      ? 1
      : Math.max(1, Math.min(ASSUMED_STREAMS, this.state.spec.limits.maxConcurrentStreams));
    while (this.#pending.length > this.#dialing * perConnection) {
      if (!this.state.limits.allows(Limited.CONNECTIONS)) {
        this.state.counters.upstream_cx_overflow++;
        // A host that has none gets one all the same: whoever waits here would wait for ever.
        if (this.#all.size > 0) return;
      }
      const connection = new HttpConnection(this);
      this.#all.add(connection);
      this.#dialing++;
      connection.dial();
    }
  }

  // ---- told by connections

  /** It is open. */
  opened(connection: HttpConnection): void {
    this.#dialing--;
    this.available(connection);
    // Those who wait are served now: what they send travels with the opening.
    this.#serve();
  }

  openFailed(connection: HttpConnection, failure: UpstreamFailure): void {
    this.#dialing--;
    this.#all.delete(connection);
    const pending = this.#pending;
    this.#pending = [];
    for (const each of pending) {
      this.#unpend(each);
      this.state.counters.upstream_rq_pending_failure_eject++;
    }
    for (const each of pending) each.waiter.failed(failure, this.host);
    this.#checkEmpty();
  }

  /** Nobody waits for it any more. */
  gaveUp(connection: HttpConnection): void {
    this.#dialing--;
    this.#all.delete(connection);
    this.#checkEmpty();
  }

  /** It can take a request. Given to who waits at the end of the turn: its codec may be in the middle of the last answer's bytes. */
  available(connection: HttpConnection): void {
    if (connection.isReady || !connection.available) return;
    connection.isReady = true;
    this.#ready.push(connection);
    if (this.#pending.length > 0) this.state.means.timing.defer(this);
  }

  closed(connection: HttpConnection): void {
    if (!this.#all.delete(connection)) return;
    const at = this.#ready.indexOf(connection);
    if (at >= 0) this.#ready.splice(at, 1);
    if (this.#pending.length > 0) this.#dialMore();
    this.#checkEmpty();
  }

  flush(): void {
    this.#serve();
  }

  #serve(): void {
    while (this.#pending.length > 0) {
      const connection = this.#takeReady();
      if (connection === undefined) break;
      const pending = this.#pending.shift() as Pending;
      this.#unpend(pending);
      this.#assign(connection, pending.waiter);
    }
    if (this.#pending.length > 0) this.#dialMore();
    else if (this.#isDraining) this.drain();
  }

  // ---- its end

  drain(): void {
    this.#isDraining = true;
    if (this.#pending.length > 0) return;
    for (const connection of [...this.#all]) connection.drain();
    this.#checkEmpty();
  }

  close(reason: string): void {
    this.#isDraining = true;
    const pending = this.#pending;
    this.#pending = [];
    for (const each of pending) this.#unpend(each);
    for (const connection of [...this.#all]) connection.close(reason);
    const failure: UpstreamFailure = {
      flag: "UF",
      reason: "local connection failure",
      detail: reason,
      safeToRetry: true,
    };
    for (const each of pending) each.waiter.failed(failure, this.host);
  }

  #checkEmpty(): void {
    if (this.#all.size === 0 && this.#pending.length === 0) this.#onEmpty(this);
  }
}
