/** The mesh model and its decisions, pure: no IO, no clock, no randomness but what is passed in. */
export * from "./types.ts";
export * from "./defaults.ts";
export * from "./ip.ts";
export * from "./ports.ts";
export * from "./socket_address.ts";
export * from "./spiffe.ts";
export { parseMesh, type ParseResult, type ResourceError } from "./parse.ts";
export { Changes, type ChangeSet, type MeshChange } from "./changes.ts";
export { type LocalPod, MeshStore } from "./store.ts";
export type { Address, EndpointEntry, EndpointSet, GatewayTarget, MeshView } from "./view.ts";
export type { PolicyPlace, WorkloadPolicies } from "./policy_index.ts";
export { type Missing, missingForAddress, missingServices } from "./missing.ts";
export type { MeshDump } from "./config_dump.ts";
export { type Closure, closureFor, closureForHostname, closureForWorkload, type Sampling } from "./closure.ts";
export { type Outbound, type OutboundRequest, type RefusalCode, type Refused, resolveOutbound } from "./resolve.ts";
export type { Random } from "./balance.ts";
export {
  describeAuthority,
  type Inbound,
  type InboundRequest,
  inboundService,
  type RejectionCode,
  resolveInbound,
} from "./inbound.ts";
export {
  authorize,
  type CompiledPolicies,
  compilePolicies,
  type ConnectionFacts,
  type DenialKind,
  type DryRun,
  type PolicyRule,
  type Verdict,
} from "./authorize/mod.ts";
export * from "./labels.ts";
export * from "./baggage.ts";
export * from "./forwarded.ts";
