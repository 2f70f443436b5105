/** Envoy's ext_authz for TCP chains: a service decides, by gRPC, about each connection that the shadow policy before it picked out. */
import type { ConnectionInfo } from "../engine/connection_info.ts";
import type { NetworkFilter, NetworkOutcome } from "../engine/request_context.ts";
import type { ExtAuthzSpec, NetworkRbacSpec } from "../spec/mod.ts";
import { type ExtAuthzDeps, type ExtAuthzEvent, isAsked, MAX_REPLY_BYTES } from "./ext_authz.ts";
import { connectionCheck, grpcHead, grpcReply } from "./ext_authz_grpc.ts";
import { createShadowVerdicts } from "./rbac.ts";
import { UpstreamCall } from "./upstream_call.ts";

const ALLOWED: NetworkOutcome = { allowed: true, details: "" };
const DENIED: NetworkOutcome = { allowed: false, details: "ext_authz_denied", flag: "UAEX" };
const FAILED: NetworkOutcome = { allowed: false, details: "ext_authz_error", flag: "UAEX" };

/** `rbac`: of the same chain. @throws Error for what cannot be compiled, which refuses the chain */
export function createNetworkExtAuthz(
  spec: ExtAuthzSpec,
  rbac: readonly NetworkRbacSpec[],
  deps: ExtAuthzDeps,
): NetworkFilter {
  const { service } = spec;
  const shadows = createShadowVerdicts(rbac);
  const isAskedAbout = (info: ConnectionInfo): boolean =>
    spec.onlyIfPolicy === undefined || shadows(info).some((verdict) => isAsked(spec, verdict));
  if (service.kind !== "grpc") throw new Error("ext_authz of connections speaks gRPC alone");
  const head = grpcHead(service);
  const count = (event: ExtAuthzEvent): void => deps.authzCounter?.(event, spec.statPrefix);
  const failed = (): NetworkOutcome => {
    count("error");
    if (!spec.failureAllows) return FAILED;
    count("failure_mode_allowed");
    return ALLOWED;
  };
  return {
    name: "envoy.filters.network.ext_authz",
    connection(info, decided): (() => void) | undefined {
      if (!isAskedAbout(info)) {
        count("disabled");
        decided(ALLOWED);
        return undefined;
      }
      const cluster = deps.clusters.get(service.cluster);
      if (cluster === undefined) {
        decided(failed());
        return undefined;
      }
      const call = new UpstreamCall(
        {
          cluster,
          connection: info,
          head,
          body: connectionCheck(info, deps.wallMs()),
          timeoutMs: service.timeoutMs,
          maxReplyBytes: MAX_REPLY_BYTES,
        },
        deps.timing,
        (reply) => {
          const verdict = reply && grpcReply(reply);
          if (verdict === undefined || verdict.kind === "error") return decided(failed());
          const { kind } = verdict;
          count(kind === "allowed" ? "ok" : kind);
          decided(kind === "allowed" ? ALLOWED : DENIED);
        },
      );
      call.start();
      return () => call.cancel();
    },
  };
}
