/** Envoy's RBAC filters, HTTP and TCP: what is enforced, and what is only judged and reported. */
import type { ConnectionInfo } from "../engine/connection_info.ts";
import type { FilterOutcome, HttpFilter, NetworkFilter, RequestContext } from "../engine/request_context.ts";
import type { NetworkRbacSpec, RbacSpec } from "../spec/mod.ts";
import { AddressSubject, compileRules, type PolicySubject } from "./rbac_rules.ts";

/** Where the verdict of rules that are not enforced is put, for logs, spans and ext_authz. */
export const RBAC_METADATA = "envoy.filters.http.rbac";
const ALLOWED = "allowed";
const DENIED = "denied";

/** Counts for `…rbac.allowed`, `…rbac.denied` and their shadows. */
export interface RbacCounters {
  allowed(policy: string): void;
  denied(policy: string): void;
  shadowAllowed(policy: string): void;
  shadowDenied(policy: string): void;
}

/** @throws Error for rules that cannot be compiled */
export function createRbacFilter(spec: RbacSpec, counters: RbacCounters): HttpFilter {
  const enforce = spec.rules && compileRules(spec.rules);
  const shadow = spec.shadow && compileRules(spec.shadow);
  return {
    name: RBAC_METADATA,
    request(context): FilterOutcome {
      if (enforce === undefined && shadow === undefined) return "pass";
      const subject = subjectOf(context.connection, context);
      if (shadow !== undefined) {
        const { allowed, policy } = shadow(subject);
        if (allowed) counters.shadowAllowed(policy);
        else counters.shadowDenied(policy);
        report(context, spec.shadowPrefix, allowed, policy);
      }
      if (enforce === undefined) return "pass";
      const { allowed, policy } = enforce(subject);
      if (allowed) {
        counters.allowed(policy);
        return "pass";
      }
      counters.denied(policy);
      context.answer({
        status: 403,
        body: "RBAC: access denied",
        details: `rbac_access_denied_matched_policy[${policy || "none"}]`,
      });
      return "answered";
    },
  };
}

function report(context: RequestContext, prefix: string, allowed: boolean, policy: string): void {
  const known = context.metadata.get(RBAC_METADATA) ?? {};
  context.metadata.set(RBAC_METADATA, { ...known, ...shadowVerdict(prefix, allowed, policy) });
}

function shadowVerdict(prefix: string, allowed: boolean, policy: string): Record<string, unknown> {
  const verdict: Record<string, unknown> = { [`${prefix}shadow_engine_result`]: allowed ? ALLOWED : DENIED };
  if (policy !== "") verdict[`${prefix}shadow_effective_policy_id`] = policy;
  return verdict;
}

/** @throws Error for rules that cannot be compiled */
export function createNetworkRbacFilter(spec: NetworkRbacSpec, counters: RbacCounters): NetworkFilter {
  const enforce = spec.rules && compileRules(spec.rules);
  const shadow = spec.shadow && compileRules(spec.shadow);
  return {
    name: "envoy.filters.network.rbac",
    connection(info, decided): undefined {
      const subject = subjectOf(info, undefined);
      if (shadow !== undefined) {
        const { allowed, policy } = shadow(subject);
        if (allowed) counters.shadowAllowed(policy);
        else counters.shadowDenied(policy);
      }
      if (enforce === undefined) {
        decided({ allowed: true, details: "" });
        return;
      }
      const { allowed, policy } = enforce(subject);
      if (allowed) counters.allowed(policy);
      else counters.denied(policy);
      decided({ allowed, details: allowed ? "" : `rbac_access_denied_matched_policy[${policy || "none"}]` });
    },
  };
}

/**
 * What rules of a TCP chain that are not enforced say of a connection, under the keys of `RBAC_METADATA`. Judged when it is asked for: a chain may be changed
 * under a connection, and two providers' rules share one key.
 *
 * @throws Error for rules that cannot be compiled
 */
export function createShadowVerdicts(
  specs: readonly NetworkRbacSpec[],
): (info: ConnectionInfo) => readonly Readonly<Record<string, unknown>>[] {
  const shadows = specs.flatMap(({ shadow, shadowPrefix }) =>
    shadow === undefined ? [] : [{ judge: compileRules(shadow), prefix: shadowPrefix }]
  );
  return (info) => {
    const subject = subjectOf(info, undefined);
    return shadows.map(({ judge, prefix }) => {
      const { allowed, policy } = judge(subject);
      return shadowVerdict(prefix, allowed, policy);
    });
  };
}

/** Addresses of a connection are read once for all its requests. */
const addresses = new WeakMap<
  ConnectionInfo,
  { readonly source: AddressSubject; readonly destination: AddressSubject }
>();

function subjectOf(info: ConnectionInfo, request: RequestContext | undefined): PolicySubject {
  let known = addresses.get(info);
  if (known === undefined) {
    known = { source: new AddressSubject(info.source.ip), destination: new AddressSubject(info.destination.ip) };
    addresses.set(info, known);
  }
  return {
    principal: info.peerPrincipal,
    source: known.source,
    remote: known.source,
    destination: known.destination,
    destinationPort: info.destination.port,
    sni: info.sni,
    head: request?.head,
    metadata: request?.metadata,
  };
}
