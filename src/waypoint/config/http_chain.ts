/** A connection manager of an inner chain to an HTTP chain: its settings, its filters in order, its routes. */
import type { Any } from "@bufbuild/protobuf/wkt";
import { PreserveCaseFormatterConfigSchema } from "../../gen/envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case_pb.ts";
import { Http1ProtocolOptionsSchema, HttpProtocolOptionsSchema } from "../../gen/envoy/config/core/v3/protocol_pb.ts";
import { CorsSchema } from "../../gen/envoy/extensions/filters/http/cors/v3/cors_pb.ts";
import { FilterConfigSchema as DynamicForwardSchema } from "../../gen/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.ts";
import { ExtAuthzSchema } from "../../gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.ts";
import { HTTPFaultSchema } from "../../gen/envoy/extensions/filters/http/fault/v3/fault_pb.ts";
import { FilterConfigSchema as GrpcStatsSchema } from "../../gen/envoy/extensions/filters/http/grpc_stats/v3/config_pb.ts";
import { GrpcWebSchema } from "../../gen/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.ts";
import {
  type HeaderMutation,
  HeaderMutationSchema,
} from "../../gen/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.ts";
import { JwtAuthenticationSchema } from "../../gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.ts";
import { RBACSchema } from "../../gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts";
import { RouterSchema } from "../../gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { WasmSchema } from "../../gen/envoy/extensions/filters/http/wasm/v3/wasm_pb.ts";
import {
  type HttpConnectionManager,
  HttpConnectionManager_ForwardClientCertDetails as ClientCert,
  HttpConnectionManager_PathWithEscapedSlashesAction as Slashes,
  HttpConnectionManager_ServerHeaderTransformation as ServerHeader,
  HttpConnectionManagerSchema,
  type HttpFilter,
  RequestIDExtension,
} from "../../gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { FailurePolicy } from "../../gen/envoy/extensions/wasm/v3/wasm_pb.ts";
import { UuidRequestIdConfigSchema } from "../../gen/envoy/extensions/request_id/uuid/v3/uuid_pb.ts";
import type { ChainName, HttpChainSpec, HttpOptionsSpec, HttpPolicySpec, StatsSpec } from "../spec/mod.ts";
import { accessLogs, type Warn } from "./access_log.ts";
import { httpExtAuthz } from "./ext_authz.ts";
import { expectUnderstood, milliseconds, typeOf, understand, unpack, Unsupported, within } from "./guard.ts";
import { jwtAuthentication } from "./jwt.ts";
import { isPeerMetadata } from "./network_filters.ts";
import { httpRbac } from "./rbac.ts";
import { routeTable } from "./routes.ts";
import { STATS_TYPE, statsSpec } from "./stats.ts";
import { tracingSpec } from "./tracing.ts";

/** Filters that come by ECDS, by name; undefined for one that has not come. */
export type DiscoveredFilters = (name: string) => Any | undefined;

export const MANAGER = understand(
  HttpConnectionManagerSchema,
  "codec_type stat_prefix route_config http_filters tracing common_http_protocol_options http_protocol_options http2_protocol_options server_name server_header_transformation max_request_headers_kb stream_idle_timeout request_timeout request_headers_timeout access_log use_remote_address generate_request_id preserve_external_request_id always_set_request_id_in_response forward_client_cert_details proxy_100_continue upgrade_configs normalize_path merge_slashes path_with_escaped_slashes_action request_id_extension",
  "set_current_client_cert_details internal_address_config drain_timeout delayed_close_timeout access_log_options add_user_agent via stream_error_on_invalid_http_message access_log_flush_interval",
);

/** @throws Unsupported */
export function httpChain(name: ChainName, any: Any, discovered: DiscoveredFilters, warn: Warn): HttpChainSpec {
  const manager = unpack(any, MANAGER);
  if (manager.routeSpecifier.case !== "routeConfig") {
    throw new Unsupported("routes that are not inline are not supported");
  }
  if (manager.useRemoteAddress === true) {
    throw new Unsupported("HttpConnectionManager.use_remote_address is not supported");
  }
  const { policies, stats, setClientCert } = httpFilters(manager.httpFilters, discovered, warn);
  return {
    kind: "http",
    name,
    statPrefix: manager.statPrefix.replace(/;$/, ""),
    options: { ...options(manager), setClientCert },
    routes: routeTable(manager.routeSpecifier.value),
    policies,
    accessLogs: accessLogs(manager.accessLog, warn),
    stats,
    tracing: tracingSpec(manager.tracing, warn),
  };
}

