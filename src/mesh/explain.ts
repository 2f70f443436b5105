/**
 * What would become of a connection: which way it goes and what the policies at its end say. Decides nothing itself: it asks
 * `resolveOutbound` and `authorize`, the functions that decide about real connections, and says what cannot be known from here.
 */
import { targetPort } from "./balance.ts";
import { authorize, compilePolicies, type ConnectionFacts, type Verdict } from "./authorize/mod.ts";
import { examinePolicy } from "./authorize/findings.ts";
import type { WorkloadPolicies } from "./policy_index.ts";
import { type Outbound, resolveOutbound } from "./resolve.ts";
import { formatSocketAddress } from "./socket_address.ts";
import { identityOf } from "./spiffe.ts";
import type { Destination, Explanation, Route } from "./explanation.ts";
import { keyOfService, type Service, type SocketAddress, type Workload } from "./types.ts";
import type { MeshView } from "./view.ts";

export interface ExplainView extends MeshView {
  policiesFor(workload: Workload): WorkloadPolicies;
}

export interface Question {
  readonly client: Workload;
  readonly clientIp: string;
  readonly target: SocketAddress;
  /** Of the proxy that answers. */
  readonly network: string;
  readonly nodeName: string | undefined;
  readonly ipv6Enabled: boolean;
  readonly illegalPorts: readonly number[];
}

/** Ends looked at; a service may have thousands. */
const MAX_ENDS = 32;

/** A pod that a connection may end at, and what it takes the client for. */
interface End {
  readonly workload: Workload;
  readonly ip: string;
  readonly port: number;
  readonly seenIp: string;
  readonly identity: string | undefined;
}

export function explainConnection(view: ExplainView, question: Question): Explanation {
  const { client, target, network } = question;
  const notes: string[] = [];
  const service = view.findService(network, target.ip, client.namespace);
  const inMesh = client.protocol === "HBONE";
  const decisions = inMesh ? decide(view, question, service, notes) : [];
  const routes = inMesh ? decisions.map(describeRoute) : [plainRoute(target)];
  if (!inMesh) {
    notes.push(`${client.uid} is not in the mesh: its traffic passes no ztunnel and carries no identity`);
  }

  const ends = new Map<string, End>();
  const add = (end: End | undefined) => {
    if (end !== undefined) ends.set(`${end.workload.uid} ${end.port} ${end.identity} ${end.seenIp}`, end);
  };
  if (!inMesh) { for (const end of endsBehind(view, question, service, question.clientIp, undefined, notes)) add(end); }
  for (const decision of decisions) {
    if (decision.kind === "hbone" && decision.via === "waypoint") {
      noteWaypoint(decision.workload, notes);
      const identity = identityOf(decision.workload);
      for (const end of endsBehind(view, question, service, decision.tunnelTo.ip, identity, notes)) add(end);
    } else add(directEnd(question, decision, notes));
  }
  const destinations = [...ends.values()].map((end) => judge(view, question, end));
  if (destinations.some((destination) => destination.enforced && !destination.local)) {
    notes.push(
      "policies are asked by the destination's ztunnel, with the ones it has: these are the ones this proxy was told; " +
        "its log has a line for what it refuses",
    );
  }
  return {
    from: {
      workload: client.name,
      uid: client.uid,
      namespace: client.namespace,
      serviceAccount: client.serviceAccount,
      identity: identityOf(client),
      ip: question.clientIp,
      node: client.node,
      inMesh,
    },
    to: { address: formatSocketAddress(target), service: service === undefined ? undefined : keyOfService(service) },
    ...conclude(routes, destinations),
    routes,
    destinations,
    notes: [...new Set(notes)],
  };
}

