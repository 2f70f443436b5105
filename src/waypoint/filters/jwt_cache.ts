/** A worker's memory of tokens that the main thread has judged: most requests bring a token that came a moment ago. */
import type { TokenVerdict, TokenVerifier } from "./jwt_verdict.ts";

/** Asks the main thread; it answers once, from another turn. */
export type AskVerdict = (provider: string, token: string, done: (verdict: TokenVerdict) => void) => void;

const MAX_TOKENS = 1000;
/** Longer ones are judged each time: they would fill memory. */
const MAX_TOKEN_LENGTH = 4096;
/** A verdict about keys that may be other ones by now. */
const GOOD_FOR_MS = 5 * 60_000;

interface Kept {
  readonly verdict: TokenVerdict;
  readonly atMs: number;
}

/** `nowMs`: monotonic. `forget` when the keys of a provider change. */
export function createVerdictCache(
  ask: AskVerdict,
  nowMs: () => number,
): TokenVerifier & { forget(provider: string): void } {
  const kept = new Map<string, Kept>();
  const waiting = new Map<string, ((verdict: TokenVerdict) => void)[]>();
  return {
    verify(provider, token, done): void {
      const key = `${provider}\n${token}`;
      const known = kept.get(key);
      if (known !== undefined && nowMs() - known.atMs < GOOD_FOR_MS) return done(known.verdict);
      const others = waiting.get(key);
      if (others !== undefined) return void others.push(done);
      waiting.set(key, [done]);
      ask(provider, token, (verdict) => {
        const all = waiting.get(key) ?? [];
        waiting.delete(key);
        // A failure may be of the moment, as when keys could not be had.
        if (verdict.ok && token.length <= MAX_TOKEN_LENGTH) {
          if (kept.size >= MAX_TOKENS) kept.clear();
          kept.set(key, { verdict, atMs: nowMs() });
        }
        for (const each of all) each(verdict);
      });
    },
    forget(provider): void {
      for (const key of [...kept.keys()]) if (key.startsWith(`${provider}\n`)) kept.delete(key);
    },
  };
}
