/**
 * Telemetry of a data-plane worker: access logs, Istio's metrics, spans and Envoy's counts, all made of the facts of what is over. What a chain asks
 * for is compiled once, when it comes; a chain that asks for nothing costs nothing.
 */
import type { Logger } from "../../telemetry/log.ts";
import { Registry } from "../../telemetry/registry.ts";
import { Timer } from "../../net/reactor.ts";
import type { HttpFilter, RequestContext } from "../engine/request_context.ts";
import { CelEngine } from "../format/cel_engine.ts";
import type { FormatEnvironment } from "../format/environment.ts";
import type { FormatFacts } from "../format/facts.ts";
import type { Timing } from "../http/timing.ts";
import type { ChainSpec, HttpChainSpec, TcpChainSpec, TerminateSpec, WorkloadSpec } from "../spec/mod.ts";
import type { ClusterSet } from "../upstream/clusters.ts";
import type { ConnectRefusal, MessageRefusal, TcpFacts, WorkerHooks } from "../worker/hooks.ts";
import { type AccessLogDeps, type AccessLogger, compileAccessLogs } from "./access_logger.ts";
import { Batches } from "./batches.ts";
import { HttpTelemetry } from "./http_telemetry.ts";
import { IstioStats } from "./istio_stats.ts";
import type { TelemetryMessage } from "./messages.ts";
import { connectFormatFacts, messageFormatFacts } from "./refusal_facts.ts";
import { TcpTelemetry } from "./tcp_telemetry.ts";
import type { Trace } from "./tracing.ts";
import { clusterCounts, HttpCounts, RbacCounts, TcpCounts, type WorkerCounts } from "./worker_counts.ts";

export interface TelemetryOptions {
  readonly timing: Timing;
  readonly log: Logger;
  /** Names this worker's metrics: not two workers ever have the same. */
  readonly source: string;
  readonly hostname: string;
  readonly localPrincipal: string;
  readonly nodeId: string;
  /** Facts of the node for `node.…` of expressions. */
  readonly node: Readonly<Record<string, unknown>>;
  readonly env: (name: string) => string | undefined;
  readonly peers: (ip: string) => WorkloadSpec | undefined;
  /** For Envoy's counts; undefined in tests of other parts. */
  readonly clusters: () => Pick<ClusterSet, "all"> | undefined;
  random(): number;
  hex(digits: number): string;
  readonly openLog: (path: string) => (line: string) => void;
  readonly post: (message: TelemetryMessage) => void;
  /** Work that must be awaited, while the reactor rests (pause.ts). */
  readonly rest: (work: () => Promise<void>) => void;
  /** Lines that the logs have dropped so far. */
  readonly droppedLines: () => number;
  /** Label sets above the limit are counted together. */
  readonly full: () => void;
  /** Files of logs are written out. */
  readonly flushed?: () => void;
}

/** How often series and streams are looked through. */
const SWEEP_MS = 60_000;
const TARGET = "telemetry";

export class WorkerTelemetry implements WorkerHooks {
  /** For header changes too: all formats of a worker know the same. */
  readonly formats: FormatEnvironment;
  readonly rbac = new RbacCounts();
  readonly #options: TelemetryOptions;
  readonly #cel: CelEngine;
  readonly #registry = new Registry({ nowMs: () => performance.now(), retainMs: 0 });
  readonly #stats: IstioStats;
  readonly #batches: Batches;
  readonly #traces = new WeakMap<RequestContext, Trace>();
  readonly #http = new WeakMap<HttpChainSpec, HttpTelemetry>();
  readonly #tcp = new WeakMap<TcpChainSpec, TcpTelemetry>();
  readonly #terminate = new WeakMap<TerminateSpec, { readonly logger: AccessLogger | undefined }>();
  readonly #httpCounts = new Map<string, HttpCounts>();
  readonly #tcpCounts = new Map<string, TcpCounts>();
  readonly #sweep: Timer;
  #fullSets = 0;
  /** Requests come in rows of the same chain. */
  #lastChain: HttpChainSpec | undefined;
  #last: HttpTelemetry | undefined;

