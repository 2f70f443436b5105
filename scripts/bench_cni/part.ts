/** What the parts of `deno task bench:cni` have in common: each measures something of its own and gives rows of one table. */

export interface Figure {
  readonly label: string;
  readonly unit: string;
  /** By subject, such as `compiled` or `istio`. */
  readonly values: Readonly<Record<string, number>>;
  /** Highest value, of these subjects. */
  readonly limit?: { readonly value: number; readonly subjects: readonly string[] };
}

export interface PartResult {
  /** Of the section. */
  readonly title: string;
  /** Markdown below the title: what the table shows. */
  readonly text: string;
  /** Columns of the table, in order. */
  readonly subjects: readonly string[];
  readonly figures: readonly Figure[];
  /** Every single measurement, for the JSON file. */
  readonly samples: unknown;
}

export interface PartContext {
  /** Empty, and the part's own; removed after a run that succeeded. */
  readonly directory: string;
  /** The binary that `deno task build` makes, built anew. */
  readonly binary: string;
  readonly quick: boolean;
  /** Subjects to measure; undefined for all. */
  readonly only: ReadonlySet<string> | undefined;
  say(line: string): void;
}

/** Runs in a network namespace of its own, with the loopback up. */
export type BenchPart = (context: PartContext) => Promise<PartResult>;
