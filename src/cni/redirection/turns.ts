/** Calls for one network namespace take turns, whatever path each of them names it by; those for others do not wait. */
import { namespaceIdentity } from "./inside.ts";
import type { Redirection } from "./redirection.ts";

/** The last call for each namespace, of all implementations of this process. */
const last = new Map<string, Promise<unknown>>();

export function inTurns(redirection: Redirection): Redirection {
  return {
    apply: (netns, settings) => takeTurn(netns, () => redirection.apply(netns, settings)),
    verify: (netns, settings) => takeTurn(netns, () => redirection.verify(netns, settings)),
    remove: (netns) => takeTurn(netns, () => redirection.remove(netns)),
    describe: () => redirection.describe(),
  };
}

async function takeTurn<T>(netns: string, call: () => Promise<T>): Promise<T> {
  const key = namespaceIdentity(netns);
  const before = last.get(key);
  const own = (before ?? Promise.resolve()).then(call, call);
  last.set(key, own);
  try {
    return await own;
  } finally {
    if (last.get(key) === own) last.delete(key);
  }
}
