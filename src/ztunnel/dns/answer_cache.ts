/**
 * Answers of name servers, kept as long as they say (RFC 1035 section 3.2.1; RFC 2308 for names and types that do not exist). One per
 * pod, because each pod may have other name servers and may reach others. Bounded by entries, by bytes, and by what all pods of the
 * worker have together; what was not used for longest goes first. Sans-io: the caller tells the time.
 */
import { type ResourceRecord, soaMinimum, TYPE } from "../../protocol/dns/mod.ts";
import { RCODE } from "../../protocol/dns/constants.ts";

/** What a name server said, apart from what concerns the exchange with it. */
export interface Answer {
  readonly rcode: number;
  readonly authenticData: boolean;
  readonly answers: readonly ResourceRecord[];
  readonly authorities: readonly ResourceRecord[];
  readonly additionals: readonly ResourceRecord[];
}

/** ztunnel's. */
export const MAX_CACHED_ANSWERS = 8192;
/** Of one pod in one worker. */
const MAX_CACHED_BYTES = 1024 * 1024;
const MAX_TTL_SECONDS = 86_400;
/** RFC 2308 section 5 advises one to three hours. */
const MAX_NEGATIVE_TTL_SECONDS = 3 * 3600;
/** Objects around a record's name and data. */
const RECORD_OVERHEAD_BYTES = 160;
const ENTRY_OVERHEAD_BYTES = 200;

/** Bytes that the caches of all pods of a worker may have. */
export class CacheBudget {
  used = 0;
  constructor(readonly maxBytes: number) {}
}

interface Entry {
  readonly answer: Answer;
  readonly storedMs: number;
  readonly expiresMs: number;
  readonly bytes: number;
}

export class AnswerCache {
  readonly #budget: CacheBudget;
  readonly #maxEntries: number;
  readonly #maxBytes: number;
  /** In the order of their last use. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor(budget: CacheBudget, maxEntries = MAX_CACHED_ANSWERS, maxBytes = MAX_CACHED_BYTES) {
    this.#budget = budget;
    this.#maxEntries = maxEntries;
    this.#maxBytes = maxBytes;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The answer with its TTLs counted down. */
  get(key: string, nowMs: number): Answer | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    if (nowMs >= entry.expiresMs) {
      this.#account(-entry.bytes);
      return undefined;
    }
    this.#entries.set(key, entry);
    return aged(entry.answer, Math.floor((nowMs - entry.storedMs) / 1000));
  }

  /** Keeps an answer, if it may be kept. */
  put(key: string, answer: Answer, nowMs: number): void {
    const seconds = lifetimeSeconds(answer);
    const bytes = sizeOf(key, answer);
    this.#drop(key);
    if (seconds <= 0 || bytes > this.#maxBytes) return;
    const { maxBytes } = this.#budget;
    for (const oldest of this.#entries.keys()) {
      if (
        this.#entries.size < this.#maxEntries && this.#bytes + bytes <= this.#maxBytes &&
        this.#budget.used + bytes <= maxBytes
      ) break;
      this.#drop(oldest);
    }
    if (this.#budget.used + bytes > maxBytes) return;
    this.#account(bytes);
    this.#entries.set(key, { answer, storedMs: nowMs, expiresMs: nowMs + seconds * 1000, bytes });
  }

  /** Forgets everything, as when the pod is gone. */
  clear(): void {
    this.#entries.clear();
    this.#account(-this.#bytes);
  }

  #drop(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#account(-entry.bytes);
  }

  #account(bytes: number): void {
    this.#bytes += bytes;
    this.#budget.used += bytes;
  }
}

/** How long an answer holds; 0: it must be asked for anew. */
export function lifetimeSeconds({ rcode, answers, authorities, additionals }: Answer): number {
  if (rcode !== RCODE.NoError && rcode !== RCODE.NXDomain) return 0;
  let seconds = MAX_TTL_SECONDS;
  for (const section of [answers, authorities, additionals]) {
    for (const { ttl } of section) seconds = Math.min(seconds, ttl);
  }
  const positive = rcode === RCODE.NoError && answers.length > 0;
  const soa = authorities.find(({ type }) => type === TYPE.SOA);
  if (soa !== undefined) return Math.min(seconds, MAX_NEGATIVE_TTL_SECONDS, soaMinimum(soa) ?? 0);
  // That something is not there may be remembered only for as long as its zone says (RFC 2308 section 5).
  return positive ? seconds : 0;
}

function aged(answer: Answer, seconds: number): Answer {
  if (seconds === 0) return answer;
  const older = (records: readonly ResourceRecord[]) =>
    records.map((record) => ({ ...record, ttl: Math.max(0, record.ttl - seconds) }));
  return {
    ...answer,
    answers: older(answer.answers),
    authorities: older(answer.authorities),
    additionals: older(answer.additionals),
  };
}

function sizeOf(key: string, { answers, authorities, additionals }: Answer): number {
  let bytes = ENTRY_OVERHEAD_BYTES + key.length;
  for (const section of [answers, authorities, additionals]) {
    for (const { name, data } of section) bytes += RECORD_OVERHEAD_BYTES + name.length + data.length;
  }
  return bytes;
}
