/** Time that passes when a test says so. */

interface Task {
  readonly atMs: number;
  readonly run: () => void;
}

export class VirtualTime {
  nowMs: number;
  #tasks: Task[] = [];

  constructor(startMs = 0) {
    this.nowMs = startMs;
  }

  /** As the production code wants it: runs `run` after a delay; the result cancels it. */
  readonly schedule = (run: () => void, delayMs: number): () => void => {
    const task = { atMs: this.nowMs + delayMs, run };
    this.#tasks.push(task);
    return () => {
      this.#tasks = this.#tasks.filter((other) => other !== task);
    };
  };

  /** Tasks that were not run or cancelled yet. */
  get pending(): number {
    return this.#tasks.length;
  }

  /** How long until the next task; Infinity when there is none. */
  nextInMs(): number {
    return Math.min(...this.#tasks.map(({ atMs }) => atMs)) - this.nowMs;
  }

  advance(milliseconds: number): void {
    const end = this.nowMs + milliseconds;
    for (let next = this.nextInMs(); this.nowMs + next <= end; next = this.nextInMs()) {
      const atMs = this.nowMs + next;
      const task = this.#tasks.find((task) => task.atMs <= atMs) as Task;
      this.#tasks = this.#tasks.filter((other) => other !== task);
      this.nowMs = Math.max(this.nowMs, task.atMs);
      task.run();
    }
    this.nowMs = end;
  }

  advanceToNext(): void {
    const next = this.nextInMs();
    if (next === Infinity) throw new Error("nothing is scheduled");
    this.advance(Math.max(0, next));
  }
}
