/**
 * Mutational fuzzing for parsers: a seeded random source, mutators, a corpus from files, and a loop with a time limit.
 *
 * A target throws when an invariant breaks. The error then carries the input and the seed, so that it can be
 * replayed, and the input can be kept in the corpus.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** A small seeded generator (mulberry32): the same seed gives the same run. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 32 random bits. */
  next(): number {
    this.#state = this.#state + 0x6d2b79f5 >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ mixed >>> 15, mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61);
    return (mixed ^ mixed >>> 14) >>> 0;
  }

  /** An integer from 0 to `limit` - 1. */
  below(limit: number): number {
    return limit <= 1 ? 0 : this.next() % limit;
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  bytes(length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (let i = 0; i < length; i++) out[i] = this.next();
    return out;
  }
}

export interface FuzzTask {
  readonly name: string;
  /** Directory of seed inputs, one per file; every file in it is also run unchanged first. */
  readonly corpusDir: string;
  readonly seconds: number;
  readonly seed: number;
  /** Longest input to make. Default 8,192 bytes. */
  readonly maxBytes?: number;
  /** Throws when an invariant breaks. `random` makes further choices and is seeded per run. */
  target(bytes: Uint8Array, random: Random): void;
}

export interface FuzzReport {
  readonly runs: number;
  readonly corpusFiles: number;
}

const DEFAULT_MAX_BYTES = 8192;
const RUNS_PER_CLOCK_READ = 32;
/** Bytes of a failing input that go into the message. */
const SHOWN_BYTES = 4096;

/** Files of a corpus directory, by name. Throws when there are none: a fuzz run without seeds finds nothing. */
export function loadCorpus(dir: string): Uint8Array[] {
  const names = readdirSync(dir).filter((name) => !name.startsWith(".")).sort();
  if (names.length === 0) throw new Error(`no fuzz corpus in ${dir}`);
  return names.map((name) => new Uint8Array(readFileSync(join(dir, name))));
}

/** Runs the target on the corpus, then on mutations of it until the time is up. */
export function runFuzz(task: FuzzTask): FuzzReport {
  const corpus = loadCorpus(task.corpusDir);
  const random = new Random(task.seed);
  const endMs = performance.now() + task.seconds * 1000;
  let runs = 0;
  for (const input of corpus) runOne(task, input, random.next(), runs++);
  while (runs % RUNS_PER_CLOCK_READ !== 0 || performance.now() < endMs) {
    const input = mutate(corpus, random, task.maxBytes ?? DEFAULT_MAX_BYTES);
    runOne(task, input, random.next(), runs++);
  }
  return { runs, corpusFiles: corpus.length };
}

function runOne(task: FuzzTask, input: Uint8Array, seed: number, run: number): void {
  try {
    task.target(input, new Random(seed));
  } catch (cause) {
    const hex = Array.from(input.subarray(0, SHOWN_BYTES), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`fuzz ${task.name}: ${what}; run ${run} of seed ${task.seed}, target seed ${seed}, input ${hex}`, {
      cause,
    });
  }
}

/** Values at which parsers go wrong. */
const INTERESTING = [0, 1, 2, 4, 5, 8, 9, 0x0d, 0x0a, 0x1f, 0x20, 0x3f, 0x40, 0x7e, 0x7f, 0x80, 0x81, 0xc0, 0xfe, 0xff];
const MAX_STEPS = 8;
const MAX_RUN = 64;

/** A new input: a corpus entry (or, rarely, noise) changed in up to eight ways. */
export function mutate(corpus: readonly Uint8Array[], random: Random, maxBytes: number): Uint8Array {
  let bytes = random.oneIn(64) ? random.bytes(random.below(256)) : corpus[random.below(corpus.length)].slice();
  const steps = 1 + random.below(MAX_STEPS);
  for (let i = 0; i < steps; i++) bytes = mutateOnce(bytes, corpus, random);
  return bytes.length > maxBytes ? bytes.slice(0, maxBytes) : bytes;
}

function mutateOnce(bytes: Uint8Array, corpus: readonly Uint8Array[], random: Random): Uint8Array {
  const at = random.below(bytes.length + 1);
  const run = Math.min(1 + random.below(MAX_RUN), bytes.length - at);
  switch (random.below(9)) {
    case 0:
      if (at < bytes.length) bytes[at] ^= 1 << random.below(8);
      return bytes;
    case 1:
      if (at < bytes.length) bytes[at] = random.next();
      return bytes;
    case 2:
      if (at < bytes.length) bytes[at] = INTERESTING[random.below(INTERESTING.length)];
      return bytes;
    case 3:
      if (at < bytes.length) bytes[at] += random.oneIn(2) ? 1 : 255;
      return bytes;
    case 4:
      return joined(bytes.subarray(0, at), random.bytes(1 + random.below(8)), bytes.subarray(at));
    case 5:
      return joined(bytes.subarray(0, at), bytes.subarray(at + run));
    case 6:
      return joined(bytes.subarray(0, at + run), bytes.subarray(at));
    case 7: {
      const other = corpus[random.below(corpus.length)];
      const from = random.below(other.length + 1);
      return joined(bytes.subarray(0, at), other.subarray(from, from + random.below(4 * MAX_RUN)), bytes.subarray(at));
    }
    default:
      return random.oneIn(4) ? bytes.slice(0, at) : joined(bytes, corpus[random.below(corpus.length)]);
  }
}

function joined(...parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let pos = 0;
  for (const part of parts) {
    out.set(part, pos);
    pos += part.length;
  }
  return out;
}
