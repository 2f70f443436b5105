/** Time as the agent's core sees it; tests move it by hand. */
export interface Clock {
  /** Milliseconds on a clock that only moves forward. */
  nowMs(): number;
  /** Milliseconds since the epoch. */
  wallMs(): number;
  /** Runs `task` once after `delayMs`; the result cancels that. */
  schedule(task: () => void, delayMs: number): () => void;
}

export const SYSTEM_CLOCK: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  schedule(task, delayMs) {
    const timer = setTimeout(task, delayMs);
    return () => clearTimeout(timer);
  },
};

/** Resolves after `delayMs`. Rejects with the signal's reason when it aborts before. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const aborted = () => {
      cancel();
      reject(signal?.reason);
    };
    const cancel = clock.schedule(() => {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }, delayMs);
    signal?.addEventListener("abort", aborted, { once: true });
  });
}
