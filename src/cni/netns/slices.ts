/** Long work on a thread that has other work: a generator that yields often, run for a few milliseconds at a time. */
import { createYield } from "../../platform/yield_turn.ts";

export interface SliceOptions {
  readonly nowMs?: () => number;
  /** Lets other work of the thread run. */
  readonly pause?: () => Promise<void>;
}

/** The thread's other work waits no longer than this. */
const SLICE_MS = 2;

/** Runs to the end. The generator is ended, and may clean up, when `pause` rejects. */
export async function inSlices<T>(steps: Generator<void, T>, options: SliceOptions = {}): Promise<T> {
  const { nowMs = () => performance.now(), pause = breathe } = options;
  try {
    for (let startedMs = nowMs();;) {
      const { done, value } = steps.next();
      if (done) return value;
      if (nowMs() - startedMs < SLICE_MS) continue;
      await pause();
      startedMs = nowMs();
    }
  } finally {
    steps.return(undefined as never);
  }
}

/** All at once. */
export function atOnce<T>(steps: Generator<void, T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

const breathe = createYield(1);
