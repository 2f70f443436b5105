/** From the measured runs to the table: medians, and whether the limits hold. Pure. */
import type { Machine } from "../bench/machine.ts";
import { median } from "../bench/stats.ts";
import type { PodTraffic } from "./node.ts";

/** One push: milliseconds from its send to its acknowledgement, what that cost, and what traffic saw. */
export interface Phase {
  readonly ms: number;
  readonly mainCpuMs: number;
  readonly processCpuMs: number;
  readonly traffic: PodTraffic;
}

export interface SizeResult {
  readonly workloads: number;
  /** Of a process that gets the whole mesh at its start. */
  readonly readyMs: number;
  readonly startCpuMs: number;
  /** More than one that knows only its own pods. */
  readonly meshKib: number;
  /** More than that of the process that got the mesh while it ran, and after all pods were replaced. */
  readonly liveKib: number;
  readonly replacedKib: number;
  /** Encoded. */
  readonly bytes: number;
  readonly quiet: PodTraffic;
  readonly applied: Phase;
  readonly replaced: Phase;
}

export interface BuildResult {
  readonly name: string;
  /** Of a ztunnel that knows its own two pods alone. */
  readonly base: readonly { readonly kib: number; readonly readyMs: number }[];
  /** Every round of every size. */
  readonly sizes: readonly SizeResult[];
}

interface Figure {
  readonly label: string;
  readonly of: (result: SizeResult) => number;
  /** A second value in the same cell. */
  readonly and?: (result: SizeResult) => number;
  readonly digits: number;
  /** Highest value at these numbers of workloads. */
  readonly limit?: Readonly<Record<number, number>>;
}

const RUNNING_LIMIT_MS = 5;
const FIRST_LIMIT_MS = 10;

const FIGURES: readonly Figure[] = [
  { label: "ready after its start with the mesh, ms", of: (r) => r.readyMs, digits: 0, limit: { 10_000: 600 } },
  { label: "main-thread CPU until then, ms", of: (r) => r.startCpuMs, digits: 0 },
  { label: "memory for the mesh, MB", of: (r) => r.meshKib / 1024, digits: 1, limit: { 10_000: 20 } },
  { label: "memory per workload, KB", of: (r) => r.meshKib / r.workloads, digits: 2, limit: { 50_000: 2 } },
  { label: "mesh pushed to a running one: sent to acknowledged, ms", of: (r) => r.applied.ms, digits: 0 },
  { label: "main-thread CPU for it, ms", of: (r) => r.applied.mainCpuMs, digits: 0 },
  { label: "CPU of the process for it, ms", of: (r) => r.applied.processCpuMs, digits: 0 },
  ...stalls(({ applied }) => applied.traffic),
  { label: "all pods replaced: sent to acknowledged, ms", of: (r) => r.replaced.ms, digits: 0 },
  { label: "main-thread CPU for it, ms", of: (r) => r.replaced.mainCpuMs, digits: 0 },
  ...stalls(({ replaced }) => replaced.traffic),
  { label: "without any push: longest wait of a running connection, ms", of: (r) => r.quiet.running.own, digits: 1 },
  { label: "without any push: longest first connection, ms", of: (r) => r.quiet.fresh.own, digits: 1 },
  { label: "without any push: core withheld by the machine, ms", of: (r) => r.quiet.machineMs, digits: 1 },
];

function stalls(of: (result: SizeResult) => PodTraffic): Figure[] {
  return [
    limitedStall("longest wait of a running connection meanwhile, ms", (r) => of(r).running.own, RUNNING_LIMIT_MS),
    limitedStall("longest first connection meanwhile, ms", (r) => of(r).fresh.own, FIRST_LIMIT_MS),
    {
      label: "the same two with the machine's share, ms",
      of: (r) => of(r).running.max,
      and: (r) => of(r).fresh.max,
      digits: 1,
    },
    { label: "core withheld by the machine meanwhile, ms", of: (r) => of(r).machineMs, digits: 1 },
  ];
}

