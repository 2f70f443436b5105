/** Tracing of a connection manager. A tracer that ambit does not have makes no spans; context is passed on all the same. */
import type { HttpConnectionManager_Tracing as Tracing } from "../../gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { OpenTelemetryConfigSchema } from "../../gen/envoy/config/trace/v3/opentelemetry_pb.ts";
import {
  type ZipkinConfig,
  ZipkinConfig_CollectorEndpointVersion as EndpointVersion,
  ZipkinConfig_TraceContextOption as TraceContext,
  ZipkinConfigSchema,
} from "../../gen/envoy/config/trace/v3/zipkin_pb.ts";
import type { HeaderValue } from "../../gen/envoy/config/core/v3/base_pb.ts";
import type { CustomTag } from "../../gen/envoy/type/tracing/v3/custom_tag_pb.ts";
import type { ClusterName, CustomTagSpec, TracingSpec } from "../spec/mod.ts";
import type { Warn } from "./access_log.ts";
import { parseFormat } from "./format.ts";
import { typeOf, understand, unpack, Unsupported } from "./guard.ts";

/** Envoy's. */
const MAX_PATH_TAG = 256;

export function tracingSpec(tracing: Tracing | undefined, warn: Warn): TracingSpec | undefined {
  if (tracing === undefined) return undefined;
  const orLeftOut = <T>(what: string, read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof Unsupported)) throw error;
      warn(`tracing: ${what}: ${error.message}; it is left out`);
      return undefined;
    }
  };
  return {
    randomSampling: tracing.randomSampling?.value ?? 100,
    clientSampling: tracing.clientSampling?.value ?? 100,
    overallSampling: tracing.overallSampling?.value ?? 100,
    maxPathTagLength: tracing.maxPathTagLength ?? MAX_PATH_TAG,
    tags: tracing.customTags.flatMap((tag) => orLeftOut(`tag ${tag.tag}`, () => customTag(tag)) ?? []),
    provider: orLeftOut("provider", () => provider(tracing)),
  };
}

const ZIPKIN = understand(
  ZipkinConfigSchema,
  "collector_cluster collector_endpoint trace_id_128bit shared_span_context collector_endpoint_version collector_hostname trace_context_option collector_service",
  "split_spans_for_request",
);
const OPEN_TELEMETRY = understand(
  OpenTelemetryConfigSchema,
  "grpc_service http_service service_name",
  "resource_detectors sampler",
);

function provider(tracing: Tracing): TracingSpec["provider"] {
  const any = tracing.provider?.configType.value;
  switch (typeOf(any)) {
    case "":
      return undefined;
    case ZipkinConfigSchema.typeName: {
      const zipkin = unpack(any, ZIPKIN);
      const version = zipkin.collectorEndpointVersion;
      if (version !== EndpointVersion.HTTP_JSON) {
        throw new Unsupported(`Zipkin's collector version ${version} is not supported`);
      }
      return {
        kind: "zipkin",
        ...collector(zipkin),
        traceId128: zipkin.traceId128bit,
        sharedSpanContext: zipkin.sharedSpanContext ?? true,
        w3c: zipkin.traceContextOption === TraceContext.USE_B3_WITH_W3C_PROPAGATION,
      };
    }
    case OpenTelemetryConfigSchema.typeName: {
      const { grpcService, httpService, serviceName } = unpack(any, OPEN_TELEMETRY);
      if (httpService !== undefined) {
        const uri = httpService.httpUri;
        if (uri?.httpUpstreamType.case !== "cluster") {
          throw new Unsupported("a collector without a cluster is not supported");
        }
        const headers = httpService.requestHeadersToAdd.flatMap(({ header }) =>
          header === undefined ? [] : [nameValue(header)]
        );
        return {
          kind: "otlp http",
          cluster: uri.httpUpstreamType.value as ClusterName,
          uri: uri.uri,
          serviceName,
          headers,
        };
      }
      const target = grpcService?.targetSpecifier;
      if (target?.case !== "envoyGrpc") throw new Unsupported("a collector without a cluster is not supported");
      const headers = (grpcService?.initialMetadata ?? []).map(nameValue);
      return { kind: "otlp grpc", cluster: target.value.clusterName as ClusterName, serviceName, headers };
    }
    default:
      throw new Unsupported(`${typeOf(any)} is not supported`);
  }
}

function nameValue({ key, value }: HeaderValue): { readonly name: string; readonly value: string } {
  return { name: key.toLowerCase(), value };
}

function collector(
  zipkin: ZipkinConfig,
): { readonly cluster: ClusterName; readonly path: string; readonly host: string } {
  const uri = zipkin.collectorService?.httpUri;
  if (uri?.httpUpstreamType.case === "cluster") {
    const parsed = URL.canParse(uri.uri) ? new URL(uri.uri) : undefined;
    return {
      cluster: uri.httpUpstreamType.value as ClusterName,
      path: parsed === undefined ? uri.uri : parsed.pathname,
      host: parsed?.host ?? uri.httpUpstreamType.value,
    };
  }
  if (zipkin.collectorCluster === "") throw new Unsupported("a collector without a cluster is not supported");
  return {
    cluster: zipkin.collectorCluster as ClusterName,
    path: zipkin.collectorEndpoint,
    host: zipkin.collectorHostname || zipkin.collectorCluster,
  };
}

function customTag({ tag, type }: CustomTag): CustomTagSpec {
  switch (type.case) {
    case "literal":
      return { tag, from: { kind: "literal", value: type.value.value } };
    case "environment":
      return { tag, from: { kind: "environment", name: type.value.name, fallback: type.value.defaultValue } };
    case "requestHeader":
      return { tag, from: { kind: "header", name: type.value.name.toLowerCase(), fallback: type.value.defaultValue } };
    case "value":
      return { tag, from: { kind: "format", format: parseFormat(type.value) } };
    case "metadata": {
      const { kind, metadataKey, defaultValue } = type.value;
      return {
        tag,
        from: {
          kind: "metadata",
          of: kind?.kind.case ?? "request",
          namespace: metadataKey?.key ?? "",
          path: (metadataKey?.path ?? []).map(({ segment }) => segment.value ?? ""),
          fallback: defaultValue,
        },
      };
    }
    default:
      throw new Unsupported("a tag without a value is not supported");
  }
}
