import assert from "node:assert/strict";
import { test } from "node:test";
import { parseFormat } from "../../../src/waypoint/config/format.ts";
import { compileFormat, unknownCommands } from "../../../src/waypoint/format/compile.ts";
import { compileJson, compileJsonValue } from "../../../src/waypoint/format/json.ts";
import { formatTime } from "../../../src/waypoint/format/time.ts";
import type { JsonFormat } from "../../../src/waypoint/spec/mod.ts";
import { tcpFormatFacts } from "../../../src/waypoint/telemetry/tcp_facts.ts";
import { replay } from "../config/fixtures.ts";
import { INFO } from "../support/test_engine.ts";
import { ENVIRONMENT, factsOf, finishedRequest } from "./support.ts";

const show = (format: string, facts = factsOf(finishedRequest())) =>
  compileFormat(parseFormat(format), ENVIRONMENT, "-")(facts);

test("format: Istio's default line, from what istiod sends, is written as Envoy writes it", () => {
  const spec = replay("benchlog").chain("inbound-vip|80|http|b.demo.svc.cluster.local");
  assert.ok(spec.kind === "http");
  const [{ to }] = spec.accessLogs;
  assert.ok(to.kind === "text");
  assert.deepEqual(unknownCommands(to.format), []);
  assert.equal(
    compileFormat(to.format, ENVIRONMENT, "-")(factsOf(finishedRequest())),
    '[2023-11-14T22:13:21.000Z] "POST /a?b=c HTTP/1.1" 201 - via_upstream - "-" 5 6 12 12 "10.9.9.9" "curl/8" ' +
      '"00000000-0000-4000-8000-000000000000" "b.demo" "10.0.3.1:8080" outbound|80||b.demo 10.0.2.7:1234 ' +
      "10.96.0.20:80 10.0.1.5:40000 - default\n",
  );
});

/** Istio's own, pilot/pkg/model/telemetry_logging.go. */
const ISTIO_JSON: Readonly<Record<string, string>> = {
  start_time: "%START_TIME%",
  route_name: "%ROUTE_NAME%",
  method: "%REQ(:METHOD)%",
  path: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
  protocol: "%PROTOCOL%",
  response_code: "%RESPONSE_CODE%",
  response_flags: "%RESPONSE_FLAGS%",
  response_code_details: "%RESPONSE_CODE_DETAILS%",
  connection_termination_details: "%CONNECTION_TERMINATION_DETAILS%",
  bytes_received: "%BYTES_RECEIVED%",
  bytes_sent: "%BYTES_SENT%",
  duration: "%DURATION%",
  upstream_service_time: "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
  x_forwarded_for: "%REQ(X-FORWARDED-FOR)%",
  user_agent: "%REQ(USER-AGENT)%",
  request_id: "%REQ(X-REQUEST-ID)%",
  authority: "%REQ(:AUTHORITY)%",
  upstream_host: "%UPSTREAM_HOST%",
  upstream_cluster: "%UPSTREAM_CLUSTER_RAW%",
  upstream_local_address: "%UPSTREAM_LOCAL_ADDRESS%",
  downstream_local_address: "%DOWNSTREAM_LOCAL_ADDRESS%",
  downstream_remote_address: "%DOWNSTREAM_REMOTE_ADDRESS%",
  requested_server_name: "%REQUESTED_SERVER_NAME%",
  upstream_transport_failure_reason: "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
};
const jsonOf = (values: Readonly<Record<string, string>>): JsonFormat =>
  Object.fromEntries(Object.entries(values).map(([name, text]) => [name, parseFormat(text)]));

test("format: JSON keeps its 24 members in order, numbers as numbers, and null for nothing", () => {
  const line = compileJson(jsonOf(ISTIO_JSON), ENVIRONMENT, false)(factsOf(finishedRequest()));
  assert.deepEqual(Object.keys(JSON.parse(line)), Object.keys(ISTIO_JSON));
  assert.deepEqual(JSON.parse(line), {
    start_time: "2023-11-14T22:13:21.000Z",
    route_name: "default",
    method: "POST",
    path: "/a?b=c",
    protocol: "HTTP/1.1",
    response_code: 201,
    response_flags: "-",
    response_code_details: "via_upstream",
    connection_termination_details: null,
    bytes_received: 5,
    bytes_sent: 6,
    duration: 12,
    upstream_service_time: "12",
    x_forwarded_for: "10.9.9.9",
    user_agent: "curl/8",
    request_id: "00000000-0000-4000-8000-000000000000",
    authority: "b.demo",
    upstream_host: "10.0.3.1:8080",
    upstream_cluster: "outbound|80||b.demo",
    upstream_local_address: "10.0.2.7:1234",
    downstream_local_address: "10.96.0.20:80",
    downstream_remote_address: "10.0.1.5:40000",
    requested_server_name: null,
    upstream_transport_failure_reason: null,
  });
});

test("format: JSON leaves empty members out when told, nests, and mixes text with commands as text", () => {
  const format: JsonFormat = {
    ...jsonOf({ none: "%RESP(X-NONE)%", mixed: "code=%RESPONSE_CODE%", 'a"b': "%REQ(:METHOD):2%" }),
    inner: jsonOf({ sent: "%BYTES_SENT%", none: "%TRAILER(X)%" }),
    hollow: jsonOf({ none: "%TRAILER(X)%" }),
  };
  const facts = factsOf(finishedRequest());
  assert.equal(compileJson(format, ENVIRONMENT, true)(facts), '{"mixed":"code=201","a\\"b":"PO","inner":{"sent":6}}');
  assert.equal(
    compileJson(format, ENVIRONMENT, false)(facts),
    '{"none":null,"mixed":"code=201","a\\"b":"PO","inner":{"sent":6,"none":null},"hollow":{"none":null}}',
  );
  assert.deepEqual(compileJsonValue(format, ENVIRONMENT)(facts), {
    mixed: "code=201",
    'a"b': "PO",
    inner: { sent: 6 },
    hollow: {},
  });
});

