/** Envoy's ext_authz filters, HTTP and TCP, as CUSTOM policies make them. */
import type { Any } from "@bufbuild/protobuf/wkt";
import { ApiVersion } from "../../gen/envoy/config/core/v3/config_source_pb.ts";
import { type GrpcService, GrpcServiceSchema } from "../../gen/envoy/config/core/v3/grpc_service_pb.ts";
import {
  AuthorizationRequestSchema,
  AuthorizationResponseSchema,
  BufferSettingsSchema,
  type ExtAuthz,
  ExtAuthzSchema,
  HttpServiceSchema,
} from "../../gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.ts";
import { ExtAuthzSchema as NetworkExtAuthzSchema } from "../../gen/envoy/extensions/filters/network/ext_authz/v3/ext_authz_pb.ts";
import type { MetadataMatcher } from "../../gen/envoy/type/matcher/v3/metadata_pb.ts";
import type { ListStringMatcher } from "../../gen/envoy/type/matcher/v3/string_pb.ts";
import type { ClusterName, ExtAuthzSpec, TextMatch } from "../spec/mod.ts";
import { expectUnderstood, milliseconds, understand, unpack, Unsupported } from "./guard.ts";
import { metadataMatch, textMatch } from "./matchers.ts";

const HTTP = understand(
  ExtAuthzSchema,
  "grpc_service http_service transport_api_version failure_mode_allow with_request_body clear_route_cache status_on_error filter_enabled_metadata stat_prefix include_peer_certificate allowed_headers",
  "charge_cluster_response_stats",
);
const BODY = understand(BufferSettingsSchema, "max_request_bytes allow_partial_message pack_as_bytes");
/** Envoy's, of a service that says nothing. */
const TIMEOUT_MS = 200;
const FORBIDDEN = 403;

/** @throws Unsupported */
export function httpExtAuthz(any: Any): ExtAuthzSpec {
  const message = unpack(any, HTTP);
  const { services, withRequestBody: body } = message;
  if (body !== undefined) expectUnderstood(BODY, body);
  return {
    service: service(message, services),
    body: body && { maxBytes: body.maxRequestBytes, allowPartial: body.allowPartialMessage, asBytes: body.packAsBytes },
    failureAllows: message.failureModeAllow,
    statusOnError: message.statusOnError?.code || FORBIDDEN,
    onlyIfPolicy: onlyIfPolicy(message.filterEnabledMetadata),
    statPrefix: message.statPrefix,
    includePeerCertificate: message.includePeerCertificate,
    clearRouteCache: message.clearRouteCache,
  };
}

function service(message: ExtAuthz, services: ExtAuthz["services"]): ExtAuthzSpec["service"] {
  switch (services.case) {
    case "grpcService":
      if (message.transportApiVersion !== ApiVersion.V3) {
        throw new Unsupported("ext_authz of an older API is not supported");
      }
      return grpcService(services.value, message.allowedHeaders && texts(message.allowedHeaders));
    case "httpService":
      return httpService(services.value, message.allowedHeaders);
    default:
      throw new Unsupported("ext_authz has no service");
  }
}

const GRPC = understand(GrpcServiceSchema, "envoy_grpc timeout");

function grpcService(message: GrpcService, allowedHeaders: readonly TextMatch[] | undefined): ExtAuthzSpec["service"] {
  expectUnderstood(GRPC, message);
  const { targetSpecifier: target } = message;
  if (target.case !== "envoyGrpc") throw new Unsupported("a gRPC service without a cluster is not supported");
  return {
    kind: "grpc",
    cluster: target.value.clusterName as ClusterName,
    authority: target.value.authority || target.value.clusterName,
    timeoutMs: milliseconds(message.timeout, TIMEOUT_MS),
    allowedHeaders,
  };
}

const SERVICE = understand(HttpServiceSchema, "server_uri path_prefix authorization_request authorization_response");
const REQUEST = understand(AuthorizationRequestSchema, "allowed_headers headers_to_add");
const RESPONSE = understand(
  AuthorizationResponseSchema,
  "allowed_upstream_headers allowed_upstream_headers_to_append allowed_client_headers allowed_client_headers_on_success",
);

function httpService(
  message: Extract<ExtAuthz["services"], { case: "httpService" }>["value"],
  allowedHeaders: ListStringMatcher | undefined,
): ExtAuthzSpec["service"] {
  expectUnderstood(SERVICE, message);
  const { serverUri, authorizationRequest: request, authorizationResponse: response } = message;
  if (request !== undefined) expectUnderstood(REQUEST, request);
  if (response !== undefined) expectUnderstood(RESPONSE, response);
  if (serverUri?.httpUpstreamType.case !== "cluster") {
    throw new Unsupported("ext_authz over HTTP without a cluster is not supported");
  }
  return {
    kind: "http",
    cluster: serverUri.httpUpstreamType.value as ClusterName,
    uri: serverUri.uri,
    timeoutMs: milliseconds(serverUri.timeout, TIMEOUT_MS),
    pathPrefix: message.pathPrefix,
    addToCheck: (request?.headersToAdd ?? []).map(({ key, value }) => ({ name: key.toLowerCase(), value })),
    allowedHeaders: texts(allowedHeaders ?? request?.allowedHeaders),
    toUpstream: texts(response?.allowedUpstreamHeaders),
    toUpstreamAppend: texts(response?.allowedUpstreamHeadersToAppend),
    toClient: texts(response?.allowedClientHeaders),
    toClientOnSuccess: texts(response?.allowedClientHeadersOnSuccess),
  };
}

const NETWORK = understand(
  NetworkExtAuthzSchema,
  "stat_prefix grpc_service failure_mode_allow include_peer_certificate transport_api_version filter_enabled_metadata",
);

/** @throws Unsupported */
export function networkExtAuthz(any: Any): ExtAuthzSpec {
  const message = unpack(any, NETWORK);
  if (message.grpcService === undefined) throw new Unsupported("ext_authz has no service");
  if (message.transportApiVersion !== ApiVersion.V3) {
    throw new Unsupported("ext_authz of an older API is not supported");
  }
  return {
    service: grpcService(message.grpcService, undefined),
    body: undefined,
    failureAllows: message.failureModeAllow,
    statusOnError: FORBIDDEN,
    onlyIfPolicy: onlyIfPolicy(message.filterEnabledMetadata),
    statPrefix: message.statPrefix,
    includePeerCertificate: message.includePeerCertificate,
    clearRouteCache: false,
  };
}

const RBAC_METADATA = "envoy.filters.http.rbac";
const NETWORK_RBAC_METADATA = "envoy.filters.network.rbac";

/** The one condition that istiod sets: the shadow policy in force begins with a prefix. */
function onlyIfPolicy(matcher: MetadataMatcher | undefined): ExtAuthzSpec["onlyIfPolicy"] {
  if (matcher === undefined) return undefined;
  const { namespace, path, value, invert } = metadataMatch(matcher);
  const known = namespace === RBAC_METADATA || namespace === NETWORK_RBAC_METADATA;
  const isPrefix = value.kind === "text" && value.match.kind === "prefix" && !value.match.ignoreCase;
  if (!known || invert || path.length !== 1 || !isPrefix) {
    throw new Unsupported("ExtAuthz.filter_enabled_metadata by anything but a policy's name is not supported");
  }
  return { metadataKey: path[0], prefix: (value.match as { readonly text: string }).text };
}

function texts(list: ListStringMatcher | undefined): readonly TextMatch[] {
  return (list?.patterns ?? []).map(textMatch);
}
