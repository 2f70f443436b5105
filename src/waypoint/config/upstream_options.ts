/** envoy.extensions.upstreams.http.v3.HttpProtocolOptions: which HTTP a cluster speaks, and for how long. */
import type { Any } from "@bufbuild/protobuf/wkt";
import {
  Http1ProtocolOptionsSchema,
  type Http2ProtocolOptions,
  Http2ProtocolOptionsSchema,
  HttpProtocolOptionsSchema as CommonSchema,
} from "../../gen/envoy/config/core/v3/protocol_pb.ts";
import {
  type HttpProtocolOptions,
  HttpProtocolOptionsSchema,
} from "../../gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts";
import type { UpstreamProtocolSpec } from "../spec/mod.ts";
import { expectUnderstood, milliseconds, understand, unpack, Unsupported } from "./guard.ts";

export interface UpstreamOptions {
  readonly protocol: UpstreamProtocolSpec;
  readonly idleTimeoutMs: number;
  /** 0: none. */
  readonly maxConnectionMs: number;
  /** 0: no limit. */
  readonly maxRequestsPerConnection: number;
  readonly maxConcurrentStreams: number;
  readonly autoSni: boolean;
  readonly autoSan: boolean;
}

const NAME = HttpProtocolOptionsSchema.typeName;
const OPTIONS = understand(
  HttpProtocolOptionsSchema,
  "common_http_protocol_options upstream_http_protocol_options explicit_http_config use_downstream_protocol_config auto_config",
);
const COMMON = understand(
  CommonSchema,
  "idle_timeout max_connection_duration max_requests_per_connection",
  "max_headers_count max_stream_duration",
);
const HTTP1 = understand(
  Http1ProtocolOptionsSchema,
  "header_key_format",
  "accept_http_10 enable_trailers default_host_for_http_10",
);
const HTTP2 = understand(
  Http2ProtocolOptionsSchema,
  "max_concurrent_streams connection_keepalive",
  "allow_connect initial_stream_window_size initial_connection_window_size hpack_table_size override_stream_error_on_invalid_http_message",
);

/** Envoy's: an hour. */
const IDLE_TIMEOUT_MS = 3_600_000;
const MAX_STREAMS = 2 ** 31 - 1;

const DEFAULTS: UpstreamOptions = {
  protocol: { kind: "http1", http2KeepaliveMs: 0, preserveHeaderCase: false },
  idleTimeoutMs: IDLE_TIMEOUT_MS,
  maxConnectionMs: 0,
  maxRequestsPerConnection: 0,
  maxConcurrentStreams: MAX_STREAMS,
  autoSni: false,
  autoSan: false,
};

/** @throws Unsupported */
export function upstreamOptions(extensions: { readonly [name: string]: Any }): UpstreamOptions {
  for (const name of Object.keys(extensions)) {
    if (name !== NAME) throw new Unsupported(`the protocol options ${name} are not supported`);
  }
  const any = extensions[NAME];
  if (any === undefined) return DEFAULTS;
  const message = unpack(any, OPTIONS);
  const { commonHttpProtocolOptions: common, upstreamHttpProtocolOptions: upstream } = message;
  if (common !== undefined) expectUnderstood(COMMON, common);
  const http2 = http2Options(message.upstreamProtocolOptions);
  if (http2 !== undefined) expectUnderstood(HTTP2, http2);
  return {
    protocol: {
      kind: protocolKind(message.upstreamProtocolOptions),
      http2KeepaliveMs: milliseconds(http2?.connectionKeepalive?.interval, 0),
      preserveHeaderCase: preservesCase(message.upstreamProtocolOptions),
    },
    idleTimeoutMs: milliseconds(common?.idleTimeout, IDLE_TIMEOUT_MS),
    maxConnectionMs: milliseconds(common?.maxConnectionDuration, 0),
    maxRequestsPerConnection: common?.maxRequestsPerConnection ?? 0,
    maxConcurrentStreams: http2?.maxConcurrentStreams ?? MAX_STREAMS,
    autoSni: upstream?.autoSni ?? false,
    autoSan: upstream?.autoSanValidation ?? false,
  };
}

type Choice = HttpProtocolOptions["upstreamProtocolOptions"];

function protocolKind(choice: Choice): UpstreamProtocolSpec["kind"] {
  switch (choice.case) {
    case undefined:
      return "http1";
    case "useDownstreamProtocolConfig":
      return "as downstream";
    case "explicitHttpConfig":
      switch (choice.value.protocolConfig.case) {
        case "httpProtocolOptions":
          return "http1";
        case "http2ProtocolOptions":
          return "http2";
        default:
          throw new Unsupported(
            `the upstream protocol ${choice.value.protocolConfig.case ?? "nothing"} is not supported`,
          );
      }
    default:
      // By ALPN, which a tunnel without TLS does not have.
      throw new Unsupported("auto_config is not supported");
  }
}

function http2Options(choice: Choice): Http2ProtocolOptions | undefined {
  if (choice.case === "useDownstreamProtocolConfig") return choice.value.http2ProtocolOptions;
  if (choice.case !== "explicitHttpConfig") return undefined;
  const { protocolConfig: config } = choice.value;
  return config.case === "http2ProtocolOptions" ? config.value : undefined;
}

function preservesCase(choice: Choice): boolean {
  const http1 = choice.case === "useDownstreamProtocolConfig"
    ? choice.value.httpProtocolOptions
    : choice.case === "explicitHttpConfig" && choice.value.protocolConfig.case === "httpProtocolOptions"
    ? choice.value.protocolConfig.value
    : undefined;
  if (http1 === undefined) return false;
  expectUnderstood(HTTP1, http1);
  return http1.headerKeyFormat !== undefined;
}
