/**
 * Measures one pair of proxies that is already running: CPU of the given processes, and what a client sees.
 *
 *   taskset -c 1 bun scripts/bench/backend.ts --listen 127.0.0.1:8080 &
 *   (start both hops pinned to core 0, the second one forwarding to the backend)
 *   taskset -c 1 bun scripts/bench/pair.ts --pids 12,13 --target 127.0.0.1:15001 --connections 64 --seconds 5
 *
 * --mode keepalive  requests/s, p50 and p99 latency, CPU µs per request (default)
 * --mode newconn    CPU µs per connection that carries one request; --connections are under way at a time (default 16)
 * --mode bulk       CPU seconds per GB (10^9 bytes) received; --megabytes per connection (default 1000), one connection
 * --mode idle       RSS before, with --connections idle ones open, and after they closed; --settle seconds between
 * --pids may be left out: the client's figures alone. --json prints one line of JSON. Any wrong answer ends it with 1.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { ClientLoop, createRecorder, nowUs } from "./load.ts";
import { cpuBetween, residentKib, sampleCpu } from "./proc.ts";

export type Mode = "keepalive" | "newconn" | "bulk" | "idle";

export interface PairOptions {
  readonly mode: Mode;
  /** Processes whose CPU and memory are counted. */
  readonly pids: readonly number[];
  /** "ip:port" the client connects to: the first hop, or an address that is redirected to it. */
  readonly target: string;
  readonly connections: number;
  readonly seconds: number;
  readonly warmupSeconds: number;
  /** Bulk: decimal megabytes each connection receives. */
  readonly megabytes: number;
  /** Idle: seconds between the last change and the reading. */
  readonly settleSeconds: number;
}

/** Figures of one measurement; those that a mode does not give are left out. */
export interface PairFigures {
  readonly requestsPerSecond?: number;
  readonly p50Us?: number;
  readonly p99Us?: number;
  readonly cpuUsPerRequest?: number;
  readonly connectionsPerSecond?: number;
  readonly cpuUsPerConnection?: number;
  readonly cpuSecondsPerGb?: number;
  readonly gigabitsPerSecond?: number;
  /** Share of one core the processes used in the measurement: near 1 when they were the bottleneck. */
  readonly coreShare?: number;
  /** KiB per process, in the order of `pids`. */
  readonly rssBeforeKib?: readonly number[];
  readonly rssOpenKib?: readonly number[];
  readonly rssAfterKib?: readonly number[];
}

/** Blocks until the measurement is done. Throws on any error or wrong answer. */
export function measurePair(options: PairOptions): PairFigures {
  switch (options.mode) {
    case "keepalive":
      return measureRequests(options, false);
    case "newconn":
      return measureRequests(options, true);
    case "bulk":
      return measureBulk(options);
    case "idle":
      return measureIdle(options);
  }
}

function measureRequests(options: PairOptions, closeEach: boolean): PairFigures {
  const { histogram, record } = createRecorder();
  const next = closeEach ? "reconnect" : "again";
  const loop = new ClientLoop({
    target: options.target,
    path: "/",
    closeEach,
    onAnswer: (latencyUs) => {
      record(latencyUs);
      return next;
    },
  });
  for (let i = 0; i < options.connections; i++) loop.connect();
  const warmUntil = nowUs() + options.warmupSeconds * 1e6;
  loop.run(() => nowUs() >= warmUntil);
  histogram.reset();
  const before = options.pids.map(sampleCpu);
  const begun = nowUs();
  const until = begun + options.seconds * 1e6;
  loop.run(() => nowUs() >= until);
  const elapsedUs = nowUs() - begun;
  const cpuUs = cpuBetween(before, options.pids.map(sampleCpu)) / 1000;
  loop.dispose();
  const common = {
    p50Us: histogram.percentile(0.5),
    p99Us: histogram.percentile(0.99),
    coreShare: cpuUs / elapsedUs,
  };
  const rate = histogram.count / elapsedUs * 1e6;
  return closeEach
    ? { ...common, connectionsPerSecond: rate, cpuUsPerConnection: cpuUs / histogram.count }
    : { ...common, requestsPerSecond: rate, cpuUsPerRequest: cpuUs / histogram.count };
}