function limitedStall(label: string, of: Figure["of"], limitMs: number): Figure {
  return { label, of, digits: 1, limit: { 1_000: limitMs, 10_000: limitMs, 50_000: limitMs } };
}

function valueOf(of: Figure["of"], build: BuildResult, workloads: number): number {
  return median(build.sizes.filter((result) => result.workloads === workloads).map(of));
}

/** True when no limit is exceeded and no connection failed. */
export function holds(results: readonly BuildResult[]): boolean {
  return results.every((build) =>
    build.sizes.every((result) => failuresOf(result) === 0) &&
    FIGURES.every((figure) =>
      Object.entries(figure.limit ?? {}).every(([workloads, limit]) => {
        const value = valueOf(figure.of, build, Number(workloads));
        return Number.isNaN(value) || value <= limit;
      })
    )
  );
}

function failuresOf({ quiet, applied, replaced }: SizeResult): number {
  return quiet.failures + applied.traffic.failures + replaced.traffic.failures;
}

export function markdown(
  results: readonly BuildResult[],
  machine: Machine,
  versions: Readonly<Record<string, string>>,
  load: number,
): string {
  const sizes = [...new Set(results.flatMap((build) => build.sizes.map(({ workloads }) => workloads)))];
  const rounds = results[0].base.length;
  const header = ["figure", ...results.flatMap(({ name }) => sizes.map((size) => `${name} ${size}`)), "limit"];
  const rows = FIGURES.map((figure) => [
    figure.label,
    ...results.flatMap((build) =>
      sizes.map((size) => {
        const value = valueOf(figure.of, build, size);
        if (Number.isNaN(value)) return "";
        const limit = figure.limit?.[size];
        const over = limit !== undefined && value > limit ? " **over**" : "";
        const second = figure.and === undefined ? "" : `, ${valueOf(figure.and, build, size).toFixed(figure.digits)}`;
        return value.toFixed(figure.digits) + second + over;
      })
    ),
    limitText(figure),
  ]);
  const base = results.map(({ name, base }) =>
    `${name} ${(median(base.map(({ kib }) => kib)) / 1024).toFixed(1)} MB, ready after ${
      median(base.map(({ readyMs }) => readyMs)).toFixed(0)
    } ms`
  );
  const failures = results.flatMap((build) => build.sizes).reduce((sum, result) => sum + failuresOf(result), 0);
  return [
    "# What a mesh costs a ztunnel",
    "",
    `\`deno task bench:xds\`: medians of ${rounds} round${
      rounds === 1 ? "" : "s"
    }. ${machine.cpu}, ${machine.cores} cores, ` +
    `Linux ${machine.kernel}, ${versions["deno"]}, Bun ${versions["bun"]}; load average at the end ${load}.`,
    "",
    "One ztunnel serves two pods on a node; istiod, node agent, client and application run on the same cores. The running connection is",
    "asked every millisecond through an HBONE tunnel; each first connection goes to an address that nobody asked for before. Memory",
    `is RSS above that of the same ztunnel with its own two pods alone: ${base.join("; ")}.`,
    `Failed connections: ${failures}.`,
    "Waits are without the time at which the machine itself withheld a core, which a process of real-time priority on each core notes.",
    "",
    table([header, header.map(() => "---"), ...rows]),
  ].join("\n");
}

function limitText(figure: Figure): string {
  const limits = Object.entries(figure.limit ?? {});
  if (limits.length === 0) return "";
  if (limits.length > 1) return `≤ ${limits[0][1]}`;
  return `≤ ${limits[0][1]} at ${limits[0][0]}`;
}

/** Padded, so that it reads as well in a terminal. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) => {
    const cells = row.map((text, column) => text === "---" ? "-".repeat(widths[column]) : text.padEnd(widths[column]));
    return `| ${cells.join(" | ")} |`;
  }).join("\n") + "\n";
}
