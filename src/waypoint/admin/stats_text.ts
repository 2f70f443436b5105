/** `/stats` as text and JSON, and Envoy's statistics as Prometheus reads them, with the labels that Istio's bootstrap cuts out of the names. */
import { RE2JS } from "re2js";
import { escapeLabelValue } from "../../telemetry/metric_family.ts";
import type { Statistic } from "./statistics.ts";

/** Whether a name is meant. */
export interface NameTest {
  test(name: string): boolean;
}

/** RE2's syntax, found anywhere, as Envoy has it. @throws Error for what is none */
export function nameTest(pattern: string): NameTest {
  const regex = RE2JS.compile(pattern);
  return { test: (name) => regex.matcher(name).find() };
}

export interface StatsQuery {
  readonly filter: NameTest | undefined;
  readonly usedOnly: boolean;
}

/** Also while they are zero: pilot-agent takes their absence for a failure. */
const ALWAYS_USED = /^(?:cluster_manager|listener_manager|server|listener)\./;

export function selectStatistics(all: readonly Statistic[], { filter, usedOnly }: StatsQuery): readonly Statistic[] {
  return all.filter(({ name, value }) =>
    (!usedOnly || value !== 0 || ALWAYS_USED.test(name)) && (filter === undefined || filter.test(name))
  );
}

export function statsText(statistics: readonly Statistic[]): string {
  return statistics.map(({ name, value }) => `${name}: ${value}\n`).join("");
}

export function statsJson(statistics: readonly Statistic[]): string {
  return JSON.stringify({ stats: statistics.map(({ name, value }) => ({ name, value })) });
}

/** What Istio's bootstrap lets Envoy count: the rest is for `/stats`. */
export interface Inclusion {
  readonly prefixes: readonly string[];
  readonly suffixes: readonly string[];
  readonly regexps: readonly NameTest[];
}

const DEFAULT_PREFIXES = [
  "reporter=",
  "cluster_manager",
  "listener_manager",
  "server",
  "workload_discovery",
  "cluster.xds-grpc",
  "wasm",
  "component",
  "istio",
  "ambit",
];
const DEFAULT_SUFFIXES = ["rbac.allowed", "rbac.denied", "rbac.shadow_allowed", "rbac.shadow_denied"];

/** `proxyStatsMatcher` of the ProxyConfig, on top of what is always there. An expression that is none is passed over. */
export function inclusionOf(proxyConfig: Readonly<Record<string, unknown>>): Inclusion {
  const matcher = proxyConfig["proxyStatsMatcher"];
  const read = (name: string): readonly string[] => {
    const list = typeof matcher === "object" && matcher !== null
      ? (matcher as Record<string, unknown>)[name]
      : undefined;
    return Array.isArray(list) ? list.filter((item) => typeof item === "string") : [];
  };
  return {
    prefixes: [...DEFAULT_PREFIXES, ...read("inclusionPrefixes")],
    suffixes: [...DEFAULT_SUFFIXES, ...read("inclusionSuffixes")],
    regexps: read("inclusionRegexps").flatMap((text) => {
      try {
        return [nameTest(text)];
      } catch {
        return [];
      }
    }),
  };
}

export function isIncluded(name: string, { prefixes, suffixes, regexps }: Inclusion): boolean {
  return prefixes.some((prefix) => name.startsWith(prefix)) || suffixes.some((suffix) => name.endsWith(suffix)) ||
    regexps.some((regexp) => regexp.test(name));
}

/** Families in order of name, each with its samples. */
export function* statsPrometheus(statistics: readonly Statistic[], inclusion: Inclusion): Generator<string> {
  const families = new Map<string, { readonly kind: Statistic["kind"]; readonly samples: string[] }>();
  for (const { name, value, kind } of statistics) {
    if (!isIncluded(name, inclusion)) continue;
    const { family, labels } = prometheusName(name);
    let known = families.get(family);
    if (known === undefined) families.set(family, known = { kind, samples: [] });
    known.samples.push(`${family}{${labels}} ${value}\n`);
  }
  for (const [family, { kind, samples }] of families) yield `# TYPE ${family} ${kind}\n${samples.join("")}`;
}

const TAGS: readonly (readonly [label: string, pattern: RegExp])[] = [
  ["cluster_name", /^cluster\.(?<cut>(?<value>.*?);\.)/],
  ["http_conn_manager_prefix", /^http\.(?<cut>(?<value>.*?);\.)/],
  ["tcp_prefix", /^tcp\.(?<cut>(?<value>.*?);\.)/],
  ["listener_address", /^listener\.(?<cut>(?<value>(?:[_.[\]0-9a-fA-F]|envoy_)+_\d+)\.)/],
  ["response_code_class", /_rq(?<cut>_(?<value>\dxx))$/],
];

function prometheusName(name: string): { readonly family: string; readonly labels: string } {
  let rest = name;
  const labels: string[] = [];
  for (const [label, pattern] of TAGS) {
    const found = pattern.exec(rest)?.groups;
    if (found === undefined) continue;
    rest = rest.replace(found["cut"], "");
    labels.push(`${label}="${escapeLabelValue(found["value"])}"`);
  }
  return { family: `envoy_${rest.replace(/[^A-Za-z0-9_]/g, "_")}`, labels: labels.join(",") };
}
