/** What a metric is called and how it is counted; and interned label sets. Plain data. */

export type MetricType = "counter" | "gauge" | "histogram";

export interface FamilySpec {
  /** As in the HELP line: without `_total`. */
  readonly name: string;
  /** One sentence without its full stop. */
  readonly help: string;
  readonly type: MetricType;
  /** Not part of the interface that users may rely on; marked so in HELP. */
  readonly unstable?: boolean;
  /** Upper bounds of a histogram, ascending, without infinity. */
  readonly buckets?: readonly number[];
}

/** A set of labels, already in exposition form. */
export interface LabelSet {
  /** What stands between the braces: `a="1",b="2"`; "" for none. */
  readonly text: string;
  /** Whose going makes the series useless: `Registry.evict(owner)` marks them. */
  readonly owners: readonly string[];
}

export const NO_LABELS: LabelSet = Object.freeze({ text: "", owners: Object.freeze([]) });

/** `name="value"` with the value escaped as OpenMetrics 1.0 section "ABNF" asks. */
export function formatLabel(name: string, value: string): string {
  return `${name}="${escapeLabelValue(value)}"`;
}

export function escapeLabelValue(value: string): string {
  return /[\\"\n]/.test(value) ? value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n") : value;
}

/** Labels in the order given. */
export function labelSet(labels: Readonly<Record<string, string>>, owners: readonly string[] = []): LabelSet {
  return { text: Object.entries(labels).map(([name, value]) => formatLabel(name, value)).join(","), owners };
}

/** Slots a series of this family takes: 1, or for a histogram its buckets, +Inf and the sum. */
export function seriesWidth(spec: FamilySpec): number {
  return spec.type === "histogram" ? (spec.buckets ?? []).length + 2 : 1;
}
