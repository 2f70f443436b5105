/** The filters of a chain, in their order. What cannot be made refuses the chain: a policy that is not there must not look as if it had passed. */
import type { HttpFilter, NetworkFilter } from "../engine/request_context.ts";
import type { HttpChainSpec, HttpPolicySpec, JwtSpec, TcpChainSpec } from "../spec/mod.ts";
import { corsFilter } from "./cors.ts";
import { createExtAuthzFilter, type ExtAuthzDeps } from "./ext_authz.ts";
import { createNetworkExtAuthz } from "./ext_authz_network.ts";
import { createFaultFilter } from "./fault.ts";
import { grpcStatsFilter } from "./grpc_stats.ts";
import { grpcWebFilter } from "./grpc_web.ts";
import { createJwtFilter } from "./jwt.ts";
import type { TokenVerifier } from "./jwt_verdict.ts";
import { createNetworkRbacFilter, createRbacFilter, type RbacCounters } from "./rbac.ts";

export interface FilterDeps extends ExtAuthzDeps {
  /** From 0 to below 1. */
  random(): number;
  readonly rbacCounters: RbacCounters;
  /** Who judges the tokens of a chain's providers. */
  tokens(spec: JwtSpec): TokenVerifier;
}

/** @throws Error that names the filter */
export function createFilters(spec: HttpChainSpec, deps: FilterDeps): readonly HttpFilter[] {
  return spec.policies.map((policy) => named(policy.kind, () => createFilter(policy, deps)));
}

function createFilter(policy: HttpPolicySpec, deps: FilterDeps): HttpFilter {
  switch (policy.kind) {
    case "rbac":
      return createRbacFilter(policy.rbac, deps.rbacCounters);
    case "jwt":
      return createJwtFilter(policy.jwt, deps.tokens(policy.jwt));
    case "ext_authz":
      return createExtAuthzFilter(policy.extAuthz, deps);
    case "fault":
      return createFaultFilter(deps.timing, () => deps.random());
    case "cors":
      return corsFilter;
    case "grpc_web":
      return grpcWebFilter;
    case "grpc_stats":
      return grpcStatsFilter;
    default:
      return unknown(policy);
  }
}

/** All that judge a connection: who denies it need not be asked about it. @throws Error that names the filter */
export function createNetworkFilters(spec: TcpChainSpec, deps: FilterDeps): readonly NetworkFilter[] {
  const rbac = spec.rbac.map((each) => named("rbac", () => createNetworkRbacFilter(each, deps.rbacCounters)));
  const authorization = spec.extAuthz.map((each) =>
    named("ext_authz", () => createNetworkExtAuthz(each, spec.rbac, deps))
  );
  return [...rbac, ...authorization];
}

function named<T>(kind: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw new Error(`the filter ${kind} cannot be made: ${(error as Error).message}`, { cause: error });
  }
}

function unknown(policy: never): never {
  throw new Error(`${(policy as { readonly kind: string }).kind} is not known`);
}
