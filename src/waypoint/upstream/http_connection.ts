/**
 * One HTTP connection of a pool, from its dial to its end: counts its requests, and ends it after so many, after so long, or when nobody used it
 * for a while.
 */
import { Timer, type TimerTarget } from "../../net/reactor.ts";
import type {
  ClientConnection,
  ClientConnectionOwner,
  ClientExchange,
  RequestHead,
  ResponseReceiver,
} from "../http/exchange.ts";
import { Http1Client } from "../http/http1_client.ts";
import { Http2Client } from "../http/http2_client.ts";
import type { DialedStream, DialWaiter } from "./dialer.ts";
import { connectTimeout, isTimeout } from "./failures.ts";
import type { HttpPool } from "./http_pool.ts";
import { Limited } from "./limits.ts";
import type { HttpWaiter, UpstreamFailure, Wait } from "./upstream.ts";

/** Envoy's defaults for what an endpoint may answer with. */
const MAX_HEAD_BYTES = 60 * 1024;
const MAX_FIELDS = 100;
const PING_TIMEOUT_MS = 20_000;
const MAX_STREAMS = 1024;

export class HttpConnection implements ClientConnection, ClientConnectionOwner, DialWaiter, TimerTarget {
  /** Of the pool: it is in its list of those that may take a request. */
  isReady = false;
  readonly #pool: HttpPool;
  readonly #timer = new Timer(this);
  #client: ClientConnection | undefined;
  #wait: Wait | undefined;
  #phase: "dialing" | "open" | "closed" = "dialing";
  #localAddress = "";
  #isDraining = false;
  #requests = 0;
  /** Requests under way as they are counted with the host and the cluster. */
  #counted = 0;
  #openedAtMs = 0;
  #idleSinceMs = 0;

  constructor(pool: HttpPool) {
    this.#pool = pool;
  }