/** Every decision that chance may lead to, each once: as many draws, evenly spread, as there are endpoints. */
function decide(view: ExplainView, question: Question, service: Service | undefined, notes: string[]): Outbound[] {
  const endpoints = service === undefined ? 0 : view.endpointsOf(service).entries.length;
  const choices = service === undefined ? 1 : Math.max(endpoints, service.weightedWaypoints.length * 16, 8);
  const draws = Math.min(MAX_ENDS, choices);
  if (endpoints > MAX_ENDS) notes.push(`${MAX_ENDS} of the service's ${endpoints} endpoints were looked at`);
  const request = {
    network: question.network,
    target: question.target,
    client: { workload: question.client, ip: question.clientIp },
    ipv6Enabled: question.ipv6Enabled,
  };
  const decisions = new Map<string, Outbound>();
  for (let i = 0; i < draws; i++) {
    const decision = withName(resolveOutbound(view, request, () => (i + 0.5) / draws), notes);
    const route = describeRoute(decision);
    decisions.set(JSON.stringify([route.kind, route.nextHop, route.authority, route.refusal]), decision);
  }
  return [...decisions.values()];
}

/** A decision that waits for DNS, with the name in the address's place. */
function withName(decision: Outbound, notes: string[]): Outbound {
  if (decision.kind !== "needsDns") return decision;
  notes.push(`the address of ${decision.hostname} is asked of the DNS when a connection needs it`);
  return decision.withAddress(decision.hostname);
}

function describeRoute(decision: Outbound): Route {
  const none = {
    kind: "refused" as Route["kind"],
    protocol: undefined,
    nextHop: undefined,
    workload: undefined,
    authority: undefined,
    expectedIdentities: [],
    innerIdentities: [],
    refusal: undefined,
  };
  switch (decision.kind) {
    case "passthrough":
      return { ...none, kind: "passthrough", protocol: "TCP", nextHop: formatSocketAddress(decision.to) };
    case "tcp":
      return {
        ...none,
        kind: "plain",
        protocol: "TCP",
        nextHop: formatSocketAddress(decision.to),
        workload: decision.workload.uid,
      };
    case "hbone":
    case "doubleHbone":
      return {
        ...none,
        kind: decision.kind === "doubleHbone" ? "gateway" : decision.via,
        protocol: decision.kind === "doubleHbone" ? "DOUBLEHBONE" : "HBONE",
        nextHop: formatSocketAddress(decision.tunnelTo),
        workload: decision.workload.uid,
        authority: decision.authority,
        expectedIdentities: decision.expectedIdentities,
        innerIdentities: decision.kind === "doubleHbone" ? decision.innerIdentities : [],
      };
    case "refused":
      return {
        ...none,
        kind: "refused",
        protocol: undefined,
        refusal: { message: decision.message, hint: decision.hint },
      };
    case "needsDns":
      // `withName` has turned it into one of the others.
      return { ...none, kind: "refused", protocol: undefined, refusal: { message: decision.hostname, hint: "" } };
  }
}

function plainRoute(target: SocketAddress): Route {
  return describeRoute({ kind: "passthrough", to: target });
}

function directEnd(question: Question, decision: Outbound, notes: string[]): End | undefined {
  const { client, clientIp, target } = question;
  switch (decision.kind) {
    case "hbone": {
      const port = Number(decision.authority.slice(decision.authority.lastIndexOf(":") + 1));
      const { ip } = decision.tunnelTo;
      return { workload: decision.workload, ip, port, seenIp: clientIp, identity: identityOf(client) };
    }
    case "tcp":
      return { workload: decision.workload, ...decision.to, seenIp: clientIp, identity: undefined };
    case "doubleHbone":
      notes.push(
        `the destination is in another network, behind ${decision.workload.uid}: what its policies say is known there only`,
      );
      return undefined;
    case "passthrough":
      notes.push(`${formatSocketAddress(target)} is not known to the mesh: it is connected to as it is, unencrypted`);
      return undefined;
    case "refused":
    case "needsDns":
      return undefined;
  }
}

function noteWaypoint(waypoint: Workload, notes: string[]): void {
  notes.push(
    `the waypoint ${waypoint.uid} chooses the endpoint and has policies and routes of its own, which are known there only; ` +
      "the pods behind it see the waypoint's identity",
  );
}

