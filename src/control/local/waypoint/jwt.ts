/** RequestAuthentications as the filter that checks tokens (waypoint.md 3.4). A request without a token passes; policies ask for one. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { JwtRule, RequestAuthentication } from "../kube/objects.ts";
import type { References } from "./references.ts";
import { duration } from "./routes.ts";
import { extension } from "./xds_resource.ts";

/** istiod's. */
const FETCH_TIMEOUT_MS = 5_000;
const CACHE = "300s";

export function jwtFilters(
  authentications: readonly RequestAuthentication[],
  references: References,
): readonly JsonObject[] {
  const rules = authentications.flatMap(({ jwtRules }) => jwtRules);
  if (rules.length === 0) return [];
  const named = rules.map((rule, index) => [`origins-${index}`, provider(rule, references)] as const);
  const names = named.map(([name]) => ({ provider_name: name }));
  const orMissing = (requirement: JsonObject) => anyOf([requirement, { allow_missing: {} }]);
  const requires = names.length === 1
    ? orMissing(names[0]!)
    : anyOf([...names, { requires_all: { requirements: names.map(orMissing) } }]);
  return [
    extension("envoy.filters.http.jwt_authn", "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication", {
      bypass_cors_preflight: true,
      providers: Object.fromEntries(named),
      rules: [{ match: { prefix: "/" }, requires }],
    }),
  ];
}

function anyOf(requirements: readonly JsonObject[]): JsonObject {
  return { requires_any: { requirements: [...requirements] } };
}

function provider(rule: JwtRule, references: References): JsonObject {
  const { issuer, audiences, fromHeaders, fromParams, fromCookies, outputPayloadToHeader, forwardOriginalToken } = rule;
  const claims = rule.outputClaimToHeaders.map(({ header, claim }) => ({ header_name: header, claim_name: claim }));
  const headers = fromHeaders.map(({ name, prefix }) => ({ name, ...(prefix === "" ? {} : { value_prefix: prefix }) }));
  return {
    issuer,
    ...present({ audiences, from_params: fromParams, from_cookies: fromCookies }),
    ...present({ from_headers: headers, claim_to_headers: claims }),
    ...(outputPayloadToHeader === undefined ? {} : { forward_payload_header: outputPayloadToHeader }),
    forward: forwardOriginalToken,
    clear_route_cache: true,
    payload_in_metadata: "payload",
    normalize_payload_in_metadata: { space_delimited_claims: ["permission", "scope"] },
    ...keys(rule, references),
  };
}

function keys(
  { jwks, jwksUri, timeoutMs, path }: JwtRule,
  references: References,
): JsonObject {
  if (jwksUri === undefined) return { local_jwks: { inline_string: jwks ?? "" } };
  const url = new URL(jwksUri);
  const port = Number(url.port) || (url.protocol === "https:" ? 443 : 80);
  const service = references.byHostname(url.hostname);
  if (service === undefined || service.ports[port] === undefined || url.protocol !== "http:") {
    const what = url.protocol === "http:" ? `is no service of the file with the port ${port}` : "is asked over TLS";
    const message = `${url.hostname} ${what}, and nothing else can be reached; give the keys in jwks`;
    references.report([...path, "jwksUri"], message);
    return {};
  }
  const timeout = duration(timeoutMs ?? FETCH_TIMEOUT_MS);
  const cluster = references.clusterOf(service, port);
  return { remote_jwks: { http_uri: { uri: jwksUri, cluster, timeout }, cache_duration: CACHE } };
}

function present(lists: Readonly<Record<string, readonly (string | JsonObject)[]>>): JsonObject {
  return Object.fromEntries(
    Object.entries(lists).filter(([, list]) => list.length > 0).map(([key, list]) => [key, [...list]]),
  );
}
