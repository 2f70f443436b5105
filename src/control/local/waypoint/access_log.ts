/** Istio's access log, to the waypoint's own output. */
import type { JsonObject } from "@bufbuild/protobuf";
import { extension } from "./xds_resource.ts";

/** A line a request, with every field of Istio's own, and at its end who asked: here nobody has a dashboard. */
const LOG_FORMAT = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% ` +
  `%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" ` +
  `%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" ` +
  `"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% ` +
  `%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% ` +
  `%ROUTE_NAME% src.identity="%FILTER_STATE(io.istio.peer_principal:PLAIN)%"\n`;

/** Of everything, or of what `filter` lets through. */
export function accessLog(filter?: JsonObject): JsonObject {
  const log = extension("envoy.access_loggers.file", "envoy.extensions.access_loggers.file.v3.FileAccessLog", {
    path: "/dev/stdout",
    log_format: { text_format_source: { inline_string: LOG_FORMAT } },
  });
  return filter === undefined ? log : { ...log, filter };
}

/** Tunnels that were refused; those that were not are logged by their chain. */
export const REFUSED: JsonObject = {
  status_code_filter: {
    comparison: { op: "GE", value: { default_value: 400, runtime_key: "istio.io/unset" } },
  },
};

/** Connections for which there is no chain. */
export const NO_CHAIN: JsonObject = { response_flag_filter: { flags: ["NR"] } };
