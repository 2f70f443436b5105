/**
 * Which log lines are wanted: `RUST_LOG` directives as Istio's ztunnel takes them, for all
 * (`info`) or by target prefix (`access=debug`), the longest matching target deciding.
 *
 * A filter is immutable; the log swaps it at run time.
 */

export type Level = "error" | "warn" | "info" | "debug" | "trace";

/** Severity as a number; a line is wanted when its rank is at most the directive's. */
export const LEVEL_RANK = { off: 0, error: 1, warn: 2, info: 3, debug: 4, trace: 5 } as const;

export type LevelOrOff = keyof typeof LEVEL_RANK;

export interface LogDirective {
  /** A prefix of targets; "" is every target. */
  readonly target: string;
  readonly level: LevelOrOff;
}

/** ztunnel silences its DNS library so; kept because tools read it back from `/logging`. */
const BUILT_IN = "hickory_server::server=off";

/** Longest text and most directives taken: both come from a request on the admin port. */
const MAX_TEXT = 4096;
const MAX_DIRECTIVES = 64;

/**
 * Reads a comma list of `level` and `target=level`. With `bareTargets` a word that is no level is a
 * target with everything on, as the variable allows and the admin endpoint does not. The admin endpoint takes
 * `target:level` instead, and istioctl's words for levels, because that is what istioctl sends.
 * @throws Error completing "…: must be …".
 */
export function parseLogDirectives(text: string, settings: { readonly bareTargets: boolean }): LogDirective[] {
  const problem = "must be levels (off, error, warn, info, debug, trace) or target=level, joined by commas";
  const parts = text.split(",").filter((part) => part !== "");
  if (text.length > MAX_TEXT || parts.length > MAX_DIRECTIVES || parts.length === 0) throw new Error(problem);
  return parts.map((part) => {
    const split = part.includes("=") || settings.bareTargets ? part.indexOf("=") : part.lastIndexOf(":");
    if (split < 0) {
      const level = readLevel(part, settings);
      if (level !== undefined) return { target: "", level };
      if (settings.bareTargets && isTarget(part)) return { target: part, level: "trace" };
      throw new Error(problem);
    }
    const target = part.slice(0, split);
    const level = readLevel(part.slice(split + 1), settings);
    if (level === undefined || !isTarget(target)) throw new Error(problem);
    return { target, level };
  });
}

/** What istioctl calls the levels that ztunnel calls otherwise. */
const ISTIOCTL_LEVELS: ReadonlyMap<string, LevelOrOff> = new Map([["warning", "warn"], ["critical", "error"]]);

function readLevel(text: string, settings: { readonly bareTargets: boolean }): LevelOrOff | undefined {
  const lower = text.toLowerCase();
  if (Object.hasOwn(LEVEL_RANK, lower)) return lower as LevelOrOff;
  return settings.bareTargets ? undefined : ISTIOCTL_LEVELS.get(lower);
}

function isTarget(text: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_:.-]*$/.test(text);
}

/** Targets cached per filter; they are constants of the code, so this is only a bound. */
const MAX_CACHED_TARGETS = 1024;

export class LogFilter {
  /** As `/logging` shows it: the most specific directive first. */
  readonly text: string;
  /** The most talkative level of any directive: a cheap first check. */
  readonly maxRank: number;
  readonly #directives: readonly LogDirective[];
  readonly #cache = new Map<string, number>();

  private constructor(directives: readonly LogDirective[]) {
    this.#directives = [...directives].sort((a, b) => b.target.length - a.target.length);
    this.text = this.#directives.map((d) => d.target === "" ? d.level : `${d.target}=${d.level}`).join(",");
    this.maxRank = Math.max(0, ...directives.map((d) => LEVEL_RANK[d.level]));
  }

  /** @throws Error completing "…: must be …". */
  static parse(text: string, settings: { readonly bareTargets: boolean } = { bareTargets: true }): LogFilter {
    return LogFilter.#of(parseLogDirectives(`${BUILT_IN},${text}`, settings));
  }

  /**
   * This filter with more directives, a later one replacing an earlier one of the same target.
   * @throws Error completing "…: must be …".
   */
  with(text: string): LogFilter {
    return LogFilter.#of([...this.#directives, ...parseLogDirectives(text, { bareTargets: false })]);
  }

  static #of(directives: readonly LogDirective[]): LogFilter {
    return new LogFilter([...new Map(directives.map((d) => [d.target, d])).values()]);
  }

  /** Highest rank wanted of `target`. */
  rankOf(target: string): number {
    const cached = this.#cache.get(target);
    if (cached !== undefined) return cached;
    const directive = this.#directives.find((d) => target.startsWith(d.target));
    const rank = directive === undefined ? LEVEL_RANK.off : LEVEL_RANK[directive.level];
    if (this.#cache.size < MAX_CACHED_TARGETS) this.#cache.set(target, rank);
    return rank;
  }
}