function measureBulk(options: PairOptions): PairFigures {
  let answers = 0;
  const loop = new ClientLoop({
    target: options.target,
    path: `/bytes/${options.megabytes * 1_000_000}`,
    closeEach: false,
    onAnswer: () => {
      answers++;
      return "close";
    },
  }, 256 * 1024);
  const before = options.pids.map(sampleCpu);
  const begun = nowUs();
  for (let i = 0; i < options.connections; i++) loop.connect();
  loop.run(() => answers === options.connections);
  const elapsedUs = nowUs() - begun;
  const cpuUs = cpuBetween(before, options.pids.map(sampleCpu)) / 1000;
  loop.dispose();
  const gigabytes = options.megabytes * options.connections / 1000;
  return {
    cpuSecondsPerGb: cpuUs / 1e6 / gigabytes,
    gigabitsPerSecond: gigabytes * 8 / (elapsedUs / 1e6),
    coreShare: cpuUs / elapsedUs,
  };
}

/** Connections opened at the same time; more would overflow accept queues and measure SYN retries. */
const OPENING_AT_ONCE = 32;

function measureIdle(options: PairOptions): PairFigures {
  let held = 0;
  let begun = 0;
  const loop = new ClientLoop({
    target: options.target,
    path: "/",
    closeEach: false,
    onAnswer: () => {
      held++;
      if (begun < options.connections) {
        begun++;
        loop.connect();
      }
      return "hold";
    },
  });
  const rssBeforeKib = options.pids.map(residentKib);
  while (begun < Math.min(OPENING_AT_ONCE, options.connections)) {
    begun++;
    loop.connect();
  }
  loop.run(() => held === options.connections);
  settle(loop, options.settleSeconds);
  const rssOpenKib = options.pids.map(residentKib);
  if (loop.open !== options.connections) throw new Error("idle: a connection was closed");
  loop.closeAll();
  settle(loop, options.settleSeconds);
  const rssAfterKib = options.pids.map(residentKib);
  loop.dispose();
  return { rssBeforeKib, rssOpenKib, rssAfterKib };
}

/** Lets time pass while watching the connections: one that is closed by the proxy is an error. */
function settle(loop: ClientLoop, seconds: number): void {
  const until = nowUs() + seconds * 1e6;
  loop.run(() => nowUs() >= until, Infinity);
}

const options = {
  mode: { type: "string", default: "keepalive" },
  pids: { type: "string", default: "" },
  target: { type: "string", default: "127.0.0.1:15001" },
  connections: { type: "string" },
  seconds: { type: "string", default: "5" },
  warmup: { type: "string", default: "1" },
  megabytes: { type: "string", default: "1000" },
  settle: { type: "string", default: "2" },
  json: { type: "boolean", default: false },
} as const;

const defaultConnections: Readonly<Record<Mode, number>> = { keepalive: 64, newconn: 16, bulk: 1, idle: 1000 };

function main(): void {
  const { values } = parseArgs({ options });
  const mode = values.mode as Mode;
  if (!(mode in defaultConnections)) throw new Error(`--mode: unknown mode "${values.mode}"`);
  const figures = measurePair({
    mode,
    pids: values.pids === "" ? [] : values.pids.split(",").map(Number),
    target: values.target,
    connections: Number(values.connections ?? defaultConnections[mode]),
    seconds: Number(values.seconds),
    warmupSeconds: Number(values.warmup),
    megabytes: Number(values.megabytes),
    settleSeconds: Number(values.settle),
  });
  if (values.json) return console.log(JSON.stringify(figures));
  for (const [name, value] of Object.entries(figures)) {
    console.log(`${name.padEnd(22)} ${typeof value === "number" ? Number(value.toPrecision(5)) : value}`);
  }
}

if (import.meta.main) {
  try {
    main();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
