/** What this lab's istiod is told besides its defaults: who may be asked about requests, and that waypoints fetch keys themselves. */
import type { PlaneSettings } from "../../../istiod/support/lab.ts";
import { type Build, buildsUnderTest } from "../../../istiod/support/builds.ts";
import { AUTHORITY_PORTS } from "../apps/protocol.ts";

/** The service of a build's authority (apps/authority.ts); its port `dead` leads to a port where nobody listens. */
export const AUTHORITY = "authority";

/** Names of `spec.provider`. */
export type Provider = "http" | "http-body" | "http-slow" | "grpc" | "http-dead" | "http-open" | "grpc-dead";
export const providerOf = (build: Build, provider: Provider): string => `${provider}-${build}`;

const HTTP = {
  port: AUTHORITY_PORTS.http,
  timeout: "3s",
  pathPrefix: "/check",
  includeRequestHeadersInCheck: ["x-ext-authz", "x-who"],
  includeAdditionalHeadersInCheck: { "x-from-provider": "yes" },
  headersToUpstreamOnAllow: ["x-added", "x-saw"],
  headersToDownstreamOnAllow: ["x-client"],
  headersToDownstreamOnDeny: ["x-denied", "content-type"],
};
const GRPC = { port: AUTHORITY_PORTS.grpc, timeout: "3s" };
const BODY = { includeRequestBodyInCheck: { maxRequestBytes: 64, allowPartialMessage: true } };
const DEAD = { port: AUTHORITY_PORTS.dead, timeout: "2s" };

function providersOf(build: Build): readonly unknown[] {
  const service = `${AUTHORITY}.stage-${build}.svc.cluster.local`;
  const http = (name: Provider, settings: object) => ({
    name: providerOf(build, name),
    envoyExtAuthzHttp: { service, ...HTTP, ...settings },
  });
  const grpc = (name: Provider, settings: object) => ({
    name: providerOf(build, name),
    envoyExtAuthzGrpc: { service, ...GRPC, ...settings },
  });
  return [
    http("http", {}),
    http("http-body", BODY),
    http("http-slow", { timeout: "0.3s" }),
    grpc("grpc", BODY),
    http("http-dead", { ...DEAD, statusOnError: "503" }),
    http("http-open", { ...DEAD, failOpen: true }),
    grpc("grpc-dead", DEAD),
  ];
}

export const PLANE: PlaneSettings = {
  istiodEnv: {
    PILOT_JWT_ENABLE_REMOTE_JWKS: "envoy",
    // Scenarios of three builds at once leave it no quiet moment: by default it then waits 10 s for one.
    PILOT_DEBOUNCE_MAX: "1s",
  },
  meshConfig: { extensionProviders: buildsUnderTest("AMBIT_WAYPOINT_BUILDS").flatMap(providersOf) },
};
