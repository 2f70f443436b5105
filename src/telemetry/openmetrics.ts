/** OpenMetrics 1.0 text exposition of a registry, in the form Istio's ztunnel gives it. */
import type { FamilySpec } from "./metric_family.ts";
import type { Registry, Series } from "./registry.ts";

/** Families without series are left out. Ends with the `# EOF` line that OpenMetrics asks for. */
export function renderOpenMetrics(registry: Registry): string {
  return [...openMetricsPieces(registry)].join("");
}

/** `prometheus`: its text format 0.0.4, in which a counter's family has the name of its samples and nothing marks the end. */
export type MetricsDialect = "openmetrics" | "prometheus";

/** A piece is at most so many series. */
const PIECE_SERIES = 64;

/**
 * The same in pieces. All values are of the moment it was called, however long the reading takes; and it counts as an export at once.
 */
export function openMetricsPieces(registry: Registry, dialect: MetricsDialect = "openmetrics"): Iterable<string> {
  const families = [...registry.families].map(({ spec, series }) => ({ spec, series: [...series.values()] }));
  const values = registry.copyValues();
  registry.rendered();
  return pieces(families, values, dialect === "prometheus");
}

function* pieces(
  families: readonly { readonly spec: FamilySpec; readonly series: readonly Series[] }[],
  values: Float64Array,
  classic: boolean,
): Generator<string> {
  for (const { spec, series } of families) {
    if (series.length === 0) continue;
    const { name, help, type, unstable } = spec;
    const shown = classic && type === "counter" ? `${name}_total` : name;
    yield `# HELP ${shown} ${escapeHelp(help)}${unstable ? " (unstable)" : ""}.\n# TYPE ${shown} ${type}\n`;
    for (let at = 0; at < series.length; at += PIECE_SERIES) {
      let text = "";
      for (let i = at; i < Math.min(at + PIECE_SERIES, series.length); i++) {
        text += type === "histogram" ? histogram(spec, series[i], values) : sample(spec, series[i], values);
      }
      yield text;
    }
  }
  if (!classic) yield "# EOF\n";
}

function sample({ name, type }: FamilySpec, { labels, slot }: Series, values: Float64Array): string {
  const braces = labels.text === "" ? "" : `{${labels.text}}`;
  const value = values[slot];
  return `${type === "counter" ? `${name}_total` : name}${braces} ${value === Infinity ? "+Inf" : value}\n`;
}

/** Buckets are cumulative in the text and single in the slots. */
function histogram({ name, buckets = [] }: FamilySpec, { labels, slot }: Series, values: Float64Array): string {
  const prefix = labels.text === "" ? "" : `${labels.text},`;
  const braces = labels.text === "" ? "" : `{${labels.text}}`;
  let count = 0;
  let rows = "";
  for (let i = 0; i <= buckets.length; i++) {
    count += values[slot + i];
    rows += `${name}_bucket{${prefix}le="${i < buckets.length ? formatBound(buckets[i]) : "+Inf"}"} ${count}\n`;
  }
  return `${name}_sum${braces} ${values[slot + buckets.length + 1]}\n${name}_count${braces} ${count}\n${rows}`;
}

/** OpenMetrics: a bound is a float, so `1` reads `1.0`. */
function formatBound(bound: number): string {
  return Number.isInteger(bound) ? `${bound}.0` : String(bound);
}

function escapeHelp(help: string): string {
  return help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
}
