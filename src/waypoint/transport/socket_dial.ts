/**
 * TCP to an endpoint with one address or several, which are tried side by side: the next one starts when the one before has failed, or has taken a while
 * (RFC 8305 section 5, with Envoy's delay). The first that connects is taken.
 */
import { describeErrno, ECONNREFUSED, ETIMEDOUT } from "../../platform/errno.ts";
import { AF_INET, AF_INET6, isIpv6 } from "../../platform/sockaddr.ts";
import { type ConnectHandler, Connector } from "../../net/connector.ts";
import { type Reactor, Timer, type TimerTarget } from "../../net/reactor.ts";

const ATTEMPT_DELAY_MS = 300;

export interface SocketAddressTo {
  readonly host: string;
  readonly port: number;
}

export interface SocketDialOwner {
  socketConnected(fd: number): void;
  /** `timedOut`: the last of them got no answer at all. */
  socketFailed(detail: string, timedOut: boolean): void;
}

class Attempt implements ConnectHandler {
  connector: Connector | undefined;
  constructor(readonly dial: SocketDial, readonly to: SocketAddressTo) {}

  connected(fd: number): void {
    this.dial.connected(this, fd);
  }

  connectFailed(code: number): void {
    this.dial.failed(this, code);
  }
}

export class SocketDial implements TimerTarget {
  readonly #reactor: Reactor;
  readonly #addresses: readonly SocketAddressTo[];
  readonly #timeoutMs: number;
  readonly #createSocket: (family: number) => number;
  readonly #owner: SocketDialOwner;
  readonly #timer = new Timer(this);
  readonly #running = new Set<Attempt>();
  #next = 0;
  #isOver = false;

  /** `createSocket` gives a descriptor of a family, or `-errno`. */
  constructor(
    reactor: Reactor,
    addresses: readonly SocketAddressTo[],
    timeoutMs: number,
    createSocket: (family: number) => number,
    owner: SocketDialOwner,
  ) {
    this.#reactor = reactor;
    this.#addresses = interleave(addresses);
    this.#timeoutMs = timeoutMs;
    this.#createSocket = createSocket;
    this.#owner = owner;
  }

  start(): void {
    this.#try();
  }

  #try(): void {
    const to = this.#addresses[this.#next++];
    if (this.#next < this.#addresses.length) this.#reactor.setTimer(this.#timer, ATTEMPT_DELAY_MS);
    const attempt = new Attempt(this, to);
    this.#running.add(attempt);
    const family = isIpv6(to.host) ? AF_INET6 : AF_INET;
    const fd = this.#createSocket(family);
    if (fd < 0) return this.failed(attempt, -fd);
    const connector = new Connector(this.#reactor, attempt, fd, family, to.host, to.port, this.#timeoutMs);
    if (!connector.done) attempt.connector = connector;
  }

  expired(): void {
    if (!this.#isOver && this.#next < this.#addresses.length) this.#try();
  }

  connected(attempt: Attempt, fd: number): void {
    this.#running.delete(attempt);
    this.cancel();
    this.#owner.socketConnected(fd);
  }

  failed(attempt: Attempt, code: number): void {
    this.#running.delete(attempt);
    if (this.#isOver) return;
    this.#reactor.cancelTimer(this.#timer);
    if (this.#next < this.#addresses.length) return this.#try();
    if (this.#running.size > 0) return;
    this.cancel();
    const { host, port } = attempt.to;
    const address = isIpv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
    this.#owner.socketFailed(`${address}: ${describeErrno(code)}${hintOf(code)}`, code === ETIMEDOUT);
  }

  cancel(): void {
    this.#isOver = true;
    this.#reactor.cancelTimer(this.#timer);
    for (const { connector } of this.#running) connector?.cancel();
    this.#running.clear();
  }
}

function hintOf(code: number): string {
  if (code === ECONNREFUSED) return "; nothing listens there";
  return code === ETIMEDOUT ? "; is a NetworkPolicy or firewall in the way?" : "";
}

/** By turns of both families, beginning with that of the first address: RFC 8305 section 4. */
function interleave(addresses: readonly SocketAddressTo[]): readonly SocketAddressTo[] {
  if (addresses.length < 3) return addresses;
  const isSix = isIpv6(addresses[0].host);
  const first = addresses.filter(({ host }) => isIpv6(host) === isSix);
  const second = addresses.filter(({ host }) => isIpv6(host) !== isSix);
  const mixed: SocketAddressTo[] = [];
  for (let i = 0; i < Math.max(first.length, second.length); i++) {
    if (i < first.length) mixed.push(first[i]);
    if (i < second.length) mixed.push(second[i]);
  }
  return mixed;
}
