/**
 * AuthorizationPolicies of Istio. Strict, because a part that is not understood and left out would widen access: what Istio
 * refuses is refused here too, and so is what needs more than the file can hold.
 */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { readHead, readSpec, readTexts } from "./head.ts";
import type { AuthorizationPolicy, ObjectHead, PolicyTarget } from "./objects.ts";
import { readPolicyRule } from "./policy_rules.ts";
import { readTargetRefs } from "./target_refs.ts";

const SPEC_KEYS = ["selector", "targetRef", "targetRefs", "action", "provider", "rules"] as const;
const ACTIONS = ["ALLOW", "DENY", "AUDIT"] as const;
const DRY_RUN = "istio.io/dry-run";
/** As istiod reads the annotation. */
const TRUE: readonly string[] = ["1", "t", "T", "TRUE", "true", "True"];
const FALSE: readonly string[] = ["0", "f", "F", "FALSE", "false", "False"];

export function readAuthorizationPolicy(reader: FieldReader, fields: Fields, path: SourcePath): AuthorizationPolicy {
  const head = readHead(reader, fields, path);
  const at = [...path, "spec"];
  const spec = readSpec(reader, fields, path, SPEC_KEYS);
  const action = readAction(reader, spec, at);
  const rules = reader.list(spec, "rules", at);
  if (action === "DENY" && rules.length === 0 && spec.rules !== null) {
    reader.fail([...at, "rules"], "DENY without rules denies nothing; write rules: [{}] to deny everything");
  }
  return {
    ...head,
    target: readTarget(reader, spec, at),
    action,
    dryRun: readDryRun(reader, head, action),
    rules: rules.map(({ fields, path }) => readPolicyRule(reader, fields, path)),
  };
}

function readAction(reader: FieldReader, spec: Fields, path: SourcePath): AuthorizationPolicy["action"] {
  if (spec.action === "CUSTOM") {
    reader.fail([...path, "action"], "the action CUSTOM is not supported by ambit local; write ALLOW, DENY or AUDIT");
    return "DENY";
  }
  if (spec.provider !== undefined) reader.fail([...path, "provider"], "a provider goes with the action CUSTOM only");
  return reader.choice(spec, "action", path, ACTIONS) ?? "ALLOW";
}

function readTarget(reader: FieldReader, spec: Fields, path: SourcePath): PolicyTarget {
  const refs = readTargetRefs(reader, spec, path);
  if (spec.selector === undefined) return refs === undefined ? { kind: "namespace" } : { kind: "refs", refs };
  const at = [...path, "selector"];
  if (refs !== undefined) reader.fail(at, "a policy has either a selector or targetRefs, not both");
  const selector = reader.object(spec.selector, at);
  reader.onlyKnown(selector, ["matchLabels"], at);
  const matchLabels = readTexts(reader, selector, "matchLabels", at);
  for (const [key, value] of Object.entries(matchLabels)) {
    if (value.includes("*")) {
      reader.fail([...at, "matchLabels", key], "a selector compares whole values; it has no wildcards");
    }
  }
  return { kind: "selector", matchLabels };
}

function readDryRun(reader: FieldReader, head: ObjectHead, action: AuthorizationPolicy["action"]): boolean {
  const value = head.annotations[DRY_RUN];
  if (value === undefined) return false;
  const at = [...head.path, "metadata", "annotations", DRY_RUN];
  if (!TRUE.includes(value) && !FALSE.includes(value)) reader.fail(at, `${DRY_RUN} must be "true" or "false"`);
  else if (action === "AUDIT") reader.fail(at, `${DRY_RUN} goes with ALLOW and DENY only`);
  return TRUE.includes(value);
}