const COMMON = understand(
  HttpProtocolOptionsSchema,
  "idle_timeout max_connection_duration max_headers_count",
  "headers_with_underscores_action max_requests_per_connection",
);
const HTTP1 = understand(
  Http1ProtocolOptionsSchema,
  "accept_http_10 header_key_format",
  "allow_absolute_url enable_trailers default_host_for_http_10 override_stream_error_on_invalid_http_message",
);
const PRESERVE_CASE = understand(
  PreserveCaseFormatterConfigSchema,
  "",
  "forward_reason_phrase formatter_type_on_envoy_headers",
);

/** Envoy's defaults. */
const STREAM_IDLE_MS = 300_000;
const IDLE_MS = 3_600_000;
const MAX_HEADERS_KB = 60;
const MAX_HEADERS = 100;
const MAX_BUFFERED_BYTES = 1 << 20;

const SLASHES: Readonly<Record<Slashes, HttpOptionsSpec["escapedSlashes"]>> = {
  [Slashes.IMPLEMENTATION_SPECIFIC_DEFAULT]: "keep",
  [Slashes.KEEP_UNCHANGED]: "keep",
  [Slashes.REJECT_REQUEST]: "reject",
  [Slashes.UNESCAPE_AND_REDIRECT]: "unescape and redirect",
  [Slashes.UNESCAPE_AND_FORWARD]: "unescape and forward",
};
const CLIENT_CERT: Readonly<Record<ClientCert, HttpOptionsSpec["forwardedClientCert"]>> = {
  [ClientCert.SANITIZE]: "sanitize",
  [ClientCert.FORWARD_ONLY]: "forward only",
  [ClientCert.APPEND_FORWARD]: "append",
  [ClientCert.SANITIZE_SET]: "set",
  [ClientCert.ALWAYS_FORWARD_ONLY]: "forward only",
};
const SERVER: Readonly<Record<ServerHeader, HttpOptionsSpec["serverHeader"]>> = {
  [ServerHeader.OVERWRITE]: "overwrite",
  [ServerHeader.APPEND_IF_ABSENT]: "append if absent",
  [ServerHeader.PASS_THROUGH]: "pass through",
};

function options(manager: HttpConnectionManager): HttpOptionsSpec {
  const { commonHttpProtocolOptions: common, httpProtocolOptions: http1 } = manager;
  if (common !== undefined) expectUnderstood(COMMON, common);
  if (http1 !== undefined) expectUnderstood(HTTP1, http1);
  const upgrades = manager.upgradeConfigs.filter(({ enabled }) => enabled ?? true);
  if (upgrades.some(({ filters }) => filters.length > 0)) {
    throw new Unsupported("upgrades with filters of their own are not supported");
  }
  return {
    serverName: manager.serverName || "envoy",
    serverHeader: SERVER[manager.serverHeaderTransformation] ?? "overwrite",
    acceptHttp10: http1?.acceptHttp10 ?? false,
    normalizePath: manager.normalizePath ?? false,
    mergeSlashes: manager.mergeSlashes,
    escapedSlashes: SLASHES[manager.pathWithEscapedSlashesAction] ?? "reject",
    upgrades: upgrades.map(({ upgradeType }) => upgradeType.toLowerCase()),
    proxy100Continue: manager.proxy100Continue,
    preserveHeaderCase: preservesCase(http1),
    streamIdleMs: milliseconds(manager.streamIdleTimeout, STREAM_IDLE_MS),
    requestTimeoutMs: milliseconds(manager.requestTimeout, 0),
    requestHeadersTimeoutMs: milliseconds(manager.requestHeadersTimeout, 0),
    idleTimeoutMs: milliseconds(common?.idleTimeout, IDLE_MS),
    maxConnectionMs: milliseconds(common?.maxConnectionDuration, 0),
    maxRequestHeadersKb: manager.maxRequestHeadersKb ?? MAX_HEADERS_KB,
    maxHeaders: common?.maxHeadersCount ?? MAX_HEADERS,
    requestId: requestId(manager),
    forwardedClientCert: CLIENT_CERT[manager.forwardClientCertDetails] ?? "sanitize",
    setClientCert: false,
    maxBufferedBytes: MAX_BUFFERED_BYTES,
  };
}

function preservesCase(http1: HttpConnectionManager["httpProtocolOptions"]): boolean {
  const format = http1?.headerKeyFormat?.headerFormat;
  if (format?.case === undefined) return false;
  if (format.case !== "statefulFormatter") {
    throw new Unsupported("Http1ProtocolOptions.header_key_format by words is not supported");
  }
  unpack(format.value.typedConfig, PRESERVE_CASE);
  return true;
}

const UUID = understand(UuidRequestIdConfigSchema, "", "pack_trace_reason use_request_id_for_trace_sampling");

