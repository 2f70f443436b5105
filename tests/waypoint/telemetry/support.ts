/** A worker's telemetry with everything it gives away caught. */
import { Registry, renderOpenMetrics } from "../../../src/telemetry/mod.ts";
import type { RequestContext } from "../../../src/waypoint/engine/request_context.ts";
import type { HttpChainSpec, StatsSpec, TracingSpec } from "../../../src/waypoint/spec/mod.ts";
import { MainTelemetry } from "../../../src/waypoint/telemetry/main_telemetry.ts";
import type { TelemetryMessage } from "../../../src/waypoint/telemetry/messages.ts";
import { WorkerTelemetry } from "../../../src/waypoint/telemetry/telemetry.ts";
import { CLIENT, ENVIRONMENT } from "../format/support.ts";
import { TestTiming } from "../support/memory_stream.ts";
import { chain, forwardTo, route, TestEngine } from "../support/test_engine.ts";

export const STATS: StatsSpec = { hostHeaderFallback: true, tcpReportingMs: 5000, metrics: [], definitions: [] };
export const TRACING: TracingSpec = {
  randomSampling: 100,
  clientSampling: 100,
  overallSampling: 100,
  maxPathTagLength: 256,
  tags: [],
  provider: undefined,
};

export function simpleChain(changes: Partial<HttpChainSpec> = {}): HttpChainSpec {
  return { ...chain([route({ name: "default", operation: "b.demo:80/*", action: forwardTo("b") })]), ...changes };
}

export interface Caught {
  readonly telemetry: WorkerTelemetry;
  readonly timing: TestTiming;
  readonly lines: { readonly path: string; readonly line: string }[];
  readonly messages: TelemetryMessage[];
  readonly warnings: string[];
  /** Work that a worker does while its reactor rests. */
  readonly rests: (() => Promise<void>)[];
  /** What a scrape of the main thread shows, of this metric. */
  scrape(name: string): string[];
}

export function caught(options: { readonly timing?: TestTiming; readonly chances?: number[] } = {}): Caught {
  const timing = options.timing ?? new TestTiming();
  const lines: { path: string; line: string }[] = [];
  const messages: TelemetryMessage[] = [];
  const warnings: string[] = [];
  const rests: (() => Promise<void>)[] = [];
  let digits = 0;
  const telemetry = new WorkerTelemetry({
    timing,
    log: { enabled: () => true, log: (_level, _target, text) => void warnings.push(text) },
    source: "worker 1",
    hostname: "waypoint-1",
    localPrincipal: "spiffe://cluster.local/ns/demo/sa/waypoint",
    nodeId: "waypoint~10.0.0.1~wp.demo~demo.svc.cluster.local",
    node: {},
    env: ENVIRONMENT.env,
    peers: ENVIRONMENT.peers!,
    clusters: () => undefined,
    random: () => options.chances?.shift() ?? 0.5,
    hex: (count) => String(++digits).padStart(count, "0"),
    openLog: (path) => (line) => void lines.push({ path, line }),
    post: (message) => void messages.push(structuredClone(message)),
    rest: (work) => void rests.push(work),
    droppedLines: () => 0,
    full: () => void warnings.push("full"),
  });
  const registry = new Registry({ nowMs: () => 0, retainMs: 0 });
  const main = new MainTelemetry({ registry, exporter: { received() {} }, version: "1.31.0" });
  let merged = 0;
  return {
    telemetry,
    timing,
    lines,
    messages,
    warnings,
    rests,
    scrape(name) {
      telemetry.report().next();
      for (const message of messages.slice(merged)) main.received(message);
      merged = messages.length;
      return renderOpenMetrics(registry).split("\n").filter((line) => line.startsWith(name));
    },
  };
}

/** Sends one request through an engine with the telemetry's own filter, and gives the finished context, told to the telemetry. */
export function pass(
  { telemetry }: Caught,
  spec: HttpChainSpec,
  options: {
    readonly headers?: readonly string[];
    readonly status?: number;
    readonly authority?: string;
    readonly before?: (context: RequestContext) => void;
    /** What the endpoint saw. */
    readonly seen?: (headers: readonly string[]) => void;
    readonly answer?: readonly string[];
  } = {},
): RequestContext {
  const filter = telemetry.filter(spec);
  const engine = new TestEngine(spec, { filters: filter === undefined ? [] : [filter] });
  engine.onRequest = () => void (engine.timing.nowMs += 12);
  const { authority = "b.demo", headers = [] } = options;
  engine.request({ method: "POST", path: "/a?b=c", authority, headers: [...headers] }, "hello");
  const [first] = engine.seen;
  if (first !== undefined) {
    options.seen?.(first.exchange.head.headers);
    engine.answer(first, options.status ?? 200, "world!", [...options.answer ?? []]);
  }
  const [context] = engine.finished;
  Object.assign(context, { connection: { ...context.connection, downstreamPeer: CLIENT } });
  options.before?.(context);
  telemetry.requestFinished(context);
  return context;
}
