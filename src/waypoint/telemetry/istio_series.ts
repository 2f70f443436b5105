/**
 * The series of one set of labels, for all metrics at once: found by numbers on the data path, made when first met, and given up when nobody met
 * them for a while. Above the limit further label sets are counted together.
 */
import { formatLabel, type LabelSet } from "../../telemetry/metric_family.ts";
import type { Family, Registry, Slot } from "../../telemetry/registry.ts";
import type { Labels } from "./istio_overrides.ts";

/** Far above what a namespace has; a client that makes up names meets it. */
export const MAX_SERIES_SETS = 20_000;
/** Longer than the longest usual scrape interval by far. */
const UNUSED_MS = 30 * 60_000;

/** -1: not counted. */
export interface SeriesSet {
  readonly slots: readonly Slot[];
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
      return this.#overflow ??= this.#acquire(nowMs, () => unknown());
    }
    const set = this.#acquire(nowMs, labelsOf);
    let byRest = this.#sets.get(pair);
    if (byRest === undefined) this.#sets.set(pair, byRest = new Map());
    byRest.set(rest, set);
    this.#count++;
    return set;
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

  #acquire(nowMs: number, labelsOf: (index: number) => Labels | undefined): SeriesSet {
    const { registry, families } = this.#options;
    const texts = new Map<Labels, LabelSet>();
    const slots = families.map((family, index) => {
      const labels = labelsOf(index);
      if (labels === undefined) return -1;
      let set = texts.get(labels);
      if (set === undefined) texts.set(labels, set = labelSetOf(labels));
      return registry.acquire(family, set);
    });
    return { slots, usedAtMs: nowMs };
  }
}

function labelSetOf(labels: Labels): LabelSet {
  return { text: labels.map(([name, value]) => formatLabel(name, value)).join(","), owners: [] };
}