/** The pods that a service's or workload's address may lead to once a waypoint, or nobody, has chosen. */
function endsBehind(
  view: ExplainView,
  question: Question,
  service: Service | undefined,
  seenIp: string,
  identity: string | undefined,
  notes: string[],
): End[] {
  const { target, network } = question;
  if (service === undefined) {
    const workload = view.findWorkload(network, target.ip);
    if (workload === undefined) return [];
    return [{ workload, ip: target.ip, port: target.port, seenIp, identity }];
  }
  const { entries } = view.endpointsOf(service);
  if (entries.length > MAX_ENDS) notes.push(`${MAX_ENDS} of the service's ${entries.length} endpoints were looked at`);
  const ends: End[] = [];
  for (const entry of entries.slice(0, MAX_ENDS)) {
    const port = targetPort(entry, service, target.port);
    const ip = entry.workload.workloadIps[0];
    if (port !== undefined && ip !== undefined) ends.push({ workload: entry.workload, ip, port, seenIp, identity });
  }
  return ends;
}

function judge(view: ExplainView, question: Question, end: End): Destination {
  const { workload } = end;
  const port = workload.applicationTunnel?.port ?? end.port;
  const facts: ConnectionFacts = {
    sourceIp: end.seenIp,
    sourceIdentity: end.identity,
    destinationIp: end.ip,
    destinationPort: port,
  };
  const common = {
    workload: `${workload.namespace}/${workload.name}`,
    uid: workload.uid,
    address: formatSocketAddress({ ip: end.ip, port }),
    node: workload.node,
    local: question.nodeName === undefined || workload.node === question.nodeName,
    seenAs: { ip: end.seenIp, identity: end.identity },
  };
  const unenforced = workload.protocol === "TCP"
    ? "it is not in the mesh"
    : workload.nativeTunnel
    ? "it takes tunnels itself"
    : undefined;
  if (unenforced !== undefined) {
    return {
      ...common,
      enforced: false,
      allowed: true,
      reason: "no ztunnel asks policies there",
      explanation: unenforced,
      missing: [],
      policies: [],
      ifDryRunEnforced: undefined,
    };
  }
  if (question.illegalPorts.includes(end.port)) {
    return {
      ...common,
      enforced: true,
      allowed: false,
      reason: "attempted recursive call to ourselves",
      explanation: `port ${end.port} belongs to the proxy itself`,
      missing: [],
      policies: [],
      ifDryRunEnforced: undefined,
    };
  }
  const { policies, missing } = view.policiesFor(workload);
  const verdict = authorize(compilePolicies(policies, missing), facts);
  const hasDryRun = policies.some((policy) => policy.dryRun);
  const enforced = policies.map((policy) => ({ ...policy, dryRun: false }));
  const other = hasDryRun ? authorize(compilePolicies(enforced, missing), facts) : undefined;
  return {
    ...common,
    enforced: true,
    allowed: verdict.allowed,
    ...wording(verdict, policies.length),
    missing,
    policies: policies.map((policy) => examinePolicy(policy, facts)),
    ifDryRunEnforced: other === undefined
      ? undefined
      : { allowed: other.allowed, reason: wording(other, policies.length).reason },
  };
}

function wording(verdict: Verdict, policies: number): { readonly reason: string; readonly explanation: string } {
  if (!verdict.allowed) return { reason: verdict.reason, explanation: verdict.explanation };
  if (verdict.by !== undefined) {
    const { policy, rule } = verdict.by;
    return { reason: `allowed by: ${policy}`, explanation: `rule ${rule + 1} of the ALLOW policy ${policy} matches` };
  }
  return policies === 0
    ? { reason: "no policy applies", explanation: "nothing denies it, and nothing has to allow it" }
    : { reason: "nothing denies it", explanation: "no DENY policy matches, and there is no ALLOW policy" };
}

function conclude(
  routes: readonly Route[],
  destinations: readonly Destination[],
): Pick<Explanation, "outcome" | "summary"> {
  const refused = routes.filter((route) => route.kind === "refused");
  const denied = destinations.filter((destination) => !destination.allowed);
  const bad = refused.length + denied.length;
  const good = routes.length - refused.length > 0 && denied.length < Math.max(1, destinations.length);
  if (bad === 0) {
    return { outcome: "allowed", summary: destinations[0]?.reason ?? "no policy that is known here refuses it" };
  }
  const first = denied[0] === undefined ? refused[0].refusal!.message : `${denied[0].workload}: ${denied[0].reason}`;
  if (!good) return { outcome: "denied", summary: first };
  return {
    outcome: "depends",
    summary: `${bad} of ${Math.max(routes.length, destinations.length)} possible ends refuse it: ${first}`,
  };
}
