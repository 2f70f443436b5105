/**
 * Questions that the mesh has no answer to, on behalf of one pod: from the hosts file, from what was answered before, else
 * from name servers. The same question asked again meanwhile waits for the first.
 */
import { parseIp } from "../../mesh/ip.ts";
import type { SocketAddress } from "../../platform/sockaddr.ts";
import { isIpv6 } from "../../platform/sockaddr.ts";
import { addressRecord, CLASS_IN, lowerName, type Message, TYPE } from "../../protocol/dns/mod.ts";
import { type Answer, AnswerCache, type CacheBudget, MAX_CACHED_ANSWERS } from "./answer_cache.ts";
import { Exchange, type ExchangeEnvironment, type ExchangeHandler, type UpstreamQuestion } from "./exchange.ts";
import type { SystemFiles } from "./system_files.ts";

/** Somebody waiting for an answer. Called once. */
export interface ForwardWaiter {
  forwarded(answer: Answer): void;
  forwardFailed(reason: string): void;
}

export interface ForwarderOptions extends ExchangeEnvironment {
  readonly files: SystemFiles;
  readonly budget: CacheBudget;
  /** Undefined: a pod's share. */
  readonly maxCacheBytes?: number;
  /** Of what the hosts file says, which has no lifetime of its own. */
  readonly hostsTtlSeconds: number;
}

/** A failed name server is not asked the same again for this long (RFC 9520 section 3.2: at least one second). */
const FAILURE_MS = 1_000;
const MAX_FAILURES = 256;

interface Waiting {
  readonly exchange: Exchange;
  readonly waiters: ForwardWaiter[];
}

export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #cache: AnswerCache;
  readonly #waiting = new Map<string, Waiting>();
  readonly #failures = new Map<string, { readonly untilMs: number; readonly reason: string }>();

  constructor(options: ForwarderOptions) {
    this.#options = options;
    this.#cache = new AnswerCache(options.budget, MAX_CACHED_ANSWERS, options.maxCacheBytes);
  }

  /** Questions on their way to name servers. */
  get inFlight(): number {
    return this.#waiting.size;
  }

  /** What is known without asking anybody. */
  known(question: UpstreamQuestion, servers: readonly SocketAddress[]): Answer | undefined {
    return this.#fromHosts(question) ?? this.#cache.get(keyOf(question, servers), this.#options.io.reactor.nowMs);
  }

  /** Asks. The waiter may be called from here. */
  ask(question: UpstreamQuestion, servers: readonly SocketAddress[], waiter: ForwardWaiter): void {
    const key = keyOf(question, servers);
    const failure = this.#failures.get(key);
    if (failure !== undefined && this.#options.io.reactor.nowMs < failure.untilMs) {
      return waiter.forwardFailed(failure.reason);
    }
    const known = this.#waiting.get(key);
    if (known !== undefined) {
      known.waiters.push(waiter);
      return;
    }
    const handler: ExchangeHandler = {
      exchanged: (message) => this.#answered(key, message),
      exchangeFailed: (reason) => this.#failed(key, reason),
    };
    const exchange = new Exchange(this.#options, question, servers, handler);
    this.#waiting.set(key, { exchange, waiters: [waiter] });
    exchange.start();
  }

  /** Drops everything; nobody is told. */
  close(): void {
    for (const { exchange } of this.#waiting.values()) exchange.cancel();
    this.#waiting.clear();
    this.#failures.clear();
    this.#cache.clear();
  }

  #answered(key: string, { rcode, authenticData, answers, authorities, additionals }: Message): void {
    const answer: Answer = { rcode, authenticData, answers, authorities, additionals };
    this.#cache.put(key, answer, this.#options.io.reactor.nowMs);
    for (const waiter of this.#take(key)) waiter.forwarded(answer);
  }

  #failed(key: string, reason: string): void {
    if (this.#failures.size >= MAX_FAILURES) this.#failures.clear();
    this.#failures.set(key, { untilMs: this.#options.io.reactor.nowMs + FAILURE_MS, reason });
    for (const waiter of this.#take(key)) waiter.forwardFailed(reason);
  }

  #take(key: string): readonly ForwardWaiter[] {
    const waiting = this.#waiting.get(key);
    this.#waiting.delete(key);
    return waiting?.waiters ?? [];
  }

  /** Only addresses stand there; a name that has none of the wanted kind is asked for elsewhere. */
  #fromHosts({ name, type, class: klass }: UpstreamQuestion): Answer | undefined {
    if (klass !== CLASS_IN || (type !== TYPE.A && type !== TYPE.AAAA)) return undefined;
    const addresses = this.#options.files.hosts.get(lowerName(name))?.filter((ip) =>
      isIpv6(ip) === (type === TYPE.AAAA)
    );
    if (addresses === undefined || addresses.length === 0) return undefined;
    const answers = addresses.map((ip) => addressRecord(name, parseIp(ip)!, this.#options.hostsTtlSeconds));
    return { rcode: 0, authenticData: false, answers, authorities: [], additionals: [] };
  }
}

function keyOf(question: UpstreamQuestion, servers: readonly SocketAddress[]): string {
  const flags = (question.recursionDesired ? 1 : 0) | (question.checkingDisabled ? 2 : 0) |
    (question.authenticData ? 4 : 0) | (question.dnssecOk ? 8 : 0);
  const from = servers.map(({ ip, port }) => `${ip}#${port}`).join(",");
  return `${from}|${flags}|${question.type}|${question.class}|${lowerName(question.name)}`;
}
