/** An explanation as a person reads it. Pure. */
import type { Destination, Explanation, Route } from "../mesh/explanation.ts";
import type { PolicyFinding } from "../mesh/authorize/findings.ts";

export function formatExplanation(explanation: Explanation): string {
  const { from, to, outcome, summary, routes, destinations, notes } = explanation;
  const lines = [
    `${outcome.toUpperCase()}: ${summary}`,
    "",
    `from  ${from.namespace}/${from.workload} (${from.identity}), ${from.ip}${from.inMesh ? "" : ", not in the mesh"}`,
    `to    ${to.address}${to.service === undefined ? "" : ` of the service ${to.service}`}`,
    "",
    ...routes.flatMap(formatRoute),
  ];
  for (const destination of destinations) lines.push("", ...formatDestination(destination));
  if (notes.length > 0) lines.push("", ...notes.map((note) => `note  ${note}`));
  return lines.map((line) => `${printable(line)}\n`).join("");
}

function formatRoute(route: Route): string[] {
  if (route.refusal !== undefined) {
    return [`way   refused by the client's own ztunnel: ${route.refusal.message}`, `      ${route.refusal.hint}`];
  }
  const via = { direct: "", waypoint: " to the waypoint", gateway: " to the network gateway" };
  const name = route.kind === "passthrough"
    ? "as it is, unencrypted, to"
    : route.kind === "plain"
    ? "unencrypted to"
    : `by ${route.protocol}${via[route.kind as keyof typeof via] ?? ""} to`;
  const lines = [`way   ${name} ${route.nextHop}${route.workload === undefined ? "" : ` (${route.workload})`}`];
  if (route.authority !== undefined) lines.push(`      asking for ${route.authority}`);
  if (route.expectedIdentities.length > 0) {
    lines.push(`      which must prove to be ${route.expectedIdentities.join(" or ")}`);
  }
  if (route.innerIdentities.length > 0) {
    lines.push(`      and the end of the inner tunnel to be ${route.innerIdentities.join(" or ")}`);
  }
  return lines;
}

function formatDestination(destination: Destination): string[] {
  const { workload, address, node, local, seenAs, allowed, reason, explanation, missing } = destination;
  const where = node === "" ? "" : `, node ${node}${local ? " (this one)" : ""}`;
  const lines = [
    `end   ${workload} at ${address}${where}: ${allowed ? "allowed" : "denied"}, ${reason}`,
    `      ${explanation}`,
  ];
  if (destination.enforced) {
    lines.push(`      sees ${seenAs.identity ?? "no identity"} from ${seenAs.ip}`);
  }
  for (const key of missing) lines.push(`      policy ${key}: not known, or not readable; refuses until it comes`);
  for (const policy of destination.policies) lines.push(...formatPolicy(policy));
  const dry = destination.ifDryRunEnforced;
  if (dry !== undefined) {
    lines.push(`      with the dry-run policies enforced: ${dry.allowed ? "allowed" : "denied"}, ${dry.reason}`);
  }
  return lines;
}

function formatPolicy(finding: PolicyFinding): string[] {
  const kind = `${finding.dryRun ? "dry-run " : ""}${finding.action.toUpperCase()}`;
  const head = `      policy ${finding.policy} (${kind}, ${finding.scope})`;
  if (finding.unreadable !== undefined) {
    return [
      `${head}: cannot be read (${finding.unreadable}), so it ${finding.matches ? "denies all" : "allows nobody"}`,
    ];
  }
  if (finding.rule !== undefined) return [`${head}: rule ${finding.rule} matches`];
  const lines = [`${head}: no rule matches`];
  for (const rule of finding.rules) {
    for (const clause of rule.clauses) {
      if (clause.matches) continue;
      for (const { failed } of clause.alternatives) {
        lines.push(`        rule ${rule.rule}, clause ${clause.clause}: ${failed.join("; ")}`);
      }
    }
  }
  if (finding.rulesLeftOut > 0) lines.push(`        and ${finding.rulesLeftOut} more rules`);
  return lines;
}

/** Names come from the control plane: none of them may act in a terminal. */
function printable(line: string): string {
  // deno-lint-ignore no-control-regex
  return line.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]/g, "?");
}
