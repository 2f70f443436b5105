/**
 * istio.stats, waypoint.md 6.1: what a chain's requests and connections add to Istio's standard metrics. Labels are resolved once for each pair of
 * sides and outcome; a request then costs two look-ups and a few array stores.
 */
import type { Family, Registry } from "../../telemetry/registry.ts";
import type { FamilySpec } from "../../telemetry/metric_family.ts";
import { isGrpc } from "../engine/local_answer.ts";
import type { RequestContext } from "../engine/request_context.ts";
import type { FormatFacts } from "../format/facts.ts";
import type { StatsSpec, WorkloadSpec } from "../spec/mod.ts";
import type { UpstreamHost } from "../upstream/upstream.ts";
import { customFamily, HTTP_METRICS, type HttpMetric, TCP_METRICS } from "./istio_families.ts";
import { labelsOf, pairKey, Sides, unknownLabels } from "./istio_labels.ts";
import { type Expressions, MetricPlan } from "./istio_overrides.ts";
import { type SeriesSet, SeriesTable } from "./istio_series.ts";
import { requestFormatFacts } from "./request_facts.ts";

const HTTP_NAMES = Object.keys(HTTP_METRICS) as HttpMetric[];
const TCP_NAMES = Object.keys(TCP_METRICS);

export interface IstioStatsOptions {
  readonly registry: Registry;
  readonly peers: (ip: string) => WorkloadSpec | undefined;
  readonly expressions: Expressions;
  readonly full: () => void;
}

/** Of one worker. */
export class IstioStats {
  readonly #options: IstioStatsOptions;
  readonly #families = new Map<string, Family>();
  /** By what is configured: most chains of a waypoint have the same. */
  readonly #http = new Map<string, { readonly stats: HttpStats; readonly table: SeriesTable }>();
  readonly #tcp = new Map<string, { readonly stats: TcpStats; readonly table: SeriesTable }>();
  readonly sides: Sides;

  constructor(options: IstioStatsOptions) {
    this.#options = options;
    this.sides = new Sides(options.peers, options.full);
    for (const spec of [...Object.values(HTTP_METRICS), ...Object.values(TCP_METRICS)]) this.#family(spec);
  }

