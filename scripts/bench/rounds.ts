/**
 * The course of the benchmark: memory on fresh pairs, warm-up, then rounds in which every figure is taken from every pair
 * in turn before the next figure.
 */
import type { Mode, PairFigures } from "./pair.ts";
import { residentKib } from "./proc.ts";
import type { Target } from "./targets.ts";

export interface RoundOptions {
  readonly rounds: number;
  /** Of each measurement. */
  readonly seconds: number;
  readonly megabytes: number;
  readonly idleConnections: number;
  readonly progress: (line: string) => void;
  /** Called while the given measurement of a target runs; `--profile` hooks in here. */
  readonly during?: (target: Target, step: string) => void;
}

/** One measurement as it was taken; `seq` counts rounds from 1, 0 is before them. */
export interface Measurement {
  readonly target: string;
  readonly seq: number;
  readonly step: string;
  readonly figures: PairFigures;
}

/** Under a load that saturates it, a pair alone on its core gets more of it than this. */
const UNDISTURBED = 0.9;

/** Requests and connections run different code: what a proxy that has been running for a while has compiled, it has compiled before it is measured. */
const WARM_UP: ReadonlySet<string> = new Set(["64 connections", "new connections"]);

interface Step {
  readonly name: string;
  readonly mode: Mode;
  readonly flags: Readonly<Record<string, number>>;
  /** The proxies are meant to be the bottleneck. */
  readonly saturates: boolean;
  /** How the figures of this step enter the table. */
  readonly table: (figures: PairFigures) => Readonly<Record<string, number | undefined>>;
}

function steps({ seconds, megabytes }: RoundOptions): readonly Step[] {
  return [
    {
      name: "64 connections",
      saturates: true,
      mode: "keepalive",
      flags: { connections: 64, seconds, warmup: 0.5 },
      table: (f) => ({
        rate64: f.requestsPerSecond,
        p50at64: f.p50Us,
        p99at64: f.p99Us,
        cpuPerRequest: f.cpuUsPerRequest,
      }),
    },
    {
      name: "1 connection",
      saturates: false,
      mode: "keepalive",
      flags: { connections: 1, seconds, warmup: 0.5 },
      table: (f) => ({ rate1: f.requestsPerSecond, p50at1: f.p50Us, p99at1: f.p99Us }),
    },
    {
      name: "new connections",
      saturates: true,
      mode: "newconn",
      flags: { connections: 16, seconds, warmup: 0.5 },
      table: (f) => ({ cpuPerConnection: f.cpuUsPerConnection }),
    },
    {
      name: "lone new connections",
      saturates: false,
      mode: "newconn",
      flags: { connections: 1, seconds, warmup: 0.5 },
      table: (f) => ({ cpuPerLoneConnection: f.cpuUsPerConnection }),
    },
    {
      name: "bulk",
      saturates: true,
      mode: "bulk",
      flags: { connections: 1, megabytes },
      table: (f) => ({ cpuPerGb: f.cpuSecondsPerGb }),
    },
  ];
}

const KIB_PER_MB = 1e6 / 1024;

function pairMb(kib: readonly number[] | undefined): number | undefined {
  return kib?.reduce((sum, value) => sum + value, 0)! / KIB_PER_MB;
}

/** Runs everything; calls `record` for each measurement and `sample` for each value of the table. */
export async function runRounds(
  targets: readonly Target[],
  options: RoundOptions,
  record: (measurement: Measurement) => void,
  sample: (target: string, figure: string, value: number) => void,
): Promise<void> {
  const take = async (target: Target, seq: number, step: Step): Promise<void> => {
    if (seq === 1) options.during?.(target, step.name);
    const figures = await target.measure(step.mode, step.flags);
    if (step.saturates && (figures.coreShare ?? 1) < UNDISTURBED) {
      const percent = Math.round((figures.coreShare ?? 0) * 100);
      options.progress(`disturbed: ${target.name} had only ${percent} % of its core (${step.name}, round ${seq})`);
    }
    record({ target: target.name, seq, step: step.name, figures });
    for (const [figure, value] of Object.entries(step.table(figures))) {
      if (value !== undefined) sample(target.name, figure, value);
    }
  };
  const direct = await targets[0].measureDirect(options.seconds / 2);
  record({ target: "none", seq: 0, step: "64 connections", figures: direct });
  options.progress(
    `generator and backend alone: ${Math.round(direct.requestsPerSecond ?? 0)} requests/s on their core`,
  );
  for (const target of targets) await take(target, 0, idleStep(options.idleConnections));
  options.progress("memory measured; warming up");
  for (const step of steps(options)) {
    if (!WARM_UP.has(step.name)) continue;
    for (const target of targets) await take(target, 0, { ...step, name: `warm-up, ${step.name}`, table: () => ({}) });
  }
  for (let round = 1; round <= options.rounds; round++) {
    for (const step of steps(options)) {
      // Another one begins each round: none is always measured after the same neighbour.
      for (let i = 0; i < targets.length; i++) await take(targets[(i + round) % targets.length], round, step);
      options.progress(`round ${round} of ${options.rounds}: ${step.name}`);
    }
  }
  for (const target of targets) {
    const rssAfterKib = target.pids.map(residentKib);
    record({ target: target.name, seq: options.rounds, step: "after all load", figures: { rssAfterKib } });
    sample(target.name, "rssLoaded", pairMb(rssAfterKib)!);
  }
}

function idleStep(connections: number): Step {
  return {
    name: "idle",
    saturates: false,
    mode: "idle",
    flags: { connections, settle: 2 },
    table: (f) => ({ rssIdle: pairMb(f.rssBeforeKib), rss1000: pairMb(f.rssOpenKib) }),
  };
}
