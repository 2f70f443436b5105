/**
 * How many connections each worker has, in memory that all threads share. EPOLLEXCLUSIVE alone gives all of a quiet time's connections
 * to one worker, so one that has clearly more than its share gives new ones to another.
 *
 * A worker takes part from its first confirmation to its end: what is given to one that is not there would be refused.
 */
const WORDS = 2;
const COUNT = 0;
const UP = 1;
/** Above the even share, before anything is given away; a caller's slack comes on top. */
const TOLERANCE = 1.25;

export class WorkerLoad {
  readonly #words: Int32Array<SharedArrayBuffer>;

  /** Attaches to what another thread has created. */
  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  /** No worker is up. */
  static create(workers: number): WorkerLoad {
    return new WorkerLoad(new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT * workers));
  }

  get buffer(): SharedArrayBuffer {
    return this.#words.buffer;
  }

  get workers(): number {
    return this.#words.length / WORDS;
  }

  /** Connections of all workers. */
  get total(): number {
    let sum = 0;
    for (let worker = 0; worker < this.workers; worker++) sum += this.#read(worker, COUNT);
    return sum;
  }

  add(worker: number, change: number): void {
    Atomics.add(this.#words, worker * WORDS + COUNT, change);
  }

  /** It takes connections from now on. */
  up(worker: number): void {
    Atomics.store(this.#words, worker * WORDS + UP, 1);
  }

  /** It is gone, and its connections with it. */
  down(worker: number): void {
    Atomics.store(this.#words, worker * WORDS + UP, 0);
    Atomics.store(this.#words, worker * WORDS + COUNT, 0);
  }

  /** Who is to have the connection that `own` has just accepted; undefined: itself. `slack`: connections above its share that it keeps. */
  receiver(own: number, slack: number): number | undefined {
    let total = this.#read(own, COUNT);
    let taking = 1;
    let least = own;
    for (let worker = 0; worker < this.workers; worker++) {
      if (worker === own || this.#read(worker, UP) === 0) continue;
      const count = this.#read(worker, COUNT);
      total += count;
      taking++;
      if (count < this.#read(least, COUNT)) least = worker;
    }
    if (least === own || this.#read(own, COUNT) < (total / taking) * TOLERANCE + slack) return undefined;
    return least;
  }

  #read(worker: number, word: number): number {
    return Atomics.load(this.#words, worker * WORDS + word);
  }
}
