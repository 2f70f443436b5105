/** Envoy's jwt_authn, as RequestAuthentication makes it. */
import type { Any } from "@bufbuild/protobuf/wkt";
import {
  JwksAsyncFetchSchema,
  type JwtAuthentication,
  JwtAuthenticationSchema,
  type JwtProvider,
  JwtProviderSchema,
  type JwtRequirement as Requirement,
  JwtRequirementSchema,
  ProviderWithAudiencesSchema,
  RemoteJwksSchema,
  type RequirementRule,
  RequirementRuleSchema,
} from "../../gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.ts";
import type { ClusterName, JwtProviderSpec, JwtRequirement, JwtSpec } from "../spec/mod.ts";
import { expectUnderstood, milliseconds, understand, unpack, Unsupported, within } from "./guard.ts";
import { textMatch } from "./matchers.ts";
import { routeMatch } from "./route_match.ts";
import { inlineText } from "./routes.ts";

const AUTHENTICATION = understand(
  JwtAuthenticationSchema,
  "providers rules bypass_cors_preflight requirement_map",
  "strip_failure_response",
);

/** @throws Unsupported */
export function jwtAuthentication(any: Any): JwtSpec {
  const message = unpack(any, AUTHENTICATION);
  const providers = Object.entries(message.providers).map(([name, provider]) =>
    [name, within(`provider ${name}`, () => jwtProvider(name, provider))] as const
  );
  return {
    providers: Object.fromEntries(providers),
    rules: message.rules.map((rule) => requirementRule(rule, message)),
    bypassCorsPreflight: message.bypassCorsPreflight,
  };
}

const RULE = understand(RequirementRuleSchema, "match requires requirement_name");

function requirementRule(
  rule: RequirementRule,
  { requirementMap, providers }: JwtAuthentication,
): JwtSpec["rules"][number] {
  expectUnderstood(RULE, rule);
  const match = routeMatch(rule.match);
  if (match.query.length > 0 || match.metadata.length > 0 || match.grpcOnly) {
    throw new Unsupported("a JWT rule that matches by more than path and headers is not supported");
  }
  const { requirementType: type } = rule;
  const message = type.case === "requires"
    ? type.value
    : type.case === "requirementName"
    ? requirementMap[type.value]
    : undefined;
  // Without a requirement Envoy lets every request pass; said so explicitly, it can be relied on.
  if (message === undefined && type.case !== undefined) {
    throw new Unsupported("a JWT rule names a requirement that is not there");
  }
  const requires: JwtRequirement = message === undefined
    ? { kind: "allow missing or failed" }
    : requirement(message, new Set(Object.keys(providers)));
  return { path: match.path, headers: match.headers, requires };
}

const REQUIREMENT = understand(
  JwtRequirementSchema,
  "provider_name provider_and_audiences requires_any requires_all allow_missing_or_failed allow_missing",
);
const WITH_AUDIENCES = understand(ProviderWithAudiencesSchema, "provider_name audiences");

function requirement(message: Requirement, providers: ReadonlySet<string>): JwtRequirement {
  expectUnderstood(REQUIREMENT, message);
  const known = (provider: string): string => {
    if (!providers.has(provider)) throw new Unsupported(`the JWT provider ${JSON.stringify(provider)} is not there`);
    return provider;
  };
  const { requiresType: type } = message;
  switch (type.case) {
    case "providerName":
      return { kind: "provider", provider: known(type.value), audiences: undefined };
    case "providerAndAudiences":
      expectUnderstood(WITH_AUDIENCES, type.value);
      return { kind: "provider", provider: known(type.value.providerName), audiences: type.value.audiences };
    case "requiresAny":
      return { kind: "any", of: type.value.requirements.map((each) => requirement(each, providers)) };
    case "requiresAll":
      return { kind: "all", of: type.value.requirements.map((each) => requirement(each, providers)) };
    case "allowMissing":
      return { kind: "allow missing" };
    case "allowMissingOrFailed":
      return { kind: "allow missing or failed" };
    default:
      throw new Unsupported("a JWT requirement is empty");
  }
}

const PROVIDER = understand(
  JwtProviderSchema,
  "issuer audiences subjects require_expiration remote_jwks local_jwks forward from_headers from_params from_cookies forward_payload_header pad_forward_payload_header payload_in_metadata normalize_payload_in_metadata header_in_metadata clock_skew_seconds claim_to_headers clear_route_cache",
  "jwt_cache_config failed_status_in_metadata",
);
/** Envoy's. */
const CLOCK_SKEW_SECONDS = 60;

function jwtProvider(name: string, provider: JwtProvider): JwtProviderSpec {
  expectUnderstood(PROVIDER, provider);
  return {
    name,
    issuer: provider.issuer,
    audiences: provider.audiences,
    subjects: provider.subjects && textMatch(provider.subjects),
    requireExpiration: provider.requireExpiration,
    keys: keys(provider),
    fromHeaders: provider.fromHeaders.map(({ name, valuePrefix }) => ({
      name: name.toLowerCase(),
      prefix: valuePrefix,
    })),
    fromParams: provider.fromParams,
    fromCookies: provider.fromCookies,
    forward: provider.forward,
    forwardPayloadHeader: provider.forwardPayloadHeader.toLowerCase(),
    padForwardPayload: provider.padForwardPayloadHeader,
    claimsToHeaders: provider.claimToHeaders.map(({ claimName, headerName }) => ({
      claim: claimName,
      header: headerName.toLowerCase(),
    })),
    payloadInMetadata: provider.payloadInMetadata,
    headerInMetadata: provider.headerInMetadata,
    spaceDelimitedClaims: provider.normalizePayloadInMetadata?.spaceDelimitedClaims ?? [],
    clockSkewSeconds: provider.clockSkewSeconds || CLOCK_SKEW_SECONDS,
    clearRouteCache: provider.clearRouteCache,
  };
}

const REMOTE = understand(RemoteJwksSchema, "http_uri cache_duration", "async_fetch retry_policy");
const ASYNC = understand(JwksAsyncFetchSchema, "fast_listener failed_refetch_duration");
/** Envoy's. */
const CACHE_MS = 600_000;
const FETCH_TIMEOUT_MS = 5_000;

function keys({ jwksSourceSpecifier: source }: JwtProvider): JwtProviderSpec["keys"] {
  switch (source.case) {
    case "localJwks":
      return { kind: "inline", jwks: inlineText(source.value) };
    case "remoteJwks": {
      expectUnderstood(REMOTE, source.value);
      const { httpUri, cacheDuration, asyncFetch } = source.value;
      if (asyncFetch !== undefined) expectUnderstood(ASYNC, asyncFetch);
      if (httpUri?.httpUpstreamType.case !== "cluster") {
        throw new Unsupported("remote JWKS without a cluster are not supported");
      }
      return {
        kind: "remote",
        uri: httpUri.uri,
        cluster: httpUri.httpUpstreamType.value as ClusterName,
        timeoutMs: milliseconds(httpUri.timeout, FETCH_TIMEOUT_MS),
        cacheMs: milliseconds(cacheDuration, CACHE_MS),
      };
    }
    default:
      throw new Unsupported("a JWT provider has no keys");
  }
}
