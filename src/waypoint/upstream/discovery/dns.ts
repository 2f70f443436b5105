/**
 * Clusters whose endpoints have names (STRICT_DNS, LOGICAL_DNS): each name is asked for again when its answer has aged. Strict: every address is a
 * host. Logical: one host, at the first address there is now; connections to an earlier one stay.
 */
import { isIpv6 } from "../../../platform/sockaddr.ts";
import { Timer, type TimerTarget } from "../../../net/reactor.ts";
import type { DiscoverySpec, EndpointSpec } from "../../spec/mod.ts";
import type { Host } from "../host.ts";
import type { FoundEndpoint } from "../host_set.ts";
import type { DnsAddress, DnsAnswer } from "../resolver.ts";
import type { PickRequest, Wait } from "../upstream.ts";
import type { Discovery, DiscoveryHome, HostChosen } from "./discovery.ts";

type DnsSpec = Extract<DiscoverySpec, { readonly kind: "dns" }>;

/** An answer that is good for no time at all is still not asked for more often than that. */
const MIN_REFRESH_MS = 1_000;

export function isAddress(host: string): boolean {
  return isIpv6(host) || /^\d{1,3}(\.\d{1,3}){3}$/.test(host);
}

export function withPort(ip: string, port: number): string {
  return isIpv6(ip) ? `[${ip}]:${port}` : `${ip}:${port}`;
}

class Name implements TimerTarget {
  /** Undefined: not known yet. */
  addresses: readonly DnsAddress[] | undefined;
  /** There was an answer, if only that there is none. */
  isAnswered = false;
  readonly #home: DiscoveryHome;
  readonly #spec: DnsSpec;
  readonly #host: string;
  readonly #changed: () => void;
  readonly #timer = new Timer(this);
  #question: Wait | undefined;

  constructor(home: DiscoveryHome, spec: DnsSpec, host: string, changed: () => void) {
    this.#home = home;
    this.#spec = spec;
    this.#host = host;
    this.#changed = changed;
  }

  expired(): void {
    const { counters, means } = this.#home;
    counters.update_attempt++;
    this.#question = means.resolver.resolve(this.#host, this.#spec.family, (answer) => this.#answered(answer));
  }

  #answered(answer: DnsAnswer): void {
    this.#question = undefined;
    const isFirst = !this.isAnswered;
    this.isAnswered = true;
    const { counters, means } = this.#home;
    const { refreshMs, respectTtl, jitterMs } = this.#spec;
    let againMs = refreshMs;
    if ("failure" in answer) {
      // What was known stays: a name server that fails says nothing of the endpoints.
      counters.update_failure++;
      if (isFirst) this.#changed();
    } else {
      counters.update_success++;
      if (respectTtl && answer.addresses.length > 0) {
        againMs = Math.min(...answer.addresses.map(({ ttlSeconds }) => ttlSeconds)) * 1000;
      }
      const before = this.addresses;
      this.addresses = answer.addresses;
      if (before === undefined || !isSame(before, answer.addresses)) this.#changed();
    }
    means.timing.setTimer(this.#timer, Math.max(MIN_REFRESH_MS, againMs) + means.random() * jitterMs);
  }

  stop(): void {
    this.#question?.cancel();
    this.#home.means.timing.cancelTimer(this.#timer);
  }
}

function isSame(a: readonly DnsAddress[], b: readonly DnsAddress[]): boolean {
  return a.length === b.length && a.every(({ ip }, i) => ip === b[i].ip);
}

export class DnsDiscovery implements Discovery {
  readonly #home: DiscoveryHome;
  readonly #spec: DnsSpec;
  readonly #names = new Map<string, Name>();
  /** Requests that came before the first answer. */
  readonly #waiting = new Set<() => void>();
  readonly #patience = {
    choose: (request: PickRequest, chosen: HostChosen): Wait => {
      const waiter = (): void => chosen(this.#home.balance(request), undefined);
      this.#waiting.add(waiter);
      return { cancel: () => void this.#waiting.delete(waiter) };
    },
  };

  /** `before`: the one whose place it takes; what that found out serves until there is an answer. */
  constructor(home: DiscoveryHome, spec: DnsSpec, before: DnsDiscovery | undefined) {
    this.#home = home;
    this.#spec = spec;
    for (const { endpoints } of spec.endpoints.localities) {
      for (const { reach } of endpoints) {
        if (reach.kind !== "direct" || isAddress(reach.host) || this.#names.has(reach.host)) continue;
        const name = new Name(home, spec, reach.host, () => this.#publish());
        name.addresses = before?.addressesOf(reach.host, spec.family);
        this.#names.set(reach.host, name);
      }
    }
  }

  addressesOf(host: string, family: DnsSpec["family"]): readonly DnsAddress[] | undefined {
    return family === this.#spec.family ? this.#names.get(host)?.addresses : undefined;
  }

  /** A cluster that is new and knows no address yet lets its requests wait: they would fail for nothing. */
  get asynchronous(): Discovery["asynchronous"] {
    return this.#isKnown() ? undefined : this.#patience;
  }

  #isKnown(): boolean {
    for (const { addresses, isAnswered } of this.#names.values()) {
      if (isAnswered || addresses !== undefined) return true;
    }
    return this.#names.size === 0;
  }

  start(): void {
    this.#publish();
    for (const name of this.#names.values()) name.expired();
  }

  stop(): void {
    for (const name of this.#names.values()) name.stop();
    this.#answerAll();
  }

  #answerAll(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const waiter of waiting) waiter();
  }

  hosts(): Iterable<Host> {
    return [];
  }

  #publish(): void {
    const { localities, overprovisioning } = this.#spec.endpoints;
    this.#home.setFound({
      overprovisioning,
      movesFreely: !this.#spec.strict,
      localities: localities.map(({ priority, weight, endpoints }) => ({
        priority,
        weight,
        endpoints: endpoints.flatMap((endpoint) => this.#resolved(endpoint)),
      })),
    });
    if (this.#isKnown()) this.#answerAll();
  }

  #resolved(endpoint: EndpointSpec): readonly FoundEndpoint[] {
    const { reach } = endpoint;
    if (reach.kind !== "direct" || isAddress(reach.host)) return [endpoint];
    const { host: hostname, port } = reach;
    const addresses = this.#names.get(hostname)?.addresses ?? [];
    const at = ({ ip }: DnsAddress, others: readonly DnsAddress[]): FoundEndpoint["reach"] => ({
      kind: "direct",
      host: ip,
      port,
      others: others.map(({ ip }) => ({ host: ip, port })),
    });
    if (this.#spec.strict) {
      return addresses.map((address) => ({
        ...endpoint,
        id: withPort(address.ip, port),
        hostname,
        reach: at(address, []),
      }));
    }
    if (addresses.length === 0) return [];
    const [first, ...others] = addresses;
    // Of all families both are tried at once (RFC 8305); otherwise the first address is the endpoint.
    return [{ ...endpoint, hostname, reach: at(first, this.#spec.family === "all" ? others : []) }];
  }
}
