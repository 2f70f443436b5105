/** Whether a DaemonSet still has a pod for a node, as the scheduler sees it: node selector and required node affinity. Pure. */
import type { DaemonSet, KubeNode, NodeSelectorRequirement, NodeSelectorTerm } from "../../control/kube/types.ts";

/** Why it has none; undefined when it has one. */
export function schedulingProblem(set: DaemonSet, node: KubeNode, nodeName: string): string | undefined {
  const spec = set.spec?.template?.spec;
  const labels = node.metadata?.labels ?? {};
  for (const [key, value] of Object.entries(spec?.nodeSelector ?? {})) {
    if (labels[key] !== value) return `its nodeSelector wants ${key}=${value}`;
  }
  const required = spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  if (required === undefined || required === null) return undefined;
  const terms = required.nodeSelectorTerms ?? [];
  return terms.some((term) => matchesTerm(term, labels, nodeName))
    ? undefined
    : "none of its required nodeAffinity terms matches";
}

/** A term without requirements matches no node. */
function matchesTerm(term: NodeSelectorTerm, labels: Readonly<Record<string, string>>, nodeName: string): boolean {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  if (expressions.length + fields.length === 0) return false;
  return expressions.every((requirement) => matches(requirement, labels[requirement.key])) &&
    fields.every((requirement) => matches(requirement, requirement.key === "metadata.name" ? nodeName : undefined));
}

function matches({ operator, values = [] }: NodeSelectorRequirement, value: string | undefined): boolean {
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "Gt":
    case "Lt":
      return compares(operator, value, values);
    default:
      return false;
  }
}

/** Both are whole numbers, or it does not match. */
function compares(operator: "Gt" | "Lt", value: string | undefined, values: readonly string[]): boolean {
  const whole = /^[+-]?\d{1,18}$/;
  if (value === undefined || values.length !== 1 || !whole.test(value) || !whole.test(values[0])) return false;
  return operator === "Gt" ? BigInt(value) > BigInt(values[0]) : BigInt(value) < BigInt(values[0]);
}
