/** Access loggers: file, OpenTelemetry and Envoy's gRPC. A logger that ambit does not have is left out with a warning: a log decides nothing. */
import type { JsonValue } from "@bufbuild/protobuf";
import {
  type AccessLog,
  type AccessLogFilter as Filter,
  AccessLogFilterSchema,
  ComparisonFilter_Op as Op,
} from "../../gen/envoy/config/accesslog/v3/accesslog_pb.ts";
import {
  type SubstitutionFormatString,
  SubstitutionFormatStringSchema,
} from "../../gen/envoy/config/core/v3/substitution_format_string_pb.ts";
import { FileAccessLogSchema } from "../../gen/envoy/extensions/access_loggers/file/v3/file_pb.ts";
import { ExpressionFilterSchema } from "../../gen/envoy/extensions/access_loggers/filters/cel/v3/cel_pb.ts";
import {
  type CommonGrpcAccessLogConfig,
  HttpGrpcAccessLogConfigSchema,
  TcpGrpcAccessLogConfigSchema,
} from "../../gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts";
import { OpenTelemetryAccessLogConfigSchema } from "../../gen/envoy/extensions/access_loggers/open_telemetry/v3/logs_service_pb.ts";
import type { AnyValue, KeyValueList } from "../../gen/opentelemetry/proto/common/v1/common_pb.ts";
import type { AccessLogFilter, AccessLogSpec, ClusterName, JsonFormat } from "../spec/mod.ts";
import { parseFormat } from "./format.ts";
import { expectUnderstood, typeOf, understand, unpack, Unsupported } from "./guard.ts";
import { inlineText } from "./routes.ts";

/** Where warnings about what was left out go. */
export type Warn = (text: string) => void;

/** Those that ambit has; the others are named to `warn`. */
export function accessLogs(logs: readonly AccessLog[], warn: Warn): readonly AccessLogSpec[] {
  return logs.flatMap((log) => {
    try {
      return [{ filter: log.filter && filterSpec(log.filter), to: destination(log) }];
    } catch (error) {
      if (!(error instanceof Unsupported)) throw error;
      warn(`access log ${log.name}: ${error.message}; it is left out`);
      return [];
    }
  });
}

const FILTER = understand(
  AccessLogFilterSchema,
  "status_code_filter and_filter or_filter response_flag_filter extension_filter",
);
const CEL = understand(ExpressionFilterSchema, "expression");
const OPS = { [Op.EQ]: "==", [Op.GE]: ">=", [Op.LE]: "<=" } as const;

function filterSpec(filter: Filter): AccessLogFilter {
  expectUnderstood(FILTER, filter);
  const { filterSpecifier: specifier } = filter;
  switch (specifier.case) {
    case "statusCodeFilter": {
      const { op, value } = specifier.value.comparison ?? { op: Op.EQ, value: undefined };
      return { kind: "status", op: OPS[op] ?? "==", value: value?.defaultValue ?? 0 };
    }
    case "responseFlagFilter":
      return { kind: "flags", flags: specifier.value.flags };
    case "andFilter":
      return { kind: "and", of: specifier.value.filters.map(filterSpec) };
    case "orFilter":
      return { kind: "or", of: specifier.value.filters.map(filterSpec) };
    case "extensionFilter":
      return { kind: "cel", expression: unpack(specifier.value.configType.value, CEL).expression };
    default:
      throw new Unsupported("a filter without a condition is not supported");
  }
}

const FILE = understand(FileAccessLogSchema, "path log_format format json_format");
const HTTP_GRPC = understand(
  HttpGrpcAccessLogConfigSchema,
  "common_config",
  "additional_request_headers_to_log additional_response_headers_to_log additional_response_trailers_to_log",
);
const TCP_GRPC = understand(TcpGrpcAccessLogConfigSchema, "common_config");
const OTEL = understand(
  OpenTelemetryAccessLogConfigSchema,
  "common_config resource_attributes body attributes",
  "disable_builtin_labels stat_prefix formatters",
);

