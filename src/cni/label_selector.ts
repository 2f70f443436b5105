/**
 * Kubernetes label selectors: read strictly, matched purely. Reference cni.md 3.2.
 *
 * A selector decides whether a pod is captured, so one that cannot be read whole is an error that names its place,
 * never a selector that matches more or less than was meant.
 */

export type SelectorOperator = "In" | "NotIn" | "Exists" | "DoesNotExist";

export interface LabelRequirement {
  readonly key: string;
  readonly operator: SelectorOperator;
  /** At least one for In and NotIn, none otherwise. */
  readonly values?: readonly string[];
}

/** All parts must hold; without parts it selects everything. */
export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly LabelRequirement[];
}

export type Labels = Readonly<Record<string, string>>;

const OPERATORS: readonly string[] = ["In", "NotIn", "Exists", "DoesNotExist"] satisfies SelectorOperator[];
/** Kubernetes: 63 characters, alphanumeric at both ends. */
const NAME = /^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
/** A DNS subdomain of at most 253 characters. */
const PREFIX = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
const PREFIX_MAX_CHARS = 253;

/**
 * From JSON or parsed YAML; `place` begins the message of an error. Absent counts as empty, as it does for Go.
 * @throws Error for unknown fields, operators and values, with the place.
 */
export function parseLabelSelector(value: unknown, place: string): LabelSelector {
  if (value === undefined || value === null) return {};
  const fields = asObject(value, place, ["matchLabels", "matchExpressions"]);
  const selector: { matchLabels?: Record<string, string>; matchExpressions?: LabelRequirement[] } = {};
  if (isGiven(fields["matchLabels"])) {
    const labelsPlace = `${place}.matchLabels`;
    const labels = Object.entries(asObject(fields["matchLabels"], labelsPlace));
    for (const [key, label] of labels) {
      checkKey(key, labelsPlace);
      checkValue(label, `${labelsPlace}[${JSON.stringify(key)}]`);
    }
    // Own properties, whatever they are called.
    if (labels.length > 0) selector.matchLabels = Object.fromEntries(labels) as Record<string, string>;
  }
  if (isGiven(fields["matchExpressions"])) {
    const listPlace = `${place}.matchExpressions`;
    const list = asArray(fields["matchExpressions"], listPlace);
    if (list.length > 0) {
      selector.matchExpressions = list.map((item, index) => parseRequirement(item, `${listPlace}[${index}]`));
    }
  }
  return selector;
}

function parseRequirement(value: unknown, place: string): LabelRequirement {
  const fields = asObject(value, place, ["key", "operator", "values"]);
  const key = fields["key"];
  if (typeof key !== "string") throw new Error(`${place}.key: must be a string, is ${shownJson(key)}`);
  checkKey(key, `${place}.key`);
  const operator = fields["operator"];
  if (typeof operator !== "string" || !OPERATORS.includes(operator)) {
    throw new Error(`${place}.operator: must be one of ${OPERATORS.join(", ")}, is ${shownJson(operator)}`);
  }
  const values = isGiven(fields["values"]) ? asArray(fields["values"], `${place}.values`) : [];
  values.forEach((item, index) => checkValue(item, `${place}.values[${index}]`));
  const takesValues = operator === "In" || operator === "NotIn";
  if (takesValues && values.length === 0) throw new Error(`${place}.values: ${operator} needs at least one value`);
  if (!takesValues && values.length > 0) throw new Error(`${place}.values: ${operator} takes no values`);
  const requirement = { key, operator: operator as SelectorOperator };
  return takesValues ? { ...requirement, values: values as string[] } : requirement;
}

export function selectorMatches(selector: LabelSelector, labels: Labels): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (labelOf(labels, key) !== value) return false;
  }
  return (selector.matchExpressions ?? []).every((requirement) => requirementMatches(requirement, labels));
}

function requirementMatches({ key, operator, values = [] }: LabelRequirement, labels: Labels): boolean {
  const label = labelOf(labels, key);
  switch (operator) {
    case "In":
      return label !== undefined && values.includes(label);
    case "NotIn":
      // A label that is not there is not in the list either.
      return label === undefined || !values.includes(label);
    case "Exists":
      return label !== undefined;
    case "DoesNotExist":
      return label === undefined;
  }
}

/** True for a selector that selects everything because it asks for nothing. */
export function selectorIsEmpty(selector: LabelSelector): boolean {
  return Object.keys(selector.matchLabels ?? {}).length === 0 && (selector.matchExpressions ?? []).length === 0;
}

/** A label called `constructor` is not there unless somebody set it. */
function labelOf(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

function checkKey(key: string, place: string): void {
  const slash = key.indexOf("/");
  const prefix = slash < 0 ? undefined : key.slice(0, slash);
  const name = key.slice(slash + 1);
  const prefixOk = prefix === undefined || (prefix.length <= PREFIX_MAX_CHARS && PREFIX.test(prefix));
  if (!prefixOk || !NAME.test(name)) throw new Error(`${place}: ${shownJson(key)} is no label key`);
}

function checkValue(value: unknown, place: string): void {
  if (typeof value !== "string") {
    throw new Error(`${place}: must be a string, is ${shownJson(value)}; quote it if it is meant as text`);
  }
  if (value !== "" && !NAME.test(value)) throw new Error(`${place}: ${shownJson(value)} is no label value`);
}

/** The fields of an object; with `known`, only those. */
export function asObject(value: unknown, place: string, known?: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`${place}: must be an object, is ${shownJson(value)}`);
  }
  const unknown = known && Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new Error(`${place}: unknown field ${shownJson(unknown)}; the fields are ${known?.join(", ")}`);
  }
  return value as Record<string, unknown>;
}

export function asArray(value: unknown, place: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new Error(`${place}: must be a list, is ${shownJson(value)}`);
  return value;
}

export function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

/** A value for an error message: JSON on one line, at most 80 characters. */
export function shownJson(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
