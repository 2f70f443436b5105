/** From the measured rounds to the table and its limits. Pure. */
import { median, medianRatio } from "../bench/stats.ts";

/** Values by subject and figure, one per round. */
export type Results = Readonly<Record<string, Readonly<Record<string, readonly number[]>>>>;

interface Figure {
  readonly key: string;
  readonly label: string;
  readonly unit: string;
  readonly digits: number;
  /** Highest ratio to Envoy. */
  readonly ratio?: number;
  /** Highest value. */
  readonly value?: number;
  /** The limit is meant for the compiled binary alone. */
  readonly compiledOnly?: boolean;
}

const REFERENCE = "envoy";
/** A thousand routes may cost this much more than five. */
const ROUTES_LIMIT = 1.2;

const LOADS: readonly (readonly [string, string])[] = [
  ["plain.http1", "plain, HTTP/1.1"],
  ["plain.http2", "plain, HTTP/2"],
  ["full.http1", "all features, HTTP/1.1"],
  ["full.http2", "all features, HTTP/2"],
  ["five.http1", "five routes, HTTP/1.1"],
  ["thousand.http1", "1,000 routes, HTTP/1.1"],
];

export const FIGURES: readonly Figure[] = [
  ...LOADS.map(([key, label]) => ({
    key: `${key}.cpu`,
    label: `CPU per request, ${label}`,
    unit: "µs",
    digits: 1,
    ratio: 1,
  })),
  ...LOADS.map(([key, label]) => ({ key: `${key}.p99`, label: `p99, ${label}`, unit: "ms", digits: 1, ratio: 1 })),
  ...LOADS.map(([key, label]) => ({ key: `${key}.p50`, label: `p50, ${label}`, unit: "ms", digits: 2 })),
  ...LOADS.map(([key, label]) => ({
    key: `${key}.rate`,
    label: `requests per second, ${label}`,
    unit: "1/s",
    digits: 0,
  })),
  { key: "routes", label: "CPU of 1,000 routes to that of five", unit: "", digits: 2, value: ROUTES_LIMIT },
  { key: "ready", label: "start to ready", unit: "ms", digits: 0, value: 1000, compiledOnly: true },
  { key: "rssIdle", label: "RSS, idle", unit: "MB", digits: 0, ratio: 1, compiledOnly: true },
  { key: "rss1000", label: "RSS, 1,000 idle connections", unit: "MB", digits: 0, ratio: 1, compiledOnly: true },
  { key: "rssLoaded", label: "RSS, after all load", unit: "MB", digits: 0 },
];

export interface Table {
  readonly text: string;
  readonly holds: boolean;
}

export function makeTable(results: Results, names: readonly string[]): Table {
  const others = names.filter((name) => name !== REFERENCE);
  const rows = [["figure", "unit", ...names, ...others.map((name) => `${name} : ${REFERENCE}`), "limit"]];
  rows.push(rows[0]!.map(() => "---"));
  let holds = true;
  for (const figure of FIGURES) {
    const { key, digits } = figure;
    if (names.every((name) => results[name]?.[key] === undefined)) continue;
    const judged = (name: string) => name !== REFERENCE && (figure.compiledOnly !== true || name === "ambit-compiled");
    const mark = (name: string, exceeds: boolean) => {
      if (!exceeds || !judged(name)) return "";
      holds = false;
      return " **over**";
    };
    const cell = (name: string) => {
      const values = results[name]?.[key];
      if (values === undefined) return "";
      const value = median(values);
      return value.toFixed(digits) + mark(name, figure.value !== undefined && value > figure.value);
    };
    const ratio = (name: string) => {
      const [values, references] = [results[name]?.[key], results[REFERENCE]?.[key]];
      if (values === undefined || references === undefined) return "";
      const value = medianRatio(values, references);
      return value.toFixed(2) + mark(name, figure.ratio !== undefined && value > figure.ratio);
    };
    const bound = figure.ratio === undefined ? figure.value?.toString() : `${figure.ratio.toFixed(1)} of Envoy`;
    const limit = bound === undefined ? "" : `≤ ${bound}${figure.compiledOnly === true ? ", compiled" : ""}`;
    rows.push([figure.label, figure.unit, ...names.map(cell), ...others.map(ratio), limit]);
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((text, i) => text === "---" ? "-".repeat(widths[i]!) : text.padEnd(widths[i]!)).join(" | ")} |`;
  return { text: rows.map(line).join("\n") + "\n", holds };
}
