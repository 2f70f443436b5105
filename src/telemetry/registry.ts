/**
 * Metrics of one thread: families of series whose values are slots of one typed array, resolved
 * when a connection is set up, so that counting is one array store.
 *
 * A series is removed only after it was evicted by its owner, nobody holds it, and its last value
 * was exported: a worker exports by `snapshot`, the main thread by rendering. No count is lost.
 */
import { seriesWidth } from "./metric_family.ts";
import type { FamilySpec, LabelSet } from "./metric_family.ts";

/** Index of a series' first value. */
export type Slot = number;

/** One series. Readable by the exposition; changed by its registry only. */
export interface Series {
  readonly family: Family;
  readonly labels: LabelSet;
  readonly slot: Slot;
  readonly width: number;
  /** Open connections in a worker; sources in the main thread. */
  holders: number;
  /** Undefined: not evicted. */
  evictedAtMs: number | undefined;
  /** A snapshot has told its reader what this slot is. */
  announced: boolean;
}

/** A metric by name, with its series by label text. Made by `Registry.register`. */
export interface Family {
  readonly spec: FamilySpec;
  readonly series: Map<string, Series>;
}

/** What changed in a registry since its last snapshot; can be posted to another thread. */
export interface MetricsSnapshot {
  /** Names the thread, and anew when that is replaced. */
  readonly source: string;
  readonly defined: readonly {
    readonly slot: Slot;
    readonly family: string;
    readonly labels: string;
    readonly owners: readonly string[];
  }[];
  readonly slots: Uint32Array;
  readonly deltas: Float64Array;
  /** First slots of series that are no more; their last deltas are in `deltas`. */
  readonly removed: Uint32Array;
}

export interface RegistrySettings {
  /** Milliseconds on any clock that only moves forward. */
  readonly nowMs: () => number;
  /**
   * How long an evicted series still stands, so that each of several scrapers sees its last value.
   * For the registry that is rendered; a worker's has one reader and needs none.
   */
  readonly retainMs: number;
}

/** Slots at the start; doubled when full. */
const INITIAL_SLOTS = 256;

/** What a registry knows of another one whose snapshots it merges. */
interface Source {
  /** From the source's slots to this registry's. */
  readonly slots: Map<Slot, Slot>;
  /** Sum of the source's deltas by gauge slot: taken back when the source dies. */
  readonly gauges: Map<Slot, number>;
}

export class Registry {
  readonly #settings: RegistrySettings;
  readonly #families = new Map<string, Family>();
  readonly #byOwner = new Map<string, Set<Series>>();
  /** By first slot. */
  readonly #series = new Map<Slot, Series>();
  readonly #evicted = new Set<Series>();
  /** First slots of removed series by width. */
  readonly #free = new Map<number, Slot[]>();
  readonly #sources = new Map<string, Source>();
  #values = new Float64Array(INITIAL_SLOTS);
  /** Values as of the last export. */
  #exported = new Float64Array(INITIAL_SLOTS);
  #used = 0;

  constructor(settings: RegistrySettings) {
    this.#settings = settings;
  }

  get families(): Iterable<Family> {
    return this.#families.values();
  }

  get seriesCount(): number {
    return this.#series.size;
  }

