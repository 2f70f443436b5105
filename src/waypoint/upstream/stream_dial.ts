/** One byte stream of its own to a host, for TCP chains: its dial with the deadline, and its place in the counts until it is over. */
import { Timer, type TimerTarget } from "../../net/reactor.ts";
import type { ClusterState } from "./cluster_state.ts";
import type { DialedStream, DialRequest, DialWaiter } from "./dialer.ts";
import { connectTimeout, isTimeout } from "./failures.ts";
import type { Host } from "./host.ts";
import { Limited } from "./limits.ts";
import type { StreamWaiter, UpstreamFailure, Wait } from "./upstream.ts";

export class StreamDial implements DialWaiter, TimerTarget, Wait {
  readonly #state: ClusterState;
  readonly #host: Host;
  readonly #waiter: StreamWaiter;
  readonly #timer = new Timer(this);
  #wait: Wait | undefined;
  #timeoutMs = 0;
  #isAnswered = false;
  #isOver = false;

  constructor(state: ClusterState, host: Host, waiter: StreamWaiter) {
    this.#state = state;
    this.#host = host;
    this.#waiter = waiter;
  }

  start(request: DialRequest): Wait {
    const { limits, counters, means } = this.#state;
    limits.add(Limited.CONNECTIONS, 1);
    counters.upstream_cx_total++;
    counters.upstream_cx_active++;
    counters.upstream_rq_total++;
    counters.upstream_rq_active++;
    this.#host.cxTotal++;
    this.#host.cxActive++;
    this.#host.rqTotal++;
    this.#host.rqActive++;
    this.#host.lastUsedMs = means.timing.nowMs;
    this.#timeoutMs = request.timeoutMs;
    means.timing.setTimer(this.#timer, request.timeoutMs);
    const wait = means.dialer.dial(request, this);
    if (!this.#isAnswered) this.#wait = wait;
    return this;
  }

  dialed(stream: DialedStream, localAddress: string): void {
    if (this.#isAnswered) return stream.reset();
    this.#answer();
    stream.whenOver = () => this.#over();
    this.#waiter.connected(stream, this.#host, localAddress);
  }

  dialFailed(failure: UpstreamFailure): void {
    if (this.#isAnswered) return;
    const { counters } = this.#state;
    counters.upstream_cx_connect_fail++;
    if (isTimeout(failure)) counters.upstream_cx_connect_timeout++;
    this.#host.cxConnectFail++;
    this.#answer();
    this.#over();
    this.#waiter.failed(failure, this.#host);
  }

  expired(): void {
    this.#wait?.cancel();
    this.dialFailed(connectTimeout(`${this.#host.shown}: no connection within ${this.#timeoutMs} ms`));
  }

  cancel(): void {
    if (this.#isAnswered) return;
    const wait = this.#wait;
    this.#answer();
    this.#over();
    wait?.cancel();
  }

  #answer(): void {
    this.#isAnswered = true;
    this.#wait = undefined;
    this.#state.means.timing.cancelTimer(this.#timer);
  }

  #over(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const { limits, counters } = this.#state;
    limits.add(Limited.CONNECTIONS, -1);
    counters.upstream_cx_active--;
    counters.upstream_cx_destroy++;
    counters.upstream_rq_active--;
    this.#host.cxActive--;
    this.#host.rqActive--;
  }
}
