/**
 * istio.stats, waypoint.md 6.1: what a chain's requests and connections add to Istio's standard metrics. Labels are resolved once for each pair of
 * sides and outcome; a request then costs two look-ups and a few array stores.
 */
import type { Family, Registry } from "../../telemetry/registry.ts";
import type { FamilySpec } from "../../telemetry/metric_family.ts";
import type { RequestContext } from "../engine/request_context.ts";
import type { FormatFacts } from "../format/facts.ts";
import { first } from "../http/fields.ts";
import type { StatsSpec, WorkloadSpec } from "../spec/mod.ts";
import type { UpstreamHost } from "../upstream/upstream.ts";
import { customFamily, HTTP_METRICS, type HttpMetric, LABELS, TCP_METRICS } from "./istio_families.ts";
import { pairKey, type Side, Sides } from "./istio_labels.ts";
import { type Expressions, type Labels, MetricPlan } from "./istio_overrides.ts";
import { type SeriesSet, SeriesTable } from "./istio_series.ts";

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
    this.sides = new Sides(options.peers);
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
  }

  /** A request is over. */
  finished(context: RequestContext, facts: () => FormatFacts, nowMs: number, streamed: Streamed | undefined): void {
    const set = this.#find(context, facts, nowMs);
    const { slots } = set;
    const { bytes } = context.exchange;
    const { startedAtMs, endedAtMs = nowMs } = context.facts;
    const registry = this.#registry;
    const families = this.#families;
    if (slots[0] >= 0) registry.add(slots[0], 1);
    // Whole milliseconds, as Envoy has them: sums stay comparable.
    if (slots[1] >= 0) registry.observe(families[1], slots[1], Math.floor(endedAtMs - startedAtMs));
    if (slots[2] >= 0) registry.observe(families[2], slots[2], bytes.received + bytes.headReceived);
    if (slots[3] >= 0) registry.observe(families[3], slots[3], bytes.sent + bytes.headSent);
    this.#messages(context, set, streamed);
    for (let i = 0; i < this.#custom.length; i++) this.#addCustom(HTTP_NAMES.length + i, slots, facts());
  }

  /** Messages of a call that goes on, since the last time. */
  streaming(context: RequestContext, facts: () => FormatFacts, nowMs: number, streamed: Streamed): void {
    const { requestMessages, responseMessages } = context.facts;
    if (requestMessages === streamed.requests && responseMessages === streamed.responses) return;
    this.#messages(context, this.#find(context, facts, nowMs), streamed);
    streamed.requests = requestMessages;
    streamed.responses = responseMessages;
  }

  #messages(context: RequestContext, { slots }: SeriesSet, streamed: Streamed | undefined): void {
    const requests = context.facts.requestMessages - (streamed?.requests ?? 0);
    const responses = context.facts.responseMessages - (streamed?.responses ?? 0);
    if (requests > 0 && slots[4] >= 0) this.#registry.add(slots[4], requests);
    if (responses > 0 && slots[5] >= 0) this.#registry.add(slots[5], responses);
  }

  #addCustom(index: number, slots: readonly number[], facts: FormatFacts): void {
    const slot = slots[index];
    const value = Number(this.#custom[index - HTTP_NAMES.length].value(facts) ?? NaN);
    if (slot < 0 || !Number.isFinite(value)) return;
    const family = this.#families[index];
    if (family.spec.type === "histogram") this.#registry.observe(family, slot, value);
    else if (family.spec.type === "gauge") this.#registry.set(slot, value);
    else if (value > 0) this.#registry.add(slot, value);
  }

  #find(context: RequestContext, facts: () => FormatFacts, nowMs: number): SeriesSet {
    const { connection, facts: { host, status, grpcStatus } } = context;
    const source = this.#sides.source(connection);
    const fallback = this.#spec.hostHeaderFallback ? context.original.authority : "";
    const destination = this.#sides.destination(host, fallback, nowMs);
    const pair = pairKey(source, destination);
    const isGrpc = first(context.head.headers, "content-type")?.startsWith("application/grpc") === true;
    const plain = !isGrpc && context.flags.size === 0;
    let rest: string | number = plain ? status : `${status}/${[...context.flags].join(",")}/${isGrpc}/${grpcStatus}`;
    if (this.#isDynamic) { for (const plan of this.#plans) if (plan.isDynamic) rest += plan.variant(facts()); }
    const found = this.#table.find(pair, rest);
    if (found !== undefined) {
      found.usedAtMs = nowMs;
      return found;
    }
    const labels = labelsOf(source, destination, {
      request_protocol: isGrpc ? "grpc" : "http",
      response_code: String(status),
      grpc_response_status: isGrpc ? grpcStatus : "",
      response_flags: plain ? "-" : [...context.flags].join(",") || "-",
    });
    return this.#table.create(
      pair,
      rest,
      nowMs,
      (index) => this.#plans[index].apply(labels, facts()),
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
    const { slots } = this.#find(facts, host, nowMs);
    const amounts = [added.opened, added.closed, added.sentBytes, added.receivedBytes];
    for (let i = 0; i < amounts.length; i++) {
      if (amounts[i] > 0 && slots[i] >= 0) this.#registry.add(slots[i], amounts[i]);
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

function labelsOf(source: Side, destination: Side, own: Readonly<Record<string, string>>): Labels {
  const all: Readonly<Record<string, string | undefined>> = {
    reporter: "waypoint",
    ...source.labels,
    ...destination.labels,
    ...own,
    connection_security_policy: source.hasPrincipal && destination.hasPrincipal ? "mutual_tls" : "none",
  };
  return LABELS.flatMap((name) => {
    const value = all[name];
    return value === undefined ? [] : [[name, value] as const];
  });
}

/** Those of all label sets that there is no room for. */
function unknownLabels(labels: Labels): Labels {
  return labels.map(([name, value]) => [name, name === "reporter" || name === "request_protocol" ? value : "unknown"]);
}