  /** @throws Error when the name is taken: a bug. */
  register(spec: FamilySpec): Family {
    if (this.#families.has(spec.name)) throw new Error(`metric ${spec.name} is registered twice`);
    const family: Family = { spec, series: new Map() };
    this.#families.set(spec.name, family);
    return family;
  }

  /** The slot of a series, made when new; it is held until `release` and cannot be removed before. */
  acquire(family: Family, labels: LabelSet): Slot {
    const series = family.series.get(labels.text) ?? this.#create(family, labels);
    series.holders++;
    if (series.evictedAtMs !== undefined) {
      series.evictedAtMs = undefined;
      this.#evicted.delete(series);
    }
    return series.slot;
  }

  /** @throws Error when nobody holds the slot: a bug. */
  release(slot: Slot): void {
    const series = this.#series.get(slot);
    if (series === undefined || series.holders === 0) throw new Error(`metric slot ${slot} is not held`);
    series.holders--;
  }

  /** Adds to a counter or gauge. One array store. */
  add(slot: Slot, amount: number): void {
    this.#values[slot] += amount;
  }

  /** Sets a gauge. */
  set(slot: Slot, value: number): void {
    this.#values[slot] = value;
  }

  /** Counts `value` in the histogram series at `slot`. */
  observe(family: Family, slot: Slot, value: number): void {
    const buckets = family.spec.buckets ?? [];
    let i = 0;
    while (i < buckets.length && value > buckets[i]) i++;
    this.#values[slot + i]++;
    this.#values[slot + buckets.length + 1] += value;
  }

  value(slot: Slot): number {
    return this.#values[slot];
  }

  /** All values as they are now, by slot. */
  copyValues(): Float64Array {
    return this.#values.slice(0, this.#used);
  }

  /** Marks every series of this owner for removal. A registry that merges follows its sources by itself. */
  evict(owner: string): void {
    for (const series of this.#byOwner.get(owner) ?? []) this.#mark(series);
  }

  /** Marks one series for removal. */
  evictSlot(slot: Slot): void {
    const series = this.#series.get(slot);
    if (series !== undefined) this.#mark(series);
  }

  isEvicted(slot: Slot): boolean {
    return this.#series.get(slot)?.evictedAtMs !== undefined;
  }

  /** Everything that changed since the last call. Evicted series that nobody holds go with it. */
  snapshot(source: string): MetricsSnapshot {
    const defined: { slot: Slot; family: string; labels: string; owners: readonly string[] }[] = [];
    for (const series of this.#series.values()) {
      if (series.announced) continue;
      series.announced = true;
      const { slot, family, labels } = series;
      defined.push({ slot, family: family.spec.name, labels: labels.text, owners: labels.owners });
    }
    const slots: number[] = [];
    const deltas: number[] = [];
    for (let slot = 0; slot < this.#used; slot++) {
      const delta = this.#values[slot] - this.#exported[slot];
      if (delta === 0) continue;
      slots.push(slot);
      deltas.push(delta);
      this.#exported[slot] = this.#values[slot];
    }
    const removed: number[] = [];
    for (const series of [...this.#evicted]) {
      if (series.holders > 0) continue;
      removed.push(series.slot);
      this.#remove(series);
    }
    return {
      source,
      defined,
      slots: Uint32Array.from(slots),
      deltas: Float64Array.from(deltas),
      removed: Uint32Array.from(removed),
    };
  }

  /**
   * Adds another registry's changes to this one. Snapshots of one source come in the order they were made.
   * @throws Error for an unknown family: both sides must register the same.
   */
  merge(snapshot: MetricsSnapshot): void {
    let source = this.#sources.get(snapshot.source);
    if (source === undefined) {
      source = { slots: new Map(), gauges: new Map() };
      this.#sources.set(snapshot.source, source);
    }
    for (const { slot, family: name, labels, owners } of snapshot.defined) {
      const family = this.#families.get(name);
      if (family === undefined) throw new Error(`${snapshot.source} sends the unknown metric ${name}`);
      const own = this.acquire(family, { text: labels, owners });
      for (let i = 0; i < seriesWidth(family.spec); i++) source.slots.set(slot + i, own + i);
    }
    for (let i = 0; i < snapshot.slots.length; i++) {
      const own = source.slots.get(snapshot.slots[i]);
      if (own === undefined) continue;
      const delta = snapshot.deltas[i];
      this.#values[own] += delta;
      if (this.#series.get(own)?.family.spec.type === "gauge") {
        source.gauges.set(own, (source.gauges.get(own) ?? 0) + delta);
      }
    }
    for (const slot of snapshot.removed) {
      const own = source.slots.get(slot);
      const series = own === undefined ? undefined : this.#series.get(own);
      if (series === undefined) continue;
      for (let i = 0; i < series.width; i++) source.slots.delete(slot + i);
      source.gauges.delete(series.slot);
      series.holders--;
      if (series.holders === 0) this.#mark(series);
    }
  }

  /** Ends a source that died: its counts stay, its part of each gauge goes. */
  forget(sourceName: string): void {
    const source = this.#sources.get(sourceName);
    if (source === undefined) return;
    this.#sources.delete(sourceName);
    for (const [slot, amount] of source.gauges) this.#values[slot] -= amount;
    for (const own of source.slots.values()) {
      const series = this.#series.get(own);
      if (series !== undefined) series.holders--;
    }
  }

  /** Called by the exposition when it has taken every value: removes what was evicted long enough ago. */
  rendered(): void {
    const now = this.#settings.nowMs();
    for (const series of [...this.#evicted]) {
      let changed = false;
      for (let slot = series.slot; slot < series.slot + series.width; slot++) {
        changed ||= this.#values[slot] !== this.#exported[slot];
        this.#exported[slot] = this.#values[slot];
      }
      if (changed) series.evictedAtMs = now;
      else if (series.holders === 0 && now - (series.evictedAtMs ?? now) >= this.#settings.retainMs) {
        this.#remove(series);
      }
    }
  }

  #mark(series: Series): void {
    series.evictedAtMs ??= this.#settings.nowMs();
    this.#evicted.add(series);
  }

  #create(family: Family, labels: LabelSet): Series {
    const width = seriesWidth(family.spec);
    const slot = this.#free.get(width)?.pop() ?? this.#grow(width);
    const series: Series = { family, labels, slot, width, holders: 0, evictedAtMs: undefined, announced: false };
    family.series.set(labels.text, series);
    this.#series.set(slot, series);
    for (const owner of labels.owners) {
      const owned = this.#byOwner.get(owner);
      if (owned === undefined) this.#byOwner.set(owner, new Set([series]));
      else owned.add(series);
    }
    return series;
  }

  #grow(width: number): Slot {
    const slot = this.#used;
    this.#used += width;
    if (this.#used > this.#values.length) {
      const size = Math.max(this.#values.length * 2, this.#used);
      const values = new Float64Array(size);
      values.set(this.#values);
      this.#values = values;
      const exported = new Float64Array(size);
      exported.set(this.#exported);
      this.#exported = exported;
    }
    return slot;
  }

  #remove(series: Series): void {
    series.family.series.delete(series.labels.text);
    this.#series.delete(series.slot);
    this.#evicted.delete(series);
    for (const owner of series.labels.owners) {
      const owned = this.#byOwner.get(owner);
      owned?.delete(series);
      if (owned?.size === 0) this.#byOwner.delete(owner);
    }
    this.#values.fill(0, series.slot, series.slot + series.width);
    this.#exported.fill(0, series.slot, series.slot + series.width);
    const free = this.#free.get(series.width);
    if (free === undefined) this.#free.set(series.width, [series.slot]);
    else free.push(series.slot);
  }
}
