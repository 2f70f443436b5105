/**
 * Answers the questions of workers on the main thread: by DNS, which says how long an answer is good for, and else as the operating system resolves names
 * (hosts file, search domains). Identical questions that come while one is under way share its answer.
 */
import { promises as dns } from "node:dns";
import type { DnsAddress, DnsAnswer, DnsFamily } from "./resolver.ts";

/** How names are asked for; a test brings its own. */
export interface NameService {
  /** @throws an error with a code when there is no answer */
  query(host: string, version: 4 | 6): Promise<readonly DnsAddress[]>;
  lookup(host: string, version: 4 | 6): Promise<readonly string[]>;
}

/** Of an answer that does not say: the hosts file may change, too. */
const UNKNOWN_TTL_SECONDS = 30;
/** A name server in the cluster has answered by then; where none does, runtimes go on asking it for half a minute, and the hosts file waits. */
const QUERY_MS = 250;
/** Envoy's dns_query_timeout. */
const ANSWER_MS = 5_000;

type Schedule = (task: () => void, delayMs: number) => () => void;

export class NodeResolver {
  readonly #names: NameService;
  readonly #schedule: Schedule;
  readonly #running = new Map<string, Promise<DnsAnswer>>();

  constructor(names: NameService = SYSTEM, schedule: Schedule = byTimer) {
    this.#names = names;
    this.#schedule = schedule;
  }

  /** Never rejects. */
  answer(host: string, family: DnsFamily): Promise<DnsAnswer> {
    const key = `${family} ${host}`;
    const known = this.#running.get(key);
    if (known !== undefined) return known;
    const running = this.#ask(host, family).finally(() => this.#running.delete(key));
    this.#running.set(key, running);
    return running;
  }

  async #ask(host: string, family: DnsFamily): Promise<DnsAnswer> {
    try {
      const [six, four] = await Promise.all([
        family === "v4" ? NONE : this.#addresses(host, 6),
        family === "v6" ? NONE : this.#addresses(host, 4),
      ]);
      const answers = [six, four];
      if (family === "v4 preferred") answers.reverse();
      const found = answers.filter(({ addresses }) => addresses.length > 0);
      if (found.length === 0) {
        const failure = answers.find(({ failure }) => failure !== "")?.failure;
        return failure === undefined ? { addresses: [] } : { failure: `${host}: ${failure}` };
      }
      return { addresses: family === "all" ? found.flatMap(({ addresses }) => addresses) : found[0].addresses };
    } catch (error) {
      return { failure: `${host}: ${describe(error)}` };
    }
  }

  /** DNS is asked first, because it says how long its answer is good for; the system when that fails, or takes too long. */
  #addresses(host: string, version: 4 | 6): Promise<Found> {
    return new Promise((resolve) => {
      let pending = 1;
      let isAsked = false;
      let failure = "";
      const finish = (found: Found) => {
        cancelWait();
        cancelLimit();
        resolve(found);
      };
      const lost = () => {
        if (--pending === 0) finish({ addresses: [], failure });
      };
      const askSystem = () => {
        if (isAsked) return;
        isAsked = true;
        pending++;
        this.#names.lookup(host, version).then((ips) => {
          const addresses = ips.map((ip) => ({ ip, ttlSeconds: UNKNOWN_TTL_SECONDS }));
          finish({ addresses, failure: "" });
        }, (error) => {
          // The one to tell: it is what everything else in the pod would see.
          failure = describe(error);
          lost();
        });
      };
      const cancelWait = this.#schedule(askSystem, QUERY_MS);
      const cancelLimit = this.#schedule(() => {
        finish({ addresses: [], failure: failure === "" ? CODES["ETIMEOUT"]! : failure });
      }, ANSWER_MS);
      const failed = () => {
        askSystem();
        lost();
      };
      this.#names.query(host, version).then(
        (addresses) => addresses.length > 0 ? finish({ addresses, failure: "" }) : failed(),
        failed,
      );
    });
  }
}

function byTimer(task: () => void, delayMs: number): () => void {
  const timer = setTimeout(task, delayMs);
  return () => clearTimeout(timer);
}

interface Found {
  readonly addresses: readonly DnsAddress[];
  readonly failure: string;
}

const NONE: Found = { addresses: [], failure: "" };

const SYSTEM: NameService = {
  async query(host, version) {
    const answers: readonly unknown[] = version === 4
      ? await dns.resolve4(host, { ttl: true })
      : await dns.resolve6(host, { ttl: true });
    return answers.map(toAddress);
  },
  async lookup(host, version) {
    return (await dns.lookup(host, { all: true, family: version })).map(({ address }) => address);
  },
};

/** Not every runtime tells how long an answer is good for. */
function toAddress(answer: unknown): DnsAddress {
  if (typeof answer === "string") return { ip: answer, ttlSeconds: UNKNOWN_TTL_SECONDS };
  const { address, ttl } = answer as { readonly address: string; readonly ttl?: number };
  return { ip: address, ttlSeconds: ttl ?? UNKNOWN_TTL_SECONDS };
}

const CODES: Readonly<Record<string, string>> = {
  ENOTFOUND: "no such name",
  ENODATA: "no such name",
  EAI_AGAIN: "the name server does not answer",
  ETIMEOUT: "the name server does not answer",
  ECONNREFUSED: "the name server does not answer",
};

function describe(error: unknown): string {
  const code = (error as { readonly code?: string } | undefined)?.code;
  return (code === undefined ? undefined : CODES[code]) ?? code ?? String(error);
}
