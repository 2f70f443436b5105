/** Time as the installer sees it; tests move it by hand. */
export interface InstallClock {
  /** Milliseconds on a clock that only moves forward. */
  nowMs(): number;
  /** Runs `task` once after `delayMs`; the result cancels that. */
  schedule(task: () => void, delayMs: number): () => void;
}

export const SYSTEM_CLOCK: InstallClock = {
  nowMs: () => performance.now(),
  schedule(task, delayMs) {
    const timer = setTimeout(task, delayMs);
    return () => clearTimeout(timer);
  },
};

/** Resolves after `delayMs`, or when the signal aborts. */
export function sleep(clock: InstallClock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted || delayMs <= 0) return resolve();
    const end = () => {
      cancel();
      signal.removeEventListener("abort", end);
      resolve();
    };
    const cancel = clock.schedule(end, delayMs);
    signal.addEventListener("abort", end, { once: true });
  });
}
