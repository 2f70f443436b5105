/**
 * Waiting with a limit: for a callback, or for a state that only polling shows. Limits are of time in which the machine ran, as for Stopwatch.
 */
import { Stopwatch } from "../../support/stopwatch.ts";

/** Resolves when `start`'s argument is called; rejects after `timeoutMs` saying what did not come. */
export function within<T = void>(
  timeoutMs: number,
  what: string,
  start: (resolve: (value: T) => void, reject: (error: Error) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const watch = new Stopwatch();
    const end = () => {
      clearTimeout(timer);
      watch.stop();
    };
    const expire = () => {
      const leftMs = timeoutMs - watch.ms;
      if (leftMs > 0) return void (timer = setTimeout(expire, leftMs));
      end();
      reject(new Error(`waited ${timeoutMs} ms for ${what}`));
    };
    let timer = setTimeout(expire, timeoutMs);
    start((value) => {
      end();
      resolve(value);
    }, (error) => {
      end();
      reject(error);
    });
  });
}

const POLL_MS = 20;

/** Repeats `probe` until it does not throw. For what shows only by asking: metrics, counts in /proc. */
export async function eventually<T>(probe: () => T | Promise<T>, timeoutMs = 10_000): Promise<T> {
  const watch = new Stopwatch();
  try {
    for (;;) {
      try {
        return await probe();
      } catch (error) {
        if (watch.ms > timeoutMs) throw error;
      }
      await pause(POLL_MS);
    }
  } finally {
    watch.stop();
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