function requestId(manager: HttpConnectionManager): HttpOptionsSpec["requestId"] {
  const extension: RequestIDExtension | undefined = manager.requestIdExtension;
  if (extension?.typedConfig !== undefined) unpack(extension.typedConfig, UUID);
  return {
    generate: manager.generateRequestId ?? true,
    preserveExternal: manager.preserveExternalRequestId,
    alwaysInResponse: manager.alwaysSetRequestIdInResponse,
  };
}

interface Filters {
  readonly policies: HttpPolicySpec[];
  stats: StatsSpec | undefined;
  setClientCert: boolean;
}

function httpFilters(filters: readonly HttpFilter[], discovered: DiscoveredFilters, warn: Warn): Filters {
  const found: Filters = { policies: [], stats: undefined, setClientCert: false };
  for (const filter of filters) {
    if (filter.disabled) continue;
    within(`filter ${filter.name}`, () => {
      const any = filter.configType.case === "typedConfig"
        ? filter.configType.value
        : discoveredFilter(filter, discovered);
      httpFilter(any, found, (text) => warn(`filter ${filter.name}: ${text}`));
    });
  }
  return found;
}

function discoveredFilter({ name }: HttpFilter, discovered: DiscoveredFilters): Any {
  const any = discovered(name);
  if (any === undefined) throw new Unsupported("its configuration has not come");
  return any;
}

const WITHOUT_SETTINGS = {
  router: understand(RouterSchema, "", "start_child_span suppress_envoy_headers dynamic_stats"),
  cors: understand(CorsSchema, ""),
  fault: understand(HTTPFaultSchema, ""),
  grpcStats: understand(GrpcStatsSchema, "emit_filter_state stats_for_all_methods", "enable_upstream_stats"),
  grpcWeb: understand(GrpcWebSchema, ""),
  dynamicForward: understand(DynamicForwardSchema, "dns_cache_config"),
} as const;
const WASM = understand(WasmSchema, "config");

function httpFilter(any: Any, found: Filters, warn: Warn): void {
  switch (typeOf(any)) {
    case RouterSchema.typeName:
      return void unpack(any, WITHOUT_SETTINGS.router);
    case DynamicForwardSchema.typeName:
      // The cluster says what may be resolved.
      return void unpack(any, WITHOUT_SETTINGS.dynamicForward);
    case RBACSchema.typeName:
      return void found.policies.push({ kind: "rbac", rbac: httpRbac(any) });
    case JwtAuthenticationSchema.typeName:
      return void found.policies.push({ kind: "jwt", jwt: jwtAuthentication(any) });
    case ExtAuthzSchema.typeName:
      return void found.policies.push({ kind: "ext_authz", extAuthz: httpExtAuthz(any) });
    case HTTPFaultSchema.typeName:
      unpack(any, WITHOUT_SETTINGS.fault);
      return void found.policies.push({ kind: "fault" });
    case CorsSchema.typeName:
      unpack(any, WITHOUT_SETTINGS.cors);
      return void found.policies.push({ kind: "cors" });
    case GrpcWebSchema.typeName:
      unpack(any, WITHOUT_SETTINGS.grpcWeb);
      return void found.policies.push({ kind: "grpc_web" });
    case GrpcStatsSchema.typeName:
      unpack(any, WITHOUT_SETTINGS.grpcStats);
      return void found.policies.push({ kind: "grpc_stats" });
    case STATS_TYPE:
      found.stats = statsSpec(any);
      return;
    case HeaderMutationSchema.typeName:
      expectClientCertMutation(unpack(any, MUTATION));
      found.setClientCert = true;
      return;
    case WasmSchema.typeName: {
      const { config } = unpack(any, WASM);
      const opens = config?.failurePolicy === FailurePolicy.FAIL_OPEN || config?.failOpen === true;
      if (!opens) throw new Unsupported("Wasm is not supported");
      return warn("Wasm is not supported; its failure policy lets requests pass without it");
    }
    default:
      if (!isPeerMetadata(any)) throw new Unsupported(`${typeOf(any)} is not supported`);
  }
}

const MUTATION = understand(HeaderMutationSchema, "mutations");
const XFCC = "x-forwarded-client-cert";
const XFCC_VALUE =
  "By=%FILTER_STATE(io.istio.local_principal:PLAIN)%;URI=%FILTER_STATE(io.istio.peer_principal:PLAIN)%";

/** The one mutation that istiod makes: who called, for the application. */
function expectClientCertMutation({ mutations }: HeaderMutation): void {
  const [only, ...others] = mutations?.requestMutations ?? [];
  const appended = only?.action.case === "append" ? only.action.value.header : undefined;
  const isKnown = others.length === 0 && (mutations?.responseMutations ?? []).length === 0 &&
    appended?.key.toLowerCase() === XFCC && appended.value === XFCC_VALUE;
  if (!isKnown) throw new Unsupported("a header mutation other than x-forwarded-client-cert is not supported");
}
