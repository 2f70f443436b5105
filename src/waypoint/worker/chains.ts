/**
 * The chains in force in this worker, and who is served by each. A chain is compiled once, when it comes.
 *
 * A change of a chain is in force for the next request also on connections that are open: a policy that was taken back decides nothing any more.
 * Connections end early only where the change is one of how they are spoken.
 */
import { type CompiledHttpChain, compileHttpChain } from "../engine/compiled_chain.ts";
import type { HttpFilter, NetworkFilter } from "../engine/request_context.ts";
import type { EngineServices } from "../engine/services.ts";
import { createFilters, createNetworkFilters, type FilterDeps } from "../filters/factory.ts";
import { Timer } from "../../net/reactor.ts";
import { DEPARTED_MS } from "./directory.ts";
import type { Timing } from "../http/timing.ts";
import type { ChainName, ChainSpec, HttpChainSpec, RuleSpec, TcpChainSpec } from "../spec/mod.ts";

export type CompiledChain =
  | { readonly kind: "http"; readonly http: CompiledHttpChain; /** Equal: spoken alike. */ readonly codec: string }
  | {
    readonly kind: "tcp";
    readonly spec: TcpChainSpec;
    readonly filters: readonly NetworkFilter[];
    /** The client's hello is waited for: a policy, or the way, depends on it. */
    readonly needsServerName: boolean;
  }
  | { readonly kind: "refused"; readonly http: boolean; readonly reason: string };

/** A connection that a chain serves. */
export interface ChainSession {
  /** `chain.current` is another one now. */
  chainChanged(): void;
  /** Takes no new requests, and ends when those under way have. */
  drain(): void;
  close(reason: string): void;
}

export class Chain {
  readonly sessions = new Set<ChainSession>();
  /** Also of connections that come now: what came in just before the drain, or through a tunnel that does not know of it yet. */
  draining = false;

  constructor(readonly name: ChainName, public current: CompiledChain) {}
}

function drain(chain: Chain): void {
  chain.draining = true;
  for (const session of [...chain.sessions]) session.drain();
}

export interface ChainsOptions {
  readonly services: EngineServices;
  readonly filters: FilterDeps;
  /** Runs before all others; undefined: there is nothing to run. */
  readonly firstFilter?: (spec: HttpChainSpec) => HttpFilter | undefined;
  readonly timing: Timing;
  readonly drainMs: number;
  /** A chain cannot be compiled: it is refused, and this says why. */
  readonly refused: (name: ChainName, reason: string) => void;
}

export class Chains {
  readonly #options: ChainsOptions;
  readonly #chains = new Map<ChainName, Chain>();
  readonly #departed = new Map<ChainName, Chain>();
  #draining = false;

  constructor(options: ChainsOptions) {
    this.#options = options;
  }

  /** One that was removed serves for a moment longer, each connection once. */
  get(name: ChainName): Chain | undefined {
    return this.#chains.get(name) ?? this.#departed.get(name);
  }

  isDeparted(name: ChainName): boolean {
    return this.#departed.has(name) && !this.#chains.has(name);
  }

  apply(changed: readonly ChainSpec[], removed: readonly ChainName[]): void {
    for (const name of removed) this.#remove(name);
    for (const spec of changed) {
      const compiled = this.#compile(spec);
      const known = this.#chains.get(spec.name);
      if (known === undefined) {
        const chain = new Chain(spec.name, compiled);
        chain.draining = this.#draining;
        this.#chains.set(spec.name, chain);
        continue;
      }
      known.current = compiled;
      for (const session of [...known.sessions]) session.chainChanged();
    }
  }

  /** Chains that are refused, with why. */
  get refusals(): Readonly<Record<string, string>> {
    const reasons: Record<string, string> = {};
    for (const { name, current } of this.#chains.values()) {
      if (current.kind === "refused") reasons[name] = current.reason;
    }
    return reasons;
  }

  get sessions(): number {
    let count = 0;
    for (const chain of this.#chains.values()) count += chain.sessions.size;
    return count;
  }

  drain(): void {
    this.#draining = true;
    for (const chain of this.#chains.values()) drain(chain);
  }

  #remove(name: ChainName): void {
    const chain = this.#chains.get(name);
    if (chain === undefined) return;
    this.#chains.delete(name);
    drain(chain);
    this.#departed.set(name, chain);
    const { timing, drainMs } = this.#options;
    timing.setTimer(
      new Timer({
        expired: () => {
          if (this.#departed.get(name) === chain) this.#departed.delete(name);
        },
      }),
      Math.min(DEPARTED_MS, drainMs),
    );
    timing.setTimer(
      new Timer({
        expired: () => {
          for (const session of [...chain.sessions]) session.close("its service is gone");
        },
      }),
      drainMs,
    );
  }

  #compile(spec: ChainSpec): CompiledChain {
    const { services, filters } = this.#options;
    try {
      switch (spec.kind) {
        case "http":
          return {
            kind: "http",
            http: compileHttpChain(spec, services, (chain) => {
              const first = this.#options.firstFilter?.(chain);
              const others = createFilters(chain, filters);
              return first === undefined ? others : [first, ...others];
            }),
            codec: codecOf(spec),
          };
        case "tcp":
          return {
            kind: "tcp",
            spec,
            filters: createNetworkFilters(spec, filters),
            needsServerName: spec.sniForward !== undefined || asksForServerName(spec),
          };
        case "refused":
          return { kind: "refused", http: spec.http, reason: spec.reason };
      }
    } catch (error) {
      const reason = (error as Error).message;
      this.#options.refused(spec.name, reason);
      return { kind: "refused", http: spec.kind === "http", reason };
    }
  }
}

/** A rule of its policies is about the SNI. */
function asksForServerName({ rbac }: TcpChainSpec): boolean {
  const asks = (rule: RuleSpec): boolean => {
    switch (rule.kind) {
      case "sni":
        return true;
      case "and":
      case "or":
        return rule.of.some(asks);
      case "not":
        return asks(rule.of);
      default:
        return false;
    }
  };
  return rbac.some(({ rules, shadow }) =>
    [rules, shadow].some((each) =>
      each?.policies.some(({ principals, permissions }) => asks(principals) || asks(permissions))
    )
  );
}

/** Everything that a session is made with. */
function codecOf({ options }: HttpChainSpec): string {
  return JSON.stringify([
    options.serverName,
    options.acceptHttp10,
    options.preserveHeaderCase,
    options.maxRequestHeadersKb,
    options.maxHeaders,
    options.upgrades,
    options.idleTimeoutMs,
    options.requestHeadersTimeoutMs,
    options.maxConnectionMs,
  ]);
}
