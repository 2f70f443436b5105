/** From the results of the parts to the page: one table a part, and whether the limits hold. Pure. */
import type { Machine } from "../bench/machine.ts";
import type { Figure, PartResult } from "./part.ts";

/** One part's last run. */
export interface PartRecord extends PartResult {
  /** ISO date. */
  readonly date: string;
  readonly command: string;
  /** Of the last minute, at the end: what the measured processes and everybody else kept busy. */
  readonly loadAverage: number;
}

export interface Report {
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  readonly parts: Readonly<Record<string, PartRecord>>;
}

export function holds(parts: readonly PartResult[]): boolean {
  return parts.every(({ figures }) =>
    figures.every((figure) => Object.keys(figure.values).every((subject) => !isOver(figure, subject)))
  );
}

function isOver({ values, limit }: Figure, subject: string): boolean {
  return limit !== undefined && limit.subjects.includes(subject) && values[subject] > limit.value;
}

export function markdown({ machine, versions, parts }: Report): string {
  const used = Object.entries(versions).map(([name, version]) => `${name}: ${version}`).join("; ");
  return [
    "# istio-cni",
    "",
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGb} GB; ${machine.system}, kernel ${machine.kernel}.`,
    `${used}. Method: [README](README.md).`,
    ...Object.values(parts).flatMap(section),
    "",
  ].join("\n");
}

function section(part: PartRecord): string[] {
  const { title, text, subjects, figures, date, command, loadAverage } = part;
  const header = ["figure", "unit", ...subjects, "limit"];
  const rows = figures.map((figure) => [
    figure.label,
    figure.unit,
    ...subjects.map((subject) => {
      const value = figure.values[subject];
      if (value === undefined || Number.isNaN(value)) return "";
      return `${value.toFixed(digitsFor(value))}${isOver(figure, subject) ? " **over**" : ""}`;
    }),
    figure.limit === undefined ? "" : `≤ ${figure.limit.value} (${figure.limit.subjects.join(", ")})`,
  ]);
  return [
    "",
    `## ${title}, ${date}`,
    "",
    `\`${command}\`; load average at the end ${loadAverage.toFixed(2)}.`,
    "",
    text,
    "",
    ...table([header, ...rows]),
  ];
}

function digitsFor(value: number): number {
  return Math.abs(value) < 10 ? 2 : 1;
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (cells: readonly string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  return [line(rows[0]), line(widths.map((width) => "-".repeat(width))), ...rows.slice(1).map(line)];
}
