/** One choice among hosts that are alike in health and priority. */
import type { Host } from "../host.ts";

export interface Picker {
  /** `hash`: 53 bits, of the request or drawn; `attempt`: from 0, how often this request asked before. */
  pick(hash: number, attempt: number): Host | undefined;
}

/** A host with the share of a whole of 1 that it is to get. */
export interface Share {
  readonly host: Host;
  readonly weight: number;
}

export const NOBODY: Picker = { pick: () => undefined };