for (
  const [format, shown] of [
    ["%REQ(:METHOD)% %REQ(X-NONE?USER-AGENT)% %REQ(x-none)%", "POST curl/8 -"],
    ["%REQ_WITHOUT_QUERY(:PATH)%", "/a"],
    ["%RESP(X-B)% %RESP(:STATUS)% %TRAILER(X)%", "2 201 -"],
    ["%PROTOCOL% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%", "HTTP/1.1 201 via_upstream -"],
    ["%ROUTE_NAME% %FILTER_CHAIN_NAME%", "default chain"],
    ["%START_TIME(%s.%3f)%", "1700000001.000"],
    ["%DURATION% %REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "12 0 12 0"],
    ["%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)% %COMMON_DURATION(X:Y)%", "12000 -"],
    ["%BYTES_RECEIVED% %BYTES_SENT%", "5 6"],
    ["%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS%", "10.0.3.1:8080 outbound|80||b.demo 10.0.2.7:1234"],
    ["%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT% %UPSTREAM_LOCAL_PORT%", "10.0.3.1 8080 1234"],
    ["%UPSTREAM_TRANSPORT_FAILURE_REASON% %UPSTREAM_REQUEST_ATTEMPT_COUNT%", "- 1"],
    ["%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.1.5:40000 10.0.1.5"],
    ["%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT% %DOWNSTREAM_REMOTE_PORT%", "10.96.0.20:80 80 40000"],
    ["%DOWNSTREAM_PEER_URI_SAN%", INFO.peerPrincipal],
    ["%DOWNSTREAM_LOCAL_URI_SAN%", INFO.localPrincipal],
    ["%REQUESTED_SERVER_NAME% %CONNECTION_ID%", "- 1"],
    ["%HOSTNAME% %ENVIRONMENT(COLOR)% %ENVIRONMENT(NONE)%", "waypoint-1 blue -"],
    ["%FILTER_STATE(io.istio.peer_principal:PLAIN)%", INFO.peerPrincipal],
    [
      "%FILTER_STATE(downstream_peer:FIELD:workload)% %FILTER_STATE(downstream_peer_obj:FIELD:app)%",
      "client client-app",
    ],
    ["%FILTER_STATE(upstream_peer:FIELD:name)% %FILTER_STATE(upstream_peer_obj:FIELD:namespace)%", "b-1 demo"],
    ["%FILTER_STATE(upstream_peer:FIELD:nothing)% %FILTER_STATE(other)%", "- -"],
    ["%DYNAMIC_METADATA(f:a:b)% %METADATA(DYNAMIC:f:a)%", '7 {"b":7}'],
    ["%TRACE_ID%", "4bf92f3577b34da6a3ce929d0e0e4736"],
    ["%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%", "NotFound NOT_FOUND 5"],
    ["%% %REQ(:PATH):3%", "% /a?"],
    ["%SOMETHING_NEW% x", "- x"],
  ] as const
) {
  test(`format: ${format} reads ${shown}`, () => {
    const context = finishedRequest();
    context.metadata.set("f", { a: { b: 7 } });
    context.facts.grpcStatus = "5";
    assert.equal(show(format, factsOf(context)), shown);
  });
}

test("format: an unknown command is named at configuration", () => {
  assert.deepEqual(unknownCommands(parseFormat("%DURATION% %NEW_ONE(x)% %TRACE_ID%")), ["NEW_ONE"]);
});

test("format: a connection has no request, and says so with dashes", () => {
  const facts = tcpFormatFacts({
    connection: { ...INFO, sni: 'b.demo"\nforged' },
    chain: { name: "tcp" } as never,
    startedAtWallMs: 1_700_000_000_000,
    endedAtMs: 1500,
    bytesReceived: 3,
    bytesSent: 4,
    host: undefined,
    upstreamCluster: "" as never,
    upstreamLocalAddress: "",
    upstreamFailure: "10.0.3.1:80: connection refused",
    flags: "UF,URX",
    connectionTermination: "idle for too long",
  }, 2000);
  assert.equal(
    show(
      '"%REQ(:METHOD)%" %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS% ' +
        '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %DURATION% %REQUESTED_SERVER_NAME% %BYTES_SENT%',
      facts,
    ),
    '"-" - 0 UF,URX idle_for_too_long "10.0.3.1:80:_connection_refused" 500 b.demo__forged 4',
  );
});

test("format: times of one second and the next differ, milliseconds included", () => {
  assert.equal(formatTime(1_700_000_000_999.7, ""), "2023-11-14T22:13:20.999Z");
  assert.equal(formatTime(1_700_000_001_000, ""), "2023-11-14T22:13:21.000Z");
  assert.equal(formatTime(1_700_000_000_007, ""), "2023-11-14T22:13:20.007Z");
  assert.equal(formatTime(1_700_000_000_123, "%d/%b/%Y:%H:%M:%S %z"), "14/Nov/2023:22:13:20 +0000");
});
