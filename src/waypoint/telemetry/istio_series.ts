/**
 * The series of one set of labels, for all metrics at once: found by numbers on the data path, made when first met, and given up when nobody met
 * them for a while. Above the limit further label sets are counted together.
 */
import { formatLabel, type LabelSet } from "../../telemetry/metric_family.ts";
import type { Family, Registry, Slot } from "../../telemetry/registry.ts";
import type { Labels } from "./istio_overrides.ts";

/** Pairs of client and service, by outcome: a scrape of so many is some 300 MB, mostly of histograms. */
export const MAX_SERIES_SETS = 5_000;
/** Longer than the longest usual scrape interval by far. */
export const UNUSED_MS = 30 * 60_000;

/** The metric is dropped. */
const NOT_COUNTED = -1;
/** There is no series yet: one that never counts is not shown, as in Envoy. */
const NOT_YET = -2;

export interface SeriesSet {
  readonly slots: Slot[];
  readonly labels: readonly (LabelSet | undefined)[];
  usedAtMs: number;
}

export interface SeriesOptions {
  readonly registry: Registry;
  /** In the order of `slots`. */
  readonly families: readonly Family[];
  readonly maxSets?: number;
  /** A label set was counted among the others. */
  readonly full: () => void;
}

export class SeriesTable {
  readonly #options: SeriesOptions;
  /** By the pair of sides, then by the rest. */
  readonly #sets = new Map<number, Map<string | number, SeriesSet>>();
  #count = 0;
  #overflow: SeriesSet | undefined;

  constructor(options: SeriesOptions) {
    this.#options = options;
  }

  find(pair: number, rest: string | number): SeriesSet | undefined {
    return this.#sets.get(pair)?.get(rest);
  }

  /** @param labelsOf the labels of the metric at this place; undefined: not counted. */
  create(
    pair: number,
    rest: string | number,
    nowMs: number,
    labelsOf: (index: number) => Labels | undefined,
    unknown: () => Labels,
  ): SeriesSet {
    const { maxSets = MAX_SERIES_SETS, full } = this.#options;
    if (this.#count >= maxSets) {
      full();
      return this.#overflow ??= this.#make(nowMs, () => unknown());
    }
    const set = this.#make(nowMs, labelsOf);
    let byRest = this.#sets.get(pair);
    if (byRest === undefined) this.#sets.set(pair, byRest = new Map());
    byRest.set(rest, set);
    this.#count++;
    return set;
  }

  /** Where the metric at this place counts; below 0: it does not. */
  slot(set: SeriesSet, index: number): Slot {
    const slot = set.slots[index];
    return slot === NOT_YET ? this.#acquireSlot(set, index) : slot;
  }

  #acquireSlot(set: SeriesSet, index: number): Slot {
    const { registry, families } = this.#options;
    const slot = registry.acquire(families[index], set.labels[index] as LabelSet);
    set.slots[index] = slot;
    return slot;
  }

  get size(): number {
    return this.#count;
  }

  /** Gives up what was not used for long. */
  sweep(nowMs: number): void {
    const { registry } = this.#options;
    for (const [pair, byRest] of this.#sets) {
      for (const [rest, set] of byRest) {
        if (nowMs - set.usedAtMs < UNUSED_MS) continue;
        byRest.delete(rest);
        this.#count--;
        for (const slot of set.slots) {
          if (slot < 0) continue;
          registry.release(slot);
          // Another set may count in the same series: it is held then, and stays.
          registry.evictSlot(slot);
        }
      }
      if (byRest.size === 0) this.#sets.delete(pair);
    }
  }

  #make(nowMs: number, labelsOf: (index: number) => Labels | undefined): SeriesSet {
    const texts = new Map<Labels, LabelSet>();
    const labels = this.#options.families.map((_, index) => {
      const own = labelsOf(index);
      if (own === undefined) return undefined;
      let set = texts.get(own);
      if (set === undefined) texts.set(own, set = labelSetOf(own));
      return set;
    });
    return { slots: labels.map((own) => own === undefined ? NOT_COUNTED : NOT_YET), labels, usedAtMs: nowMs };
  }
}

function labelSetOf(labels: Labels): LabelSet {
  return { text: labels.map(([name, value]) => formatLabel(name, value)).join(","), owners: [] };
}
