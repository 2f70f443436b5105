/**
 * A worker's questions to the main thread about who signed a token. What is asked holds the provider's keys, so that the answer is about the policy in
 * force here; verdicts are kept by keys and token, and chains that trust the same keys share them.
 */
import type { JwtProviderSpec, JwtSpec } from "../spec/mod.ts";
import { createVerdictCache } from "./jwt_cache.ts";
import type { TokenVerdict, TokenVerifier } from "./jwt_verdict.ts";

export interface TokenQuestion {
  readonly id: number;
  readonly provider: JwtProviderSpec;
  readonly token: string;
}

/** Tokens come from clients: more of them at once are answered with a failure. */
const MAX_QUESTIONS = 1024;
/** Sets of keys that have a name here. Names of sets that are gone are given up now and then. */
const MAX_KEY_SETS = 1000;
const FAILED: TokenVerdict = { ok: false, failure: "Jwks remote fetch is failed" };

export class TokenQuestions {
  readonly #post: (question: TokenQuestion) => void;
  readonly #later: (work: () => void) => void;
  readonly #waiting = new Map<number, (verdict: TokenVerdict) => void>();
  readonly #cache: TokenVerifier;
  /** By the keys themselves. */
  readonly #names = new Map<string, string>();
  readonly #providers = new Map<string, JwtProviderSpec>();
  #nextName = 1;
  #nextId = 1;

  /** `later` runs something in a later turn of this thread; `nowMs` is monotonic. */
  constructor(post: (question: TokenQuestion) => void, later: (work: () => void) => void, nowMs: () => number) {
    this.#post = post;
    this.#later = later;
    this.#cache = createVerdictCache((name, token, done) => this.#ask(name, token, done), nowMs);
  }

  /** For the providers of one chain, whose names mean something in it alone. */
  verifier({ providers }: JwtSpec): TokenVerifier {
    const names = new Map(Object.entries(providers).map(([name, spec]) => [name, this.#nameOf(spec)]));
    return {
      verify: (provider, token, done) => {
        const name = names.get(provider);
        if (name === undefined) return this.#later(() => done(FAILED));
        // It may have been given up since.
        if (!this.#providers.has(name)) this.#providers.set(name, providers[provider]);
        this.#cache.verify(name, token, done);
      },
    };
  }

  received(id: number, verdict: TokenVerdict): void {
    const done = this.#waiting.get(id);
    this.#waiting.delete(id);
    done?.(verdict);
  }

  #nameOf(spec: JwtProviderSpec): string {
    const keys = JSON.stringify(spec.keys);
    let name = this.#names.get(keys);
    if (name === undefined) {
      if (this.#names.size >= MAX_KEY_SETS) {
        this.#names.clear();
        this.#providers.clear();
      }
      name = `keys ${this.#nextName++}`;
      this.#names.set(keys, name);
    }
    this.#providers.set(name, spec);
    return name;
  }

  #ask(name: string, token: string, done: (verdict: TokenVerdict) => void): void {
    const provider = this.#providers.get(name);
    if (provider === undefined || this.#waiting.size >= MAX_QUESTIONS) return this.#later(() => done(FAILED));
    const id = this.#nextId++;
    this.#waiting.set(id, done);
    this.#post({ id, provider, token });
  }
}
