/**
 * Requests go to the host they name (dynamic forward proxy, waypoint.md 3.9): resolved when it is asked for, only below the wildcard that the
 * ServiceEntry allows, on the service's own port. Names come from clients: how many are kept and looked up is bounded.
 */
import type { DiscoverySpec } from "../../spec/mod.ts";
import { hostOf } from "../authority.ts";
import { dnsFailure } from "../failures.ts";
import type { Host } from "../host.ts";
import type { DnsAddress, DnsAnswer } from "../resolver.ts";
import type { PickRequest, Wait } from "../upstream.ts";
import { AddressHosts } from "./address_hosts.ts";
import type { Discovery, DiscoveryHome, HostChosen } from "./discovery.ts";
import { isAddress } from "./dns.ts";

type ForwardSpec = Extract<DiscoverySpec, { readonly kind: "dynamic forward" }>;

/** Envoy's: max_hosts 1,024, an answer refreshed after 60 s where it says nothing, a failure not asked again at once. */
const MAX_NAMES = 1024;
const MAX_AGE_MS = 60_000;
const MIN_AGE_MS = 1_000;
const FAILURE_AGE_MS = 5_000;
/** RFC 1035 section 2.3.4. */
const MAX_NAME_LENGTH = 253;
const ANSWERED: Wait = { cancel() {} };

interface Entry {
  readonly name: string;
  addresses: readonly DnsAddress[];
  failure: string;
  /** Until then the answer is as good as new; 0: there is none yet. */
  freshUntilMs: number;
  lastUsedMs: number;
  question: Wait | undefined;
  readonly waiting: Set<() => void>;
}

export class DynamicForward implements Discovery {
  readonly asynchronous = { choose: (request: PickRequest, chosen: HostChosen): Wait => this.#choose(request, chosen) };
  readonly #home: DiscoveryHome;
  readonly #spec: ForwardSpec;
  readonly #hosts: AddressHosts;
  readonly #entries = new Map<string, Entry>();

  constructor(home: DiscoveryHome, spec: ForwardSpec) {
    this.#home = home;
    this.#spec = spec;
    this.#hosts = new AddressHosts(home, MAX_NAMES);
  }

  start(): void {}

  stop(): void {
    this.#hosts.stop();
    for (const entry of [...this.#entries.values()]) {
      entry.question?.cancel();
      if (entry.waiting.size > 0) this.#answered(entry, { failure: `${entry.name}: its cluster is gone` });
    }
  }

  hosts(): Iterable<Host> {
    return this.#hosts.all();
  }

  #choose(request: PickRequest, chosen: HostChosen): Wait {
    const name = hostOf(request.authority);
    const { port } = request.connection.destination;
    if (!isBelow(name, this.#spec.wildcard)) {
      chosen(undefined, dnsFailure(`${name || "a request without a host"} is not below ${this.#spec.wildcard}`));
      return ANSWERED;
    }
    const entry = this.#entry(name);
    if (entry === undefined) {
      chosen(undefined, dnsFailure(`${name}: too many names are in use`));
      return ANSWERED;
    }
    const { nowMs } = this.#home.means.timing;
    entry.lastUsedMs = nowMs;
    if (nowMs >= entry.freshUntilMs && entry.question === undefined) this.#ask(entry);
    // Known addresses serve while they are asked for again.
    if (entry.addresses.length > 0 || entry.question === undefined) {
      this.#answer(entry, port, chosen);
      return ANSWERED;
    }
    const waiter = (): void => this.#answer(entry, port, chosen);
    entry.waiting.add(waiter);
    return { cancel: () => void entry.waiting.delete(waiter) };
  }

  #answer(entry: Entry, port: number, chosen: HostChosen): void {
    const [first, ...others] = entry.addresses;
    if (first === undefined) return chosen(undefined, dnsFailure(entry.failure));
    const id = `${entry.name}:${port}`;
    const reach = {
      kind: "direct",
      host: first.ip,
      port,
      others: others.map(({ ip }) => ({ host: ip, port })),
    } as const;
    const host = this.#hosts.get(id, entry.name, () => reach);
    if (host === undefined) return chosen(undefined, dnsFailure(`${entry.name}: too many hosts are in use`));
    const { reach: before } = host.endpoint;
    if (before.kind === "direct" && before.host !== first.ip) host.move({ ...host.endpoint, reach });
    chosen(host, undefined);
  }

  #ask(entry: Entry): void {
    const { counters, means } = this.#home;
    counters.update_attempt++;
    entry.question = means.resolver.resolve(entry.name, this.#spec.family, (answer) => this.#answered(entry, answer));
  }

  #answered(entry: Entry, answer: DnsAnswer): void {
    entry.question = undefined;
    const { counters, means } = this.#home;
    const { nowMs } = means.timing;
    if ("failure" in answer || answer.addresses.length === 0) {
      counters.update_failure++;
      entry.failure = "failure" in answer ? answer.failure : `${entry.name} has no address`;
      entry.freshUntilMs = nowMs + FAILURE_AGE_MS;
      // A name that is gone must not be served for ever from memory.
      if (!("failure" in answer)) entry.addresses = [];
    } else {
      counters.update_success++;
      entry.addresses = answer.addresses;
      const ttlMs = Math.min(...answer.addresses.map(({ ttlSeconds }) => ttlSeconds)) * 1000;
      entry.freshUntilMs = nowMs + Math.max(MIN_AGE_MS, Math.min(MAX_AGE_MS, ttlMs));
    }
    const waiting = [...entry.waiting];
    entry.waiting.clear();
    for (const waiter of waiting) waiter();
  }

  #entry(name: string): Entry | undefined {
    const known = this.#entries.get(name);
    if (known !== undefined) return known;
    if (this.#entries.size >= MAX_NAMES && !this.#makeRoom()) return undefined;
    const entry: Entry = {
      name,
      addresses: [],
      failure: `${name} was not resolved`,
      freshUntilMs: 0,
      lastUsedMs: 0,
      question: undefined,
      waiting: new Set(),
    };
    this.#entries.set(name, entry);
    return entry;
  }

  #makeRoom(): boolean {
    let oldest: Entry | undefined;
    for (const entry of this.#entries.values()) {
      if (entry.waiting.size > 0 || (oldest !== undefined && entry.lastUsedMs >= oldest.lastUsedMs)) continue;
      oldest = entry;
    }
    if (oldest === undefined) return false;
    oldest.question?.cancel();
    return this.#entries.delete(oldest.name);
  }
}

/** `*.example.com` holds `a.example.com` and `a.b.example.com`, and neither `example.com` nor an address. A name without a star is itself alone. */
export function isBelow(name: string, wildcard: string): boolean {
  if (name === "" || name.length > MAX_NAME_LENGTH || !/^[a-z0-9._-]+$/.test(name) || isAddress(name)) return false;
  const allowed = wildcard.toLowerCase();
  if (allowed === "*") return true;
  if (!allowed.startsWith("*.")) return name === allowed;
  const suffix = allowed.slice(1);
  return name.length > suffix.length && name.endsWith(suffix) && !name.startsWith(".");
}
