/** What worker_group_test.ts and its workers agree on. */
import type { WorkerSettings } from "../../src/ztunnel/messages.ts";

/** What the test shares with its workers beside the ordinary. */
export interface GroupSettings extends WorkerSettings {
  /** One number per worker, by index: see `Flag`. */
  readonly flags: SharedArrayBuffer;
  /** Generations that throw before they say anything. */
  readonly dieAtStart: readonly number[];
  /** Generations that never confirm anything. */
  readonly silent: readonly number[];
}

export const Flag = { NONE: 0, HANGS: 1, LET_GO: 2, ENDED: 3 } as const;