  dial(): void {
    const { limits, counters, means } = this.#pool.state;
    limits.add(Limited.CONNECTIONS, 1);
    counters.upstream_cx_active++;
    counters.upstream_cx_total++;
    this.#pool.host.cxActive++;
    this.#pool.host.cxTotal++;
    const request = this.#pool.dialRequest();
    means.timing.setTimer(this.#timer, request.timeoutMs);
    const wait = means.dialer.dial(request, this);
    if (this.#phase === "dialing" && this.#client === undefined) this.#wait = wait;
    if (this.#pool.version === 2) counters.upstream_cx_http2_total++;
    else counters.upstream_cx_http1_total++;
  }

  dialed(stream: DialedStream, localAddress: string): void {
    this.#wait = undefined;
    if (this.#phase === "closed") return stream.reset();
    const { state, version } = this.#pool;
    const { means, spec } = state;
    const { timing } = means;
    this.#phase = "open";
    this.#localAddress = localAddress;
    this.#openedAtMs = timing.nowMs;
    this.#idleSinceMs = timing.nowMs;
    this.#client = version === 1
      ? new Http1Client(stream, {
        maxHeadBytes: MAX_HEAD_BYTES,
        maxFields: MAX_FIELDS,
        acceptHttp10: true,
        keepSpelling: spec.protocol.preserveHeaderCase,
      }, this)
      : new Http2Client(
        stream,
        {
          maxHeaderListBytes: MAX_HEAD_BYTES,
          maxConcurrentStreams: Math.max(1, Math.min(MAX_STREAMS, spec.limits.maxConcurrentStreams)),
          pingIntervalMs: spec.protocol.http2KeepaliveMs,
          pingTimeoutMs: PING_TIMEOUT_MS,
        },
        means.buffers,
        timing,
        this,
      );
    this.#arm();
    this.#pool.opened(this);
    if (this.#isDraining) this.#client?.drain();
  }

  dialFailed(failure: UpstreamFailure): void {
    if (this.#phase !== "dialing") return;
    this.#wait = undefined;
    const { counters } = this.#pool.state;
    counters.upstream_cx_connect_fail++;
    if (isTimeout(failure)) counters.upstream_cx_connect_timeout++;
    this.#pool.host.cxConnectFail++;
    this.#leave();
    this.#pool.openFailed(this, failure);
  }

  // ---- requests

  get available(): boolean {
    return this.#phase === "open" && !this.#isDraining && this.#client?.available === true;
  }

  get activeRequests(): number {
    return this.#client?.activeRequests ?? 0;
  }

  /** Gives the connection to somebody who sends at once. */
  assign(waiter: HttpWaiter): void {
    waiter.connected(this, this.#pool.host, this.#localAddress);
  }

  request(head: RequestHead, ended: boolean, receiver: ResponseReceiver): ClientExchange | undefined {
    const client = this.#client;
    if (client === undefined || !this.available) return undefined;
    const exchange = client.request(head, ended, receiver);
    if (exchange === undefined) return undefined;
    const { state, host } = this.#pool;
    const { timing } = state.means;
    this.#requests++;
    host.rqTotal++;
    host.lastUsedMs = timing.nowMs;
    state.counters.upstream_rq_total++;
    this.#count();
    const most = state.spec.limits.maxRequestsPerConnection;
    if (most > 0 && this.#requests >= most) {
      state.counters.upstream_cx_max_requests++;
      this.drain();
    }
    return exchange;
  }

  /** Brings the counts of host, cluster and limit up to what is under way here. */
  #count(active = this.activeRequests): void {
    const change = active - this.#counted;
    if (change === 0) return;
    this.#counted = active;
    const { counters, limits, means } = this.#pool.state;
    if (active === 0) this.#idleSinceMs = means.timing.nowMs;
    limits.add(Limited.REQUESTS, change);
    counters.upstream_rq_active += change;
    this.#pool.host.rqActive += change;
  }

  availableChanged(): void {
    this.#count();
    if (this.available) this.#pool.available(this);
  }

  closed(): void {
    if (this.#phase === "closed") return;
    if (this.#counted > 0) this.#pool.state.counters.upstream_cx_destroy_with_active_rq++;
    this.#leave();
    this.#count(0);
    this.#pool.closed(this);
  }

  #leave(): void {
    this.#phase = "closed";
    const { limits, counters, means } = this.#pool.state;
    means.timing.cancelTimer(this.#timer);
    limits.add(Limited.CONNECTIONS, -1);
    counters.upstream_cx_active--;
    counters.upstream_cx_destroy++;
    this.#pool.host.cxActive--;
  }

  // ---- its end

  drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    if (this.#phase === "dialing") return this.close("nobody waits for it any more");
    this.#client?.drain();
  }

  close(reason: string): void {
    if (this.#phase === "closed") return;
    if (this.#phase === "open") return this.#client?.close(reason);
    this.#wait?.cancel();
    this.#leave();
    this.#pool.gaveUp(this);
  }

  /** Nothing is done for each request: the timer looks now and then how long nobody was here. */
  #arm(): void {
    const { means, spec } = this.#pool.state;
    const { timing } = means;
    const { idleTimeoutMs, maxConnectionMs } = spec.limits;
    let dueMs = Infinity;
    if (idleTimeoutMs > 0) {
      dueMs = this.activeRequests > 0 ? timing.nowMs + idleTimeoutMs : this.#idleSinceMs + idleTimeoutMs;
    }
    if (maxConnectionMs > 0 && !this.#isDraining) dueMs = Math.min(dueMs, this.#openedAtMs + maxConnectionMs);
    if (dueMs === Infinity) timing.cancelTimer(this.#timer);
    else timing.setTimer(this.#timer, Math.max(1, dueMs - timing.nowMs));
  }

  expired(): void {
    const { counters, means, spec } = this.#pool.state;
    const { nowMs } = means.timing;
    if (this.#phase === "dialing") {
      this.#wait?.cancel();
      const { timeoutMs } = this.#pool.dialRequest();
      return this.dialFailed(connectTimeout(`${this.#pool.host.shown}: no connection within ${timeoutMs} ms`));
    }
    const { idleTimeoutMs, maxConnectionMs } = spec.limits;
    if (maxConnectionMs > 0 && nowMs - this.#openedAtMs >= maxConnectionMs && !this.#isDraining) {
      counters.upstream_cx_max_duration_reached++;
      this.drain();
    } else if (idleTimeoutMs > 0 && this.activeRequests === 0 && nowMs - this.#idleSinceMs >= idleTimeoutMs) {
      counters.upstream_cx_idle_timeout++;
      this.drain();
    }
    if (this.#phase === "open") this.#arm();
  }
}
