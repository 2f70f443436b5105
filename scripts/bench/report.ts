/**
 * From the measured rounds to the table: medians, ratios to Envoy, and whether the limits hold. Pure.
 *
 * A ratio is the median of the ratios round by round, because what disturbs a shared machine lasts longer than a round.
 */
import { median, medianRatio } from "./stats.ts";

/** Values of one figure, one per round; `figure` as in FIGURES. */
export type Samples = Readonly<Record<string, readonly number[]>>;

/** What was measured, by target name. */
export type Results = Readonly<Record<string, Samples>>;

export interface Figure {
  readonly key: string;
  readonly label: string;
  readonly unit: string;
  readonly digits: number;
}

/** Highest ratio to the reference: of the better runtime with 1.3 times that for the others, or for each runtime by itself. */
export type Limit = number | { readonly deno: number; readonly bun: number };

/** What the others are held against. */
export interface Comparison {
  /** Target whose figures are 1. */
  readonly reference: string;
  readonly limits: Readonly<Record<string, Limit>>;
}

/** A runtime that is not the better one may be worse than the limit by this factor. */
const OTHER_RUNTIME = 1.3;

const RSS_LIMIT = { deno: 1.4, bun: 0.8 } as const;

export const FIGURES: readonly Figure[] = [
  { key: "rate64", label: "requests per second, 64 connections", unit: "1/s", digits: 0 },
  { key: "p50at64", label: "p50, 64 connections", unit: "µs", digits: 0 },
  { key: "p99at64", label: "p99, 64 connections", unit: "µs", digits: 0 },
  { key: "rate1", label: "requests per second, 1 connection", unit: "1/s", digits: 0 },
  { key: "p50at1", label: "p50, 1 connection", unit: "µs", digits: 0 },
  { key: "p99at1", label: "p99, 1 connection", unit: "µs", digits: 0 },
  { key: "cpuPerRequest", label: "CPU per request, 64 connections", unit: "µs", digits: 1 },
  { key: "cpuPerConnection", label: "CPU per new connection, 16 at a time", unit: "µs", digits: 0 },
  { key: "cpuPerLoneConnection", label: "CPU per new connection, one at a time", unit: "µs", digits: 0 },
  { key: "cpuPerGb", label: "CPU per GB", unit: "s", digits: 2 },
  { key: "rssIdle", label: "RSS of the pair, idle", unit: "MB", digits: 0 },
  { key: "rss1000", label: "RSS of the pair, 1,000 idle connections", unit: "MB", digits: 0 },
  { key: "rssLoaded", label: "RSS of the pair, after all load", unit: "MB", digits: 0 },
];

/** Both pairs in the same pods, under the same redirection. */
export const IN_PODS: Comparison = {
  reference: "envoy",
  limits: {
    p50at1: 0.9,
    cpuPerRequest: 1.0,
    cpuPerConnection: 0.7,
    cpuPerLoneConnection: 0.7,
    cpuPerGb: 1.1,
    rssIdle: RSS_LIMIT,
    rss1000: RSS_LIMIT,
  },
};

/** ambit with veth pairs and netfilter in its way, Envoy on the loopback without either. */
export const BESIDE_LOOPBACK: Comparison = {
  reference: "envoy-loopback",
  limits: { p50at1: 0.9, cpuPerRequest: 1.1, cpuPerConnection: 0.7, cpuPerLoneConnection: 0.7, cpuPerGb: 1.1 },
};

export interface Cell {
  readonly value: number;
  /** To the reference in the same rounds; undefined without one and for itself. */
  readonly ratio: number | undefined;
  /** Undefined where no limit is set or no ratio is known. */
  readonly verdict: "holds" | "exceeds" | undefined;
}

export interface Row {
  readonly figure: Figure;
  readonly limit: Limit | undefined;
  readonly cells: Readonly<Record<string, Cell>>;
}

export function summarize(results: Results, comparison: Comparison = IN_PODS): Row[] {
  return FIGURES.filter((figure) => Object.values(results).some((samples) => samples[figure.key] !== undefined))
    .map((figure) => ({
      figure,
      limit: comparison.limits[figure.key],
      cells: cellsOf(figure, results, comparison),
    }));
}

/** True when no limit is exceeded. */
export function allHold(rows: readonly Row[]): boolean {
  return rows.every((row) => Object.values(row.cells).every((cell) => cell.verdict !== "exceeds"));
}

function cellsOf(figure: Figure, results: Results, comparison: Comparison): Record<string, Cell> {
  const reference = results[comparison.reference]?.[figure.key];
  const ratios = new Map<string, number>();
  for (const [name, samples] of Object.entries(results)) {
    const values = samples[figure.key];
    if (name !== comparison.reference && reference !== undefined && values !== undefined) {
      ratios.set(name, medianRatio(values, reference));
    }
  }
  const best = Math.min(...ratios.values());
  const cells: Record<string, Cell> = {};
  for (const [name, samples] of Object.entries(results)) {
    const values = samples[figure.key];
    if (values === undefined) continue;
    const ratio = ratios.get(name);
    cells[name] = {
      value: median(values),
      ratio,
      verdict: verdictOf(comparison.limits[figure.key], name, ratio, best),
    };
  }
  return cells;
}

function verdictOf(
  limits: Limit | undefined,
  name: string,
  ratio: number | undefined,
  best: number,
): Cell["verdict"] {
  const limit = limitOf(limits, name, ratio, best);
  return ratio === undefined || limit === undefined ? undefined : ratio <= limit ? "holds" : "exceeds";
}

function limitOf(limit: Limit | undefined, name: string, ratio: number | undefined, best: number): number | undefined {
  if (limit === undefined) return undefined;
  if (typeof limit === "object") return name.startsWith("ambit-deno") ? limit.deno : limit.bun;
  return ratio === best ? limit : limit * OTHER_RUNTIME;
}

/** "≤ 1.0 (1.3)": the better runtime's limit and the other's; for memory that of Bun and of Deno. */
function limitText(limit: Limit | undefined): string {
  if (limit === undefined) return "";
  if (typeof limit === "object") return `≤ ${limit.bun} bun, ${limit.deno} deno`;
  return `≤ ${limit} (${Number((limit * OTHER_RUNTIME).toFixed(2))})`;
}

/** The rows as a Markdown table. */
export function markdownTable(
  rows: readonly Row[],
  names: readonly string[],
  { reference }: Comparison = IN_PODS,
): string {
  const others = names.filter((name) => name !== reference);
  const header = ["figure", "unit", ...names, ...others.map((name) => `${name} : ${reference}`), "limit"];
  const lines = rows.map(({ figure, limit, cells }) => [
    figure.label,
    figure.unit,
    ...names.map((name) => cells[name] === undefined ? "" : cells[name].value.toFixed(figure.digits)),
    ...others.map((name) => ratioText(cells[name])),
    limitText(limit),
  ]);
  return table([header, header.map(() => "---"), ...lines]);
}

function ratioText(cell: Cell | undefined): string {
  if (cell?.ratio === undefined) return "";
  return cell.ratio.toFixed(2) + (cell.verdict === "exceeds" ? " **over**" : "");
}

/** Padded, so that it reads as well in a terminal. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) => {
    const cells = row.map((text, column) => text === "---" ? "-".repeat(widths[column]) : text.padEnd(widths[column]));
    return `| ${cells.join(" | ")} |`;
  }).join("\n") + "\n";
}
