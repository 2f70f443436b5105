/** OpenMetrics 1.0 text exposition of a registry, in the form Istio's ztunnel gives it. */
import type { Family, Registry, Series } from "./registry.ts";

/** Families without series are left out. Ends with the `# EOF` line that OpenMetrics asks for. */
export function renderOpenMetrics(registry: Registry): string {
  const lines: string[] = [];
  for (const family of registry.families) {
    if (family.series.size > 0) renderFamily(registry, family, lines);
  }
  registry.rendered();
  lines.push("# EOF\n");
  return lines.join("\n");
}

function renderFamily(registry: Registry, family: Family, lines: string[]): void {
  const { name, help, type, unstable } = family.spec;
  lines.push(`# HELP ${name} ${escapeHelp(help)}${unstable ? " (unstable)" : ""}.`, `# TYPE ${name} ${type}`);
  if (type === "histogram") {
    for (const series of family.series.values()) renderHistogram(registry, series, lines);
    return;
  }
  const sample = type === "counter" ? `${name}_total` : name;
  for (const { labels, slot } of family.series.values()) {
    const braces = labels.text === "" ? "" : `{${labels.text}}`;
    lines.push(`${sample}${braces} ${registry.value(slot)}`);
  }
}

/** Buckets are cumulative in the text and single in the slots. */
function renderHistogram(registry: Registry, { family, labels, slot }: Series, lines: string[]): void {
  const { name, buckets = [] } = family.spec;
  const prefix = labels.text === "" ? "" : `${labels.text},`;
  const braces = labels.text === "" ? "" : `{${labels.text}}`;
  let count = 0;
  const rows: string[] = [];
  for (let i = 0; i <= buckets.length; i++) {
    count += registry.value(slot + i);
    rows.push(`${name}_bucket{${prefix}le="${i < buckets.length ? formatBound(buckets[i]) : "+Inf"}"} ${count}`);
  }
  lines.push(`${name}_sum${braces} ${registry.value(slot + buckets.length + 1)}`, `${name}_count${braces} ${count}`);
  lines.push(...rows);
}

/** OpenMetrics: a bound is a float, so `1` reads `1.0`. */
function formatBound(bound: number): string {
  return Number.isInteger(bound) ? `${bound}.0` : String(bound);
}

function escapeHelp(help: string): string {
  return help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
}
