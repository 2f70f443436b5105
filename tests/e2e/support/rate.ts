/** New connections at a steady rate: each a short request and its answer. */
import { NetworkError } from "./errors.ts";
import type { Server } from "./lab.ts";
import type { TestPod } from "./mesh.ts";
import type { Peer } from "./peer.ts";

const REQUEST = "ping";
const ANSWER = "pong from the application";
/** A connection that is held back, in a queue or by a proxy, is not lost. */
const PATIENCE_MS = 20_000;

/** Answers every request, then ends the connection. */
export function servePong(pod: Pick<TestPod, "listen">, port: number): Server {
  const answer = async (peer: Peer) => {
    await peer.read(REQUEST.length, PATIENCE_MS);
    peer.write(ANSWER);
    peer.finish();
    await peer.ended(PATIENCE_MS);
    peer.close();
  };
  return pod.listen(port, (peer) => void answer(peer).catch(() => peer.close()));
}

/** A machine that is busy with something else gets no flood afterwards, and no more connections than it has begun to serve. */
const MAX_BURST = 20;
const MAX_OPEN = 200;

export class Rate {
  started = 0;
  completed = 0;
  /** What went wrong, with the time since the start. */
  readonly failures: string[] = [];
  /** From the connect to the whole answer. */
  slowestMs = 0;
  readonly #startMs = performance.now();
  readonly #open: () => Promise<Peer>;
  readonly #perSecond: number;
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #running = new Set<Promise<void>>();
  #due = 0;
  #lastMs = performance.now();

  constructor(perSecond: number, open: () => Promise<Peer>) {
    this.#perSecond = perSecond;
    this.#open = open;
    this.#timer = setInterval(() => this.#catchUp(), 2);
  }

  /** Connections begun in each second so far. */
  get rate(): number {
    return this.started * 1000 / (performance.now() - this.#startMs);
  }

  /** Begins no more, and waits for the rest. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#running);
  }

  #catchUp(): void {
    const nowMs = performance.now();
    this.#due = Math.min(this.#due + (nowMs - this.#lastMs) * this.#perSecond / 1000, MAX_BURST);
    this.#lastMs = nowMs;
    for (; this.#due >= 1 && this.#running.size < MAX_OPEN; this.#due--) {
      this.started++;
      const one = this.#one().finally(() => this.#running.delete(one));
      this.#running.add(one);
    }
  }

  async #one(): Promise<void> {
    const startMs = performance.now();
    const fail = (what: string) => this.failures.push(`${Math.round(startMs - this.#startMs)} ms: ${what}`);
    let peer: Peer;
    try {
      peer = await this.#open();
    } catch (error) {
      fail(error instanceof NetworkError ? error.message : String(error));
      return;
    }
    peer.write(REQUEST);
    try {
      const { text, end } = await peer.readToEnd(PATIENCE_MS);
      if (text === ANSWER && end === "eof") this.completed++;
      else fail(`"${text}", then ${end}`);
    } catch (error) {
      fail((error as Error).message);
    }
    this.slowestMs = Math.max(this.slowestMs, performance.now() - startMs);
    peer.close();
  }
}
