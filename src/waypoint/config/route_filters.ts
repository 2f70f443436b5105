/** Settings that the fault and CORS filters have by route. */
import type { Any } from "@bufbuild/protobuf/wkt";
import { CorsPolicySchema } from "../../gen/envoy/extensions/filters/http/cors/v3/cors_pb.ts";
import { FaultAbortSchema, HTTPFaultSchema } from "../../gen/envoy/extensions/filters/http/fault/v3/fault_pb.ts";
import { FaultDelaySchema } from "../../gen/envoy/extensions/filters/common/fault/v3/fault_pb.ts";
import type { CorsSpec, FaultSpec } from "../spec/mod.ts";
import { expectUnderstood, milliseconds, understand, unpack, Unsupported } from "./guard.ts";
import { perMillion, textMatch } from "./matchers.ts";

const FAULT = understand(HTTPFaultSchema, "delay abort", "filter_metadata disable_downstream_cluster_stats");
const DELAY = understand(FaultDelaySchema, "fixed_delay percentage");
const ABORT = understand(FaultAbortSchema, "http_status grpc_status percentage");

/** @throws Unsupported */
export function faultSpec(any: Any): FaultSpec {
  const fault = unpack(any, FAULT);
  let delay: FaultSpec["delay"], abort: FaultSpec["abort"];
  if (fault.delay !== undefined) {
    expectUnderstood(DELAY, fault.delay);
    const { faultDelaySecifier: specifier, percentage } = fault.delay;
    if (specifier.case !== "fixedDelay") throw new Unsupported("a delay without a time is not supported");
    delay = { ms: milliseconds(specifier.value, 0), fraction: perMillion(percentage, 0) };
  }
  if (fault.abort !== undefined) {
    expectUnderstood(ABORT, fault.abort);
    const { errorType, percentage } = fault.abort;
    const fraction = perMillion(percentage, 0);
    if (errorType.case === "httpStatus") abort = { kind: "http", status: errorType.value, fraction };
    else if (errorType.case === "grpcStatus") abort = { kind: "grpc", status: errorType.value, fraction };
    else throw new Unsupported("an abort without a status is not supported");
  }
  return { delay, abort };
}

const CORS = understand(
  CorsPolicySchema,
  "allow_origin_string_match allow_methods allow_headers expose_headers max_age allow_credentials filter_enabled forward_not_matching_preflights",
  "shadow_enabled",
);

/** @throws Unsupported */
export function corsSpec(any: Any): CorsSpec | undefined {
  const cors = unpack(any, CORS);
  const enabled = perMillion(cors.filterEnabled?.defaultValue, 1_000_000);
  if (enabled !== 0 && enabled !== 1_000_000) throw new Unsupported("CORS for a part of all requests is not supported");
  if (enabled === 0) return undefined;
  return {
    origins: cors.allowOriginStringMatch.map(textMatch),
    methods: cors.allowMethods,
    headers: cors.allowHeaders,
    exposeHeaders: cors.exposeHeaders,
    maxAge: cors.maxAge,
    credentials: cors.allowCredentials ?? false,
    forwardOtherPreflights: cors.forwardNotMatchingPreflights ?? true,
  };
}
