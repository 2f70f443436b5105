/**
 * What both inbound ways into a pod share: naming the client, asking the policies, connecting to the application with the
 * client's address, and ending when a policy changes its mind (reference ztunnel 6.5 to 6.7).
 */
import { describeErrno, EADDRINUSE } from "../platform/errno.ts";
import { AF_INET, AF_INET6, isIpv6, type SocketAddress } from "../platform/sockaddr.ts";
import { type ConnectHandler, Connector } from "../net/connector.ts";
import { authorize, type ConnectionFacts, formatSocketAddress, peerLabels, type Verdict } from "../mesh/mod.ts";
import { CONNECT_TIMEOUT_MS, type PodProxy } from "./pod_proxy.ts";

/** How long a connection waits for a policy that its pod names and the mesh does not know (yet). */
export const MISSING_POLICY_WAIT_MS = 5_000;

/** Asks the pod's policies about a connection that wants to open, and reports dry runs. */
export function checkPolicies(pod: PodProxy, facts: ConnectionFacts): Verdict {
  const verdict = authorize(pod.policies, facts);
  // A missing policy is waited for, and everything is asked again.
  if (verdict.allowed || verdict.kind !== "missing_policy") reportDryRuns(pod, facts, verdict);
  return verdict;
}

function reportDryRuns(pod: PodProxy, facts: ConnectionFacts, { dryRun }: Verdict): void {
  if (dryRun.length === 0) return;
  const { log, settings, metrics } = pod.env;
  const level = settings.policyInfoLogging ? "info" : "debug";
  const subject = peerLabels(pod.workload, false);
  for (const { policy, rule, would } of dryRun) {
    metrics.authorization.dryRun(subject, { policy, rule, would });
    log.log(level, "rbac", `dry-run policy would ${would}`, {
      policy,
      rule: rule + 1,
      source: facts.sourceIdentity ?? facts.sourceIp,
      "dst.port": facts.destinationPort,
    });
  }
}

/** Asks again for a connection that was allowed: policies that are not known yet count when they come, those that are known at once. */
export function recheckPolicies(pod: PodProxy, facts: ConnectionFacts): Verdict {
  return authorize({ ...pod.policies, missing: [] }, facts);
}

/**
 * Counts and logs a connection that policies end, when it opens or when they change. Gives the text of its access-log line: what ztunnel
 * says, then which rule it was.
 */
export function noteDenial(
  pod: PodProxy,
  facts: ConnectionFacts,
  verdict: Extract<Verdict, { allowed: false }>,
  phase: "open" | "change",
): string {
  const { log, settings, metrics } = pod.env;
  const { kind, policy, rule, reason, explanation } = verdict;
  metrics.authorization.denied(peerLabels(pod.workload, false), {
    reason: kind,
    policy,
    rule,
    late: phase === "change",
  });
  if (kind === "missing_policy") {
    reportDryRuns(pod, facts, verdict);
    metrics.limits.reached("missing_policy", { policy, pod: `${pod.description.namespace}/${pod.description.name}` });
  }
  log.log(settings.policyInfoLogging ? "info" : "debug", "rbac", reason, {
    source: facts.sourceIdentity ?? facts.sourceIp,
    "dst.port": facts.destinationPort,
    explanation,
  });
  return phase === "open"
    ? `connection closed due to policy rejection: ${reason} (${explanation})`
    : `connection closed due to policy change: ${reason} (${explanation})`;
}

/**
 * Ports for connections in a client's name that no client's kernel picks for itself unless told to (Linux: from 32768). The client's
 * own connection, redirected to 15006, has the same ends in this namespace: one with the same source port would take over its
 * entry in the connection table, and what is said to the client from then on would not reach it.
 */
const OWN_PORTS = { first: 16_384, count: 16_384 } as const;
/** With most of the ports in use the kernel chooses after all: the danger is rare, and a refusal would be certain. */
const PORT_ATTEMPTS = 8;

/**
 * A port for a connection in the name of a client that has come from `clientPort`, and never that one: hosts with many connections
 * are told to use ports below 32768 as well. `random`: from 0 to 1, without 1.
 */
export function portBeside(clientPort: number, random: number): number {
  const index = Math.floor(random * OWN_PORTS.count);
  const port = OWN_PORTS.first + index;
  return port === clientPort ? OWN_PORTS.first + (index + 1) % OWN_PORTS.count : port;
}

function takeSource(pod: PodProxy, fd: number, client: SocketAddress, family: number, apart: boolean): number {
  for (let attempt = 0; apart && attempt < PORT_ATTEMPTS; attempt++) {
    const outcome = pod.sockets.takeSource(fd, client.ip, family, portBeside(client.port, pod.env.random()));
    if (outcome !== -EADDRINUSE) return outcome;
  }
  return pod.sockets.takeSource(fd, client.ip, family);
}

/**
 * Connects to the application, from the client's own address where the pod's redirection brings the answers back; without a client, from
 * the pod's. Gives undefined when the outcome is known at once; the handler has been told then. `apart` is for a client that has itself connected to the application's port.
 */
export function connectApplication(
  pod: PodProxy,
  to: SocketAddress,
  client: SocketAddress | undefined,
  handler: ConnectHandler,
  apart: boolean,
): Connector | undefined {
  const family = isIpv6(to.ip) ? AF_INET6 : AF_INET;
  const fd = pod.stock.take(family);
  if (fd < 0) {
    handler.connectFailed(-fd);
    return undefined;
  }
  if (
    client !== undefined && pod.description.originalSource && client.ip !== to.ip && isIpv6(client.ip) === isIpv6(to.ip)
  ) {
    const outcome = takeSource(pod, fd, client, family, apart);
    if (outcome < 0) {
      pod.env.log.log("warn", "inbound", `cannot keep the client's address: ${describeErrno(-outcome)}`, {
        client: client.ip,
        pod: `${pod.description.namespace}/${pod.description.name}`,
      });
    }
  }
  const { reactor } = pod.env.io;
  const connector = new Connector(reactor, handler, fd, family, to.ip, to.port, CONNECT_TIMEOUT_MS, true);
  return connector.done ? undefined : connector;
}

/** Why the application could not be reached, for the log. */
export function applicationError(to: SocketAddress, code: number): string {
  return `cannot reach the application at ${formatSocketAddress(to)}: ${describeErrno(code)}`;
}