  constructor(options: TelemetryOptions) {
    this.#options = options;
    const { timing, log, peers, hostname, env, node } = options;
    this.#cel = new CelEngine({
      context: { node, peers },
      invalid: (expression, reason) =>
        log.log("warn", TARGET, "an expression cannot be evaluated; it has no value", { expression, error: reason }),
      wanted: () => options.rest(() => this.#cel.load()),
    });
    this.formats = {
      hostname,
      env,
      peers,
      traceId: (request) => this.#traces.get(request)?.traceId,
      ...this.#cel.formats,
    };
    this.#stats = new IstioStats({
      registry: this.#registry,
      peers,
      expressions: this.#cel,
      full: () => {
        this.#fullSets++;
        options.full();
      },
    });
    this.#batches = new Batches(timing, options.post);
    this.#sweep = new Timer({ expired: () => this.#keepHouse() });
    timing.setTimer(this.#sweep, SWEEP_MS);
  }

  /** The first filter of every chain: what must be known before the others run. Undefined where nothing must. */
  filter(spec: HttpChainSpec): HttpFilter | undefined {
    return this.#ofHttp(spec).filter;
  }

  // ---- what the worker tells

  configured(chains: readonly ChainSpec[], _removed: readonly string[], terminate: TerminateSpec | undefined): void {
    for (const chain of chains) {
      if (chain.kind === "http") this.#ofHttp(chain);
      else if (chain.kind === "tcp") this.#ofTcp(chain);
    }
    if (terminate !== undefined) this.#ofTerminate(terminate);
  }

  requestFinished(context: RequestContext): void {
    const { chain } = context;
    if (chain !== this.#lastChain || this.#last === undefined) {
      this.#lastChain = chain;
      this.#last = this.#ofHttp(chain);
    }
    this.#last.finished(context);
  }

  messageRefused(refusal: MessageRefusal): void {
    this.#ofHttp(refusal.chain).refused(refusal.status, messageFormatFacts(refusal, this.#options.timing.nowMs));
  }

  tcpOpened(facts: TcpFacts): void {
    this.#ofTcp(facts.chain).opened(facts);
  }

  tcpFinished(facts: TcpFacts): void {
    this.#ofTcp(facts.chain).finished(facts);
  }

  connectRefused(refusal: ConnectRefusal, terminate: TerminateSpec | undefined): void {
    if (terminate === undefined) return;
    const { logger } = this.#ofTerminate(terminate);
    logger?.(connectFormatFacts(refusal, this.#options.localPrincipal, this.#options.timing.nowMs));
  }

  *report(): Generator<WorkerCounts> {
    this.#postMetrics();
    const { clusters, droppedLines } = this.#options;
    yield {
      http: plain(this.#httpCounts),
      tcp: plain(this.#tcpCounts),
      rbac: { ...this.rbac.counts },
      clusters: [],
      dropped: { log_lines: droppedLines(), telemetry_records: this.#batches.dropped, metric_series: this.#fullSets },
    };
    for (const slice of clusterCounts([...clusters()?.all() ?? []])) {
      yield { http: {}, tcp: {}, rbac: {}, clusters: slice, dropped: {} };
    }
  }

  flush(): void {
    this.#batches.flush();
    this.#postMetrics();
    this.#options.flushed?.();
  }

  // ---- compiled once

  #ofHttp(spec: HttpChainSpec): HttpTelemetry {
    let telemetry = this.#http.get(spec);
    if (telemetry !== undefined) return telemetry;
    const { timing, random, hex, nodeId } = this.#options;
    telemetry = new HttpTelemetry(spec, {
      timing,
      logger: compileAccessLogs(spec.accessLogs, this.#logDeps()),
      stats: spec.stats && this.#stats.http(spec.stats),
      counts: counted(this.#httpCounts, spec.statPrefix, () => new HttpCounts()),
      traces: this.#traces,
      tracing: { formats: this.formats, random, hex, nodeId, spans: this.#batches.span },
    });
    this.#http.set(spec, telemetry);
    return telemetry;
  }

  #ofTcp(spec: TcpChainSpec): TcpTelemetry {
    let telemetry = this.#tcp.get(spec);
    if (telemetry !== undefined) return telemetry;
    telemetry = new TcpTelemetry(spec, {
      timing: this.#options.timing,
      logger: compileAccessLogs(spec.accessLogs, this.#logDeps()),
      stats: spec.stats && this.#stats.tcp(spec.stats),
      counts: counted(this.#tcpCounts, spec.name, () => new TcpCounts()),
    });
    this.#tcp.set(spec, telemetry);
    return telemetry;
  }

  #ofTerminate(spec: TerminateSpec): { readonly logger: AccessLogger | undefined } {
    let compiled = this.#terminate.get(spec);
    if (compiled === undefined) {
      compiled = { logger: compileAccessLogs(spec.accessLogs, this.#logDeps()) };
      this.#terminate.set(spec, compiled);
    }
    return compiled;
  }

  #logDeps(): AccessLogDeps {
    return {
      formats: this.formats,
      test: (expression) => this.#cel.test(expression),
      open: this.#options.openLog,
      record: this.#batches.record,
      ids: ({ request }: FormatFacts) => request && this.#traces.get(request),
      warn: (text) => this.#options.log.log("warn", TARGET, text),
    };
  }

  #postMetrics(): void {
    const snapshot = this.#registry.snapshot(this.#options.source);
    const { defined, slots, removed } = snapshot;
    if (defined.length === 0 && slots.length === 0 && removed.length === 0) return;
    this.#options.post({ kind: "metrics", families: this.#stats.families, snapshot });
  }

  #keepHouse(): void {
    const { timing } = this.#options;
    this.#stats.sweep(timing.nowMs);
    timing.setTimer(this.#sweep, SWEEP_MS);
  }
}

function counted<T>(counts: Map<string, T>, name: string, create: () => T): T {
  let found = counts.get(name);
  if (found === undefined) counts.set(name, found = create());
  return found;
}

function plain<T extends object>(counts: ReadonlyMap<string, T>): Record<string, Record<string, number>> {
  return Object.fromEntries([...counts].map(([name, values]) => [name, { ...values } as Record<string, number>]));
}