function destination({ configType }: AccessLog): AccessLogSpec["to"] {
  const any = configType.value;
  switch (typeOf(any)) {
    case FileAccessLogSchema.typeName: {
      const { path, accessLogFormat: format } = unpack(any, FILE);
      switch (format.case) {
        case "logFormat":
          return substitution(path, format.value);
        case "format":
          return { kind: "text", path, format: parseFormat(format.value) };
        case "jsonFormat":
          return { kind: "json", path, format: jsonFormat(format.value), omitEmpty: false };
        default:
          return { kind: "text", path, format: parseFormat(ENVOY_FORMAT) };
      }
    }
    case OpenTelemetryAccessLogConfigSchema.typeName: {
      const { commonConfig, body, attributes, resourceAttributes } = unpack(any, OTEL);
      const resource = (resourceAttributes?.values ?? []).map(({ key, value }) => [key, textOf(value)] as const);
      return {
        kind: "otel",
        ...grpcDestination(commonConfig),
        body: body && { body: parseFormat(textOf(body)) },
        attributes: attributes && keyValues(attributes),
        resource: Object.fromEntries(resource),
      };
    }
    case HttpGrpcAccessLogConfigSchema.typeName:
      return { kind: "grpc", ...grpcDestination(unpack(any, HTTP_GRPC).commonConfig) };
    case TcpGrpcAccessLogConfigSchema.typeName:
      return { kind: "grpc", ...grpcDestination(unpack(any, TCP_GRPC).commonConfig) };
    default:
      throw new Unsupported(`${typeOf(any)} is not supported`);
  }
}

/** Envoy's own default format. */
const ENVOY_FORMAT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n';

const SUBSTITUTION = understand(
  SubstitutionFormatStringSchema,
  "text_format json_format text_format_source omit_empty_values",
  "content_type formatters json_format_options",
);

function substitution(path: string, message: SubstitutionFormatString): AccessLogSpec["to"] {
  expectUnderstood(SUBSTITUTION, message);
  const { format, omitEmptyValues: omitEmpty } = message;
  switch (format.case) {
    case "textFormat":
      return { kind: "text", path, format: parseFormat(format.value) };
    case "textFormatSource":
      return { kind: "text", path, format: parseFormat(inlineText(format.value)) };
    case "jsonFormat":
      return { kind: "json", path, format: jsonFormat(format.value), omitEmpty };
    default:
      throw new Unsupported("a format that is empty is not supported");
  }
}

function jsonFormat(values: Readonly<Record<string, JsonValue>>): JsonFormat {
  const entries = Object.entries(values).map(([key, value]) => {
    if (typeof value === "string") return [key, parseFormat(value)] as const;
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return [key, jsonFormat(value)] as const;
    return [key, [{ text: JSON.stringify(value) }]] as const;
  });
  return Object.fromEntries(entries);
}

function keyValues(list: KeyValueList): JsonFormat {
  return Object.fromEntries(list.values.map(({ key, value }) => [key, parseFormat(textOf(value))]));
}

function textOf(value: AnyValue | undefined): string {
  const { case: kind, value: content } = value?.value ?? { case: undefined, value: undefined };
  if (kind === undefined) return "";
  if (kind === "stringValue") return content;
  if (kind === "boolValue" || kind === "intValue" || kind === "doubleValue") return String(content);
  throw new Unsupported(`an attribute of type ${kind} is not supported`);
}

function grpcDestination(
  config: CommonGrpcAccessLogConfig | undefined,
): { readonly cluster: ClusterName; readonly logName: string } {
  const target = config?.grpcService?.targetSpecifier;
  if (target?.case !== "envoyGrpc") throw new Unsupported("a gRPC service without a cluster is not supported");
  return { cluster: target.value.clusterName as ClusterName, logName: config?.logName ?? "" };
}
