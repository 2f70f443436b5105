/** A network namespace of nobody, for as long as something is tried in it. */
import process from "node:process";
import { openScratchNamespace } from "../../platform/scratch_netns.ts";
import { closeDescriptor } from "../../platform/socket.ts";

/** Undefined when there is none to be had, as for who may not make one. What `body` leaves there is gone afterwards. */
export async function withScratchNamespace<T>(body: (netns: string) => Promise<T>): Promise<T | undefined> {
  const namespace = openScratchNamespace();
  if (typeof namespace !== "number") return undefined;
  try {
    return await body(`/proc/${process.pid}/fd/${namespace}`);
  } finally {
    closeDescriptor(namespace);
  }
}
