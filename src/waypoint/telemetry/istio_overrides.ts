/** What a Telemetry resource changes of Istio's metrics: labels added, set or taken away, metrics dropped, all of it under a condition or not. */
import type { EvaluateValue } from "../format/environment.ts";
import type { FormatFacts } from "../format/facts.ts";
import type { MetricOverrideSpec } from "../spec/mod.ts";

/** How expressions are compiled (format/cel_engine.ts). */
export interface Expressions {
  test(expression: string): (facts: FormatFacts) => boolean;
  value(expression: string): EvaluateValue;
}

interface Override {
  readonly match: ((facts: FormatFacts) => boolean) | undefined;
  readonly drop: boolean;
  readonly remove: readonly string[];
  readonly set: readonly { readonly label: string; readonly value: EvaluateValue }[];
}

export type Labels = readonly (readonly [name: string, value: string])[];

/** The overrides of one metric. */
export class MetricPlan {
  readonly #overrides: readonly Override[];
  /** Its labels depend on more than the standard ones. */
  readonly isDynamic: boolean;

  constructor(metric: string, specs: readonly MetricOverrideSpec[], expressions: Expressions) {
    this.#overrides = specs
      .filter(({ name }) => name === "" || name === metric || name === metric.replace(/_total$/, ""))
      .map(({ match, drop, tagsToRemove, dimensions }) => ({
        match: match === "" ? undefined : expressions.test(match),
        drop,
        remove: tagsToRemove,
        set: Object.entries(dimensions).map(([label, text]) => ({ label, value: expressions.value(text) })),
      }));
    this.isDynamic = this.#overrides.some(({ match, set }) => match !== undefined || set.length > 0);
  }

  /** Everything that the labels depend on besides the standard ones, as one text. */
  variant(facts: FormatFacts): string {
    let variant = "";
    for (const { match, set } of this.#overrides) {
      if (match !== undefined && !match(facts)) {
        variant += "\0-";
        continue;
      }
      variant += "\0+";
      for (const { value } of set) variant += `\0${labelText(value(facts))}`;
    }
    return variant;
  }

  /** Undefined: this one is not counted. */
  apply(labels: Labels, facts: FormatFacts): Labels | undefined {
    const result = new Map(labels);
    for (const { match, drop, remove, set } of this.#overrides) {
      if (match !== undefined && !match(facts)) continue;
      if (drop) return undefined;
      for (const { label, value } of set) result.set(label.replace(/[^A-Za-z0-9_]/g, "_"), labelText(value(facts)));
      for (const name of remove) result.delete(name);
    }
    return [...result];
  }
}

/** A value from a request must not make labels of any size. */
const MAX_LABEL_LENGTH = 256;

function labelText(value: unknown): string {
  if (value === undefined || value === "") return "unknown";
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.length > MAX_LABEL_LENGTH ? text.slice(0, MAX_LABEL_LENGTH) : text;
}
