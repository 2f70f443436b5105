/** How long work on a thread with an event loop lets everything else of it run. */
import { setImmediate } from "node:timers";

/**
 * Returns a function that resolves when what is ready has run. Immediates are quick, but a Deno thread that goes from one to the next
 * hardly looks at its timers, sockets and message ports; after a timeout of zero it has looked everywhere, but that takes a millisecond. So one
 * timeout, then `immediates`.
 */
export function createYield(immediates: number): () => Promise<void> {
  let turns = 0;
  return () =>
    new Promise((resolve) => {
      if (turns++ % (immediates + 1) === 0) setTimeout(resolve, 0);
      else setImmediate(resolve);
    });
}