  /** Every family that was ever used, for a registry that merges. */
  get families(): readonly FamilySpec[] {
    return [...this.#families.values()].map(({ spec }) => spec);
  }

  http(spec: StatsSpec): HttpStats {
    const key = JSON.stringify(spec);
    const known = this.#http.get(key);
    if (known !== undefined) return known.stats;
    const { registry, expressions, full } = this.#options;
    const custom = spec.definitions.map(({ name, value, type }) => ({
      name,
      family: this.#family(customFamily(name, type)),
      value: expressions.value(value),
    }));
    const families = [...HTTP_NAMES.map((name) => this.#family(HTTP_METRICS[name])), ...custom.map((c) => c.family)];
    const table = new SeriesTable({ registry, families, full });
    const plans = [...HTTP_NAMES, ...custom.map(({ name }) => name)].map((name) =>
      new MetricPlan(name, spec.metrics, expressions)
    );
    const stats = new HttpStats(spec, this.sides, registry, families, table, plans, custom);
    this.#http.set(key, { stats, table });
    return stats;
  }

  tcp(spec: StatsSpec): TcpStats {
    const key = JSON.stringify(spec);
    const known = this.#tcp.get(key);
    if (known !== undefined) return known.stats;
    const { registry, expressions, full } = this.#options;
    const families = Object.values(TCP_METRICS).map((family) => this.#family(family));
    const table = new SeriesTable({ registry, families, full });
    const plans = TCP_NAMES.map((name) => new MetricPlan(name, spec.metrics, expressions));
    const stats = new TcpStats(this.sides, registry, table, plans);
    this.#tcp.set(key, { stats, table });
    return stats;
  }

  /** Now and then: series that nobody met for long are given up. */
  sweep(nowMs: number): void {
    this.sides.sweep(nowMs);
    for (const kept of [this.#http, this.#tcp]) {
      for (const [key, { table }] of kept) {
        table.sweep(nowMs);
        // A chain that still has it goes on with it; the next one makes its own.
        if (table.size === 0) kept.delete(key);
      }
    }
  }

  /** Two chains may define one name; the first says of what type it is. */
  #family(spec: FamilySpec): Family {
    let family = this.#families.get(spec.name);
    if (family === undefined) this.#families.set(spec.name, family = this.#options.registry.register(spec));
    return family;
  }
}

/** Messages of one call that were counted before its end. */
export interface Streamed {
  requests: number;
  responses: number;
}

export class HttpStats {
  readonly #spec: StatsSpec;
  readonly #sides: Sides;
  readonly #registry: Registry;
  readonly #families: readonly Family[];
  readonly #table: SeriesTable;
  readonly #plans: readonly MetricPlan[];
  readonly #custom: readonly { readonly value: (facts: FormatFacts) => unknown }[];
  readonly #isDynamic: boolean;
  /** Expressions are asked at each request. */
  readonly needsFacts: boolean;

  constructor(
    spec: StatsSpec,
    sides: Sides,
    registry: Registry,
    families: readonly Family[],
    table: SeriesTable,
    plans: readonly MetricPlan[],
    custom: readonly { readonly value: (facts: FormatFacts) => unknown }[],
  ) {
    this.#spec = spec;
    this.#sides = sides;
    this.#registry = registry;
    this.#families = families;
    this.#table = table;
    this.#plans = plans;
    this.#custom = custom;
    this.#isDynamic = plans.some(({ isDynamic }) => isDynamic);
    this.needsFacts = this.#isDynamic || custom.length > 0;
  }

  /** A request is over. */
  finished(
    context: RequestContext,
    facts: FormatFacts | undefined,
    nowMs: number,
    streamed: Streamed | undefined,
  ): void {
    const set = this.#find(context, facts, nowMs);
    const table = this.#table;
    const { bytes } = context.exchange;
    const { startedAtMs, endedAtMs = nowMs } = context.facts;
    const registry = this.#registry;
    const families = this.#families;
    let slot = table.slot(set, 0);
    if (slot >= 0) registry.add(slot, 1);
    // Whole milliseconds, as Envoy has them: sums stay comparable.
    slot = table.slot(set, 1);
    if (slot >= 0) registry.observe(families[1], slot, Math.floor(endedAtMs - startedAtMs));
    slot = table.slot(set, 2);
    if (slot >= 0) registry.observe(families[2], slot, bytes.received + bytes.headReceived);
    slot = table.slot(set, 3);
    if (slot >= 0) registry.observe(families[3], slot, bytes.sent + bytes.headSent);
    this.#messages(context, set, streamed);
    if (facts === undefined) return;
    for (let i = 0; i < this.#custom.length; i++) this.#addCustom(HTTP_NAMES.length + i, set, facts);
  }

  /** Messages of a call that goes on, since the last time. */
  streaming(context: RequestContext, facts: FormatFacts, nowMs: number, streamed: Streamed): void {
    const { requestMessages, responseMessages } = context.facts;
    if (requestMessages === streamed.requests && responseMessages === streamed.responses) return;
    this.#messages(context, this.#find(context, facts, nowMs), streamed);
    streamed.requests = requestMessages;
    streamed.responses = responseMessages;
  }

  #messages(context: RequestContext, set: SeriesSet, streamed: Streamed | undefined): void {
    const requests = context.facts.requestMessages - (streamed?.requests ?? 0);
    const responses = context.facts.responseMessages - (streamed?.responses ?? 0);
    if (requests > 0) this.#add(set, 4, requests);
    if (responses > 0) this.#add(set, 5, responses);
  }

  #add(set: SeriesSet, index: number, amount: number): void {
    const slot = this.#table.slot(set, index);
    if (slot >= 0) this.#registry.add(slot, amount);
  }

  #addCustom(index: number, set: SeriesSet, facts: FormatFacts): void {
    const value = Number(this.#custom[index - HTTP_NAMES.length].value(facts) ?? NaN);
    if (!Number.isFinite(value)) return;
    const slot = this.#table.slot(set, index);
    if (slot < 0) return;
    const family = this.#families[index];
    if (family.spec.type === "histogram") this.#registry.observe(family, slot, value);
    else if (family.spec.type === "gauge") this.#registry.set(slot, value);
    else if (value > 0) this.#registry.add(slot, value);
  }

  #find(context: RequestContext, facts: FormatFacts | undefined, nowMs: number): SeriesSet {
    const { connection, facts: { host, status, grpcStatus } } = context;
    const source = this.#sides.source(connection);
    const fallback = this.#spec.hostHeaderFallback ? context.original.authority : "";
    const destination = this.#sides.destination(host, fallback, nowMs);
    const pair = pairKey(source, destination);
    const isCall = isGrpc(context.head);
    const plain = !isCall && context.flags.size === 0;
    let rest: string | number = plain ? status : `${status}/${[...context.flags].join(",")}/${isCall}/${grpcStatus}`;
    if (this.#isDynamic && facts !== undefined) {
      for (const plan of this.#plans) if (plan.isDynamic) rest += plan.variant(facts);
    }
    const found = this.#table.find(pair, rest);
    if (found !== undefined) {
      found.usedAtMs = nowMs;
      return found;
    }
    const labels = labelsOf(source, destination, {
      request_protocol: isCall ? "grpc" : "http",
      response_code: String(status),
      grpc_response_status: isCall ? grpcStatus : "",
      response_flags: plain ? "-" : [...context.flags].join(",") || "-",
    });
    return this.#table.create(
      pair,
      rest,
      nowMs,
      (index) => this.#plans[index].apply(labels, facts ?? requestFormatFacts(context, nowMs)),
      () => unknownLabels(labels),
    );
  }
}

export class TcpStats {
  readonly #sides: Sides;
  readonly #registry: Registry;
  readonly #table: SeriesTable;
  readonly #plans: readonly MetricPlan[];

  constructor(sides: Sides, registry: Registry, table: SeriesTable, plans: readonly MetricPlan[]) {
    this.#sides = sides;
    this.#registry = registry;
    this.#table = table;
    this.#plans = plans;
  }

  /** Adds what happened since the last time. */
  report(facts: FormatFacts, host: UpstreamHost | undefined, added: TcpAdded, nowMs: number): void {
    const set = this.#find(facts, host, nowMs);
    const amounts = [added.opened, added.closed, added.sentBytes, added.receivedBytes];
    for (let i = 0; i < amounts.length; i++) {
      if (amounts[i] <= 0) continue;
      const slot = this.#table.slot(set, i);
      if (slot >= 0) this.#registry.add(slot, amounts[i]);
    }
  }

  #find(facts: FormatFacts, host: UpstreamHost | undefined, nowMs: number): SeriesSet {
    const source = this.#sides.source(facts.connection);
    const destination = this.#sides.destination(host, "", nowMs);
    const pair = pairKey(source, destination);
    let rest = facts.responseFlags;
    for (const plan of this.#plans) if (plan.isDynamic) rest += plan.variant(facts);
    const found = this.#table.find(pair, rest);
    if (found !== undefined) {
      found.usedAtMs = nowMs;
      return found;
    }
    const labels = labelsOf(source, destination, {
      request_protocol: "tcp",
      response_flags: facts.responseFlags === "" ? "-" : facts.responseFlags,
    });
    return this.#table.create(
      pair,
      rest,
      nowMs,
      (index) => this.#plans[index].apply(labels, facts),
      () => unknownLabels(labels),
    );
  }
}

export interface TcpAdded {
  readonly opened: number;
  readonly closed: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}
