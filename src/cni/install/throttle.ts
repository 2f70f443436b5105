/** Keeps the installer from answering every change of another one at once, and says so when two of them fight: reference cni.md 1.6. */

/** Passes further apart than this are no fight. */
const APART_MS = 5_000;
const DELAY_MS = 1_000;
const HITS_OF_A_FIGHT = 5;

export class Throttle {
  readonly #warn: (text: string) => void;
  #lastMs = -Infinity;
  #hits = 0;
  #changed: readonly string[] = [];

  constructor(warn: (text: string) => void) {
    this.#warn = warn;
  }

  /** How long to wait before the next pass. */
  delayMs(nowMs: number): number {
    const sinceMs = nowMs - this.#lastMs;
    if (sinceMs >= APART_MS) {
      this.#hits = 0;
      return 0;
    }
    this.#hits++;
    if (this.#hits > HITS_OF_A_FIGHT && this.#hits % HITS_OF_A_FIGHT === 1) this.#warn(this.#text());
    return Math.max(0, DELAY_MS - sinceMs);
  }

  passed(nowMs: number): void {
    this.#lastMs = nowMs;
  }

  /** What changed, by others, since. */
  changed(paths: readonly string[]): void {
    this.#changed = paths;
  }

  #text(): string {
    const what = this.#changed.length === 0 ? "the plugin's files" : this.#changed.join(", ");
    const hint = this.#changed.some((path) => path.includes("cilium"))
      ? ": set Cilium's Helm value cni.exclusive=false"
      : ": is another CNI plugin configured to be the only one?";
    return `something else on this node keeps changing ${what}; each time the plugin was installed again (${this.#hits} times in a row)${hint}`;
  }
}
