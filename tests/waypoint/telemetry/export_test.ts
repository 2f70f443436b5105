/** Spans and records of logs on their way out: encoded on the main thread, sent by a real worker, taken by real servers. */
import { create } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createServer as createHttpServer, type RequestListener, type Server as HttpServer } from "node:http";
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from "node:http2";
import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import {
  AccessLogService,
  type StreamAccessLogsMessage,
  StreamAccessLogsResponseSchema,
} from "../../../src/gen/envoy/service/accesslog/v3/als_pb.ts";
import { Workers } from "../../../src/waypoint/agent/workers.ts";
import { ALS_PATH, encodeAls, encodeAlsIdentity } from "../../../src/waypoint/config/als.ts";
import type { ClusterName, ClusterSpec } from "../../../src/waypoint/spec/mod.ts";
import { Exporter } from "../../../src/waypoint/telemetry/export/exporter.ts";
import type { GrpcLogRecord, LogCollector, SpanRecord } from "../../../src/waypoint/telemetry/messages.ts";
import { TestAuthority } from "../../platform/authority.ts";
import { clusterSpec, endpoint, endpoints } from "../upstream/support.ts";

const NODE = { id: "waypoint~10.0.2.7~waypoint-0.demo~demo.svc.cluster.local", cluster: "waypoint.demo" };
const SPAN: SpanRecord = {
  traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
  spanId: "00f067aa0ba902b7",
  parentId: "53995c3f42cd8ad8",
  shared: false,
  traceState: "a=b",
  name: "b.demo:80/*",
  startMs: 1_700_000_000_000.5,
  durationMs: 12.25,
  failed: true,
  tags: { "http.method": "POST" },
  localAddress: "10.96.0.20:80",
};
const RECORD: GrpcLogRecord = {
  kind: "grpc",
  startMs: 1_700_000_000_000,
  durationMs: 12,
  source: { ip: "10.0.1.5", port: 40000 },
  destination: { ip: "10.96.0.20", port: 80 },
  peerPrincipal: "spiffe://td/ns/a/sa/client",
  localPrincipal: "spiffe://td/ns/demo/sa/waypoint",
  sni: "",
  upstreamHost: "envoy://connect_originate/10.0.3.1:8080",
  upstreamLocalAddress: "",
  upstreamCluster: "inbound-vip|80|http|b",
  upstreamFailure: "",
  routeName: "default",
  flags: ["UF", "URX", "UAEX"],
  terminationDetails: "",
  bytesReceived: 5,
  bytesSent: 6,
  request: {
    version: "2",
    method: "POST",
    scheme: "http",
    authority: "b.demo",
    path: "/a",
    userAgent: "curl",
    referer: "",
    forwardedFor: "",
    requestId: "id",
    status: 503,
    details: "via_upstream",
    headBytesReceived: 100,
    headBytesSent: 50,
    attempts: 2,
  },
};

interface Call {
  readonly path: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
}

let grpc: Http2Server, als: Http2Server, http: HttpServer, https: HttpsServer;
let workers: Workers;
let answer = { status: 200, grpcStatus: "0" };
const calls: Call[] = [];
const streamed: StreamAccessLogsMessage[] = [];
const warnings: string[] = [];

const cluster = (
  name: string,
  server: { address(): unknown },
  kind: "http1" | "http2",
  transport: ClusterSpec["transport"] = { kind: "raw" },
) =>
  clusterSpec({
    transport,
    name: name as ClusterName,
    service: { host: `${name}.telemetry.svc.cluster.local`, name, namespace: "telemetry" },
    discovery: {
      kind: "static",
      endpoints: endpoints([endpoint(`127.0.0.1:${(server.address() as AddressInfo).port}`)], name),
    },
    protocol: { kind, http2KeepaliveMs: 0, preserveHeaderCase: false },
  });

/** As a DestinationRule asks for it, of a server with this name. */
const tls = (name: string): ClusterSpec["transport"] => ({
  kind: "tls",
  tls: {
    sni: name,
    autoSni: false,
    autoSan: false,
    sans: [{ type: "dns", match: { kind: "exact", text: name, ignoreCase: false } }],
    trust: "outside",
    certificate: undefined,
    alpn: [],
    minVersion: "1.2",
    maxVersion: "1.3",
    insecureSkipVerify: false,
  },
});

before(async () => {
  grpc = createHttp2Server();
  grpc.on("stream", (stream: ServerHttp2Stream, headers) => {
    const parts: Buffer[] = [];
    stream.on("data", (part: Buffer) => parts.push(part));
    stream.on("end", () => {
      calls.push({ path: String(headers[":path"]), headers, body: Buffer.concat(parts) });
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": answer.grpcStatus, "grpc-message": "m" }));
      stream.end();
    });
  });
  als = createHttp2Server(connectNodeAdapter({
    routes: (router) => {
      router.service(AccessLogService, {
        async streamAccessLogs(messages) {
          for await (const message of messages) streamed.push(message);
          return create(StreamAccessLogsResponseSchema);
        },
      });
    },
  }));
  const take: RequestListener = (request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      calls.push({ path: request.url ?? "", headers: request.headers, body: Buffer.concat(parts) });
      response.writeHead(answer.status).end();
    });
  };
  http = createHttpServer(take);
  const authority = await TestAuthority.create();
  const { privateKey, chain, roots } = await authority.material({ uris: [], dnsNames: ["collector.example"] });
  https = createHttpsServer({ key: privateKey, cert: chain.join("") }, take);
  await Promise.all(
    [grpc, als, http, https].map((server) => new Promise<void>((done) => server.listen(0, "127.0.0.1", () => done()))),
  );
  workers = new Workers({
    entry: new URL("../../../src/roles/waypoint_worker.ts", import.meta.url),
    count: 1,
    settings: {
      identity: "spiffe://td/ns/demo/sa/waypoint",
      hostname: "waypoint-0",
      ownAddresses: [],
      tls: { tls12: false, pqc: false },
      logFormat: "plain",
      drainMs: 200,
      nodeId: NODE.id,
      node: {},
      serviceCluster: NODE.cluster,
    },
    directives: () => "error",
    replay: () => [{
      type: "config",
      update: {
        epoch: 0,
        clusters: [
          cluster("grpc", grpc, "http2"),
          cluster("als", als, "http2"),
          cluster("http", http, "http1"),
          cluster("tls", https, "http1", tls("collector.example")),
          cluster("tls-other-name", https, "http1", tls("other.example")),
          clusterSpec({ name: "nobody" as ClusterName, discovery: { kind: "static", endpoints: endpoints([]) } }),
        ],
        secrets: { outside: { kind: "trust", roots: roots.join(""), crl: undefined } },
      },
      places: undefined,
    }],
    lost: (_worker, reason) => assert.fail(reason),
    resolve: () => {},
    judge: () => {},
    schedule: (task, delayMs) => {
      const timer = setTimeout(task, delayMs);
      return () => clearTimeout(timer);
    },
  });
  await workers.settle();
});

after(() => {
  workers.close();
  for (const server of [grpc, als, http, https]) server.close();
});

function exporter(nowMs: () => number = () => 0): Exporter {
  calls.length = streamed.length = warnings.length = 0;
  answer = { status: 200, grpcStatus: "0" };
  return new Exporter({
    node: NODE,
    call: async (call) => (await workers.call(call)).failure,
    log: { enabled: () => true, log: (_l, _t, text, fields) => void warnings.push(`${text}: ${fields?.["error"]}`) },
    nowMs,
    als: { path: ALS_PATH, identity: encodeAlsIdentity, encode: encodeAls },
  });
}

/** Fields of a message by number: texts, numbers, or messages still encoded. */
function fields(bytes: Uint8Array): Map<number, unknown[]> {
  const reader = new BinaryReader(bytes);
  const found = new Map<number, unknown[]>();
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const value = type === WireType.LengthDelimited
      ? reader.bytes()
      : type === WireType.Varint
      ? reader.uint64()
      : reader.fixed64();
    found.set(number, [...found.get(number) ?? [], value]);
  }
  return found;
}
const inside = (bytes: Uint8Array, ...path: readonly number[]): Uint8Array =>
  path.reduce((at, field) => fields(at).get(field)![0] as Uint8Array, bytes);
const text = (bytes: unknown) => Buffer.from(bytes as Uint8Array).toString();
const hex = (bytes: unknown) => Buffer.from(bytes as Uint8Array).toString("hex");

/** Attributes with text values. */
function attributes(bytes: Uint8Array, field: number): Record<string, string> {
  return Object.fromEntries(
    (fields(bytes).get(field) ?? []).map((each) => [
      text(inside(each as Uint8Array, 1)),
      text(inside(each as Uint8Array, 2, 1)),
    ]),
  );
}

function assertSpan(request: Uint8Array, service: string): void {
  const resourceSpans = inside(request, 1);
  assert.equal(attributes(inside(resourceSpans, 1), 1)["service.name"], service);
  const span = fields(inside(resourceSpans, 2, 2));
  assert.equal(hex(span.get(1)![0]), SPAN.traceId);
  assert.equal(hex(span.get(2)![0]), SPAN.spanId);
  assert.equal(text(span.get(3)![0]), "a=b");
  assert.equal(hex(span.get(4)![0]), SPAN.parentId);
  assert.equal(text(span.get(5)![0]), SPAN.name);
  assert.equal(BigInt(span.get(6)![0] as bigint), 2n);
  assert.equal(span.get(7)![0], 1_700_000_000_000_500_000n);
  assert.equal(span.get(8)![0], 1_700_000_000_012_750_000n);
  assert.deepEqual(attributes(inside(resourceSpans, 2, 2), 9), { "http.method": "POST" });
  assert.equal(BigInt(fields(span.get(15)![0] as Uint8Array).get(3)![0] as bigint), 2n);
}

test("export: OpenTelemetry spans by gRPC", async () => {
  const all = exporter();
  const headers = [{ name: "authorization", value: "Bearer x" }];
  all.received({
    kind: "spans",
    to: { kind: "otlp grpc", cluster: "grpc" as ClusterName, serviceName: "", headers },
    spans: [SPAN],
  });
  await all.settled();
  assert.deepEqual([all.sent, all.dropped, warnings], [1, 0, []]);
  const [{ path, headers: sent, body }] = calls;
  assert.equal(path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
  assert.equal(sent["authorization"], "Bearer x");
  assert.equal(sent["content-type"], "application/grpc");
  assert.equal(sent[":authority"], "grpc.telemetry.svc.cluster.local");
  assert.equal(body[0], 0);
  assert.equal(body.readUInt32BE(1), body.length - 5);
  assertSpan(body.subarray(5), "waypoint.demo");
});

test("export: OpenTelemetry spans by HTTP, on the path and to the host that are configured", async () => {
  const all = exporter();
  const uri = "http://collector.example:4318/otlp/v1/traces?x=1";
  all.received({
    kind: "spans",
    to: { kind: "otlp http", cluster: "http" as ClusterName, uri, serviceName: "shop", headers: [] },
    spans: [SPAN],
  });
  await all.settled();
  assert.deepEqual([all.sent, all.dropped, warnings], [1, 0, []]);
  const [{ path, headers, body }] = calls;
  assert.equal(path, "/otlp/v1/traces?x=1");
  assert.equal(headers["host"], "collector.example:4318");
  assert.equal(headers["content-type"], "application/x-protobuf");
  assertSpan(body, "shop");
});

test("export: Zipkin's JSON", async () => {
  const all = exporter();
  all.received({
    kind: "spans",
    to: {
      kind: "zipkin",
      cluster: "http" as ClusterName,
      path: "/api/v2/spans",
      host: "zipkin.example:9411",
      traceId128: true,
      sharedSpanContext: false,
      w3c: false,
    },
    spans: [SPAN, { ...SPAN, parentId: "", shared: true }],
  });
  await all.settled();
  const [{ path, headers, body }] = calls;
  assert.deepEqual([path, headers["host"], headers["content-type"]], [
    "/api/v2/spans",
    "zipkin.example:9411",
    "application/json",
  ]);
  const [span, shared] = JSON.parse(body.toString());
  assert.deepEqual(span, {
    id: SPAN.spanId,
    traceId: SPAN.traceId,
    parentId: SPAN.parentId,
    name: SPAN.name,
    kind: "SERVER",
    timestamp: 1_700_000_000_000_500,
    duration: 12_250,
    localEndpoint: { serviceName: "waypoint.demo", ipv4: "10.96.0.20", port: 80 },
    tags: SPAN.tags,
  });
  assert.deepEqual([shared.shared, "parentId" in shared], [true, false]);
});

test("export: OpenTelemetry's log records", async () => {
  const all = exporter();
  const to: LogCollector = { kind: "otel", cluster: "grpc", logName: "otel", resource: { region: "eu" } };
  const record = {
    kind: "otel",
    timeMs: 1_700_000_000_000,
    body: "a line",
    traceId: SPAN.traceId,
    spanId: "",
  } as const;
  all.received({ kind: "logs", to, records: [{ ...record, attributes: { path: "/a", code: 200, ratio: 0.5 } }] });
  await all.settled();
  assert.deepEqual([all.sent, all.dropped], [1, 0]);
  assert.equal(calls[0].path, "/opentelemetry.proto.collector.logs.v1.LogsService/Export");
  const resourceLogs = inside(calls[0].body.subarray(5), 1);
  assert.deepEqual(attributes(inside(resourceLogs, 1), 1), {
    log_name: "otel",
    cluster_name: NODE.cluster,
    node_name: NODE.id,
    region: "eu",
  });
  const log = fields(inside(resourceLogs, 2, 2));
  assert.equal(log.get(1)![0], 1_700_000_000_000_000_000n);
  assert.equal(text(inside(log.get(5)![0] as Uint8Array, 1)), "a line");
  assert.equal(hex(log.get(9)![0]), SPAN.traceId);
  assert.equal(log.has(10), false);
  const [path, code, ratio] = log.get(6) as Uint8Array[];
  assert.equal(text(inside(path, 2, 1)), "/a");
  assert.equal(BigInt(fields(inside(code, 2)).get(3)![0] as bigint), 200n);
  assert.ok(fields(inside(ratio, 2)).has(4));
});

test("export: Envoy's gRPC access log: who writes, then requests, then connections", async () => {
  const all = exporter();
  all.received({
    kind: "logs",
    to: { kind: "grpc", cluster: "als", logName: "demo" },
    records: [RECORD, { ...RECORD, request: undefined, flags: [] }],
  });
  await all.settled();
  assert.deepEqual([all.sent, all.dropped, warnings], [2, 0, []]);
  const [identity, requests, connections] = streamed;
  assert.equal(identity.identifier?.logName, "demo");
  assert.equal(identity.identifier?.node?.id, NODE.id);
  assert.ok(requests.logEntries.case === "httpLogs" && connections.logEntries.case === "tcpLogs");
  const [entry] = requests.logEntries.value.logEntry;
  assert.equal(entry.request?.path, "/a");
  assert.equal(entry.response?.responseCode?.toString(), "503");
  assert.equal(entry.commonProperties?.responseFlags?.upstreamConnectionFailure, true);
  assert.equal(entry.commonProperties?.responseFlags?.upstreamRetryLimitExceeded, true);
  assert.equal(entry.commonProperties?.responseFlags?.unauthorizedDetails?.reason, 1);
  const peer = entry.commonProperties?.tlsProperties?.peerCertificateProperties?.subjectAltName[0].san;
  assert.deepEqual(peer, { case: "uri", value: RECORD.peerPrincipal });
  const [connection] = connections.logEntries.value.logEntry;
  assert.equal(connection.connectionProperties?.sentBytes, 6n);
});

test("export: what a collector does not take is lost, counted, and told of once a minute", async () => {
  let nowMs = 0;
  const all = exporter(() => nowMs);
  const to = { kind: "otlp grpc", cluster: "grpc" as ClusterName, serviceName: "", headers: [] } as const;
  const send = async (cluster: string) => {
    all.received({ kind: "spans", to: { ...to, cluster: cluster as ClusterName }, spans: [SPAN] });
    await all.settled();
  };
  answer = { status: 200, grpcStatus: "14" };
  await send("grpc");
  await send("grpc");
  assert.deepEqual([all.sent, all.dropped], [0, 2]);
  assert.deepEqual(warnings, [
    "spans or log records could not be delivered; they are lost: gRPC status 14 m",
  ]);
  nowMs = 60_001;
  await send("grpc");
  assert.equal(warnings.length, 2);
  answer = { status: 200, grpcStatus: "0" };
  await send("grpc");
  assert.deepEqual([all.sent, all.dropped], [1, 3]);
  await send("unheard-of");
  assert.match(warnings.at(-1)!, /the cluster unheard-of is not known/);
  await send("nobody");
  assert.match(warnings.at(-1)!, /no endpoint is fit/);
});

test("export: an HTTP collector that refuses has not taken it", async () => {
  const all = exporter();
  answer = { status: 429, grpcStatus: "0" };
  all.received({
    kind: "spans",
    to: { kind: "otlp http", cluster: "http" as ClusterName, uri: "/v1/traces", serviceName: "", headers: [] },
    spans: [SPAN],
  });
  await all.settled();
  assert.deepEqual([all.sent, all.dropped], [0, 1]);
  assert.match(warnings[0], /HTTP 429/);
});

test("export: more than may wait for a collector is dropped and counted, and what goes out goes in batches", async () => {
  const all = exporter();
  const to = { kind: "otlp grpc", cluster: "grpc" as ClusterName, serviceName: "", headers: [] } as const;
  for (let i = 0; i < 10; i++) all.received({ kind: "spans", to, spans: Array(1_000).fill(SPAN) });
  await all.settled();
  assert.equal(all.sent + all.dropped, 10_000);
  // The first batch left at once; 8,192 wait.
  assert.equal(all.dropped, 10_000 - 8_192 - 1_000);
  assert.equal(calls.length, 1 + 8);
});

test("export: a collector that is reached by TLS, by its name and no other", async () => {
  const all = exporter();
  const send = async (name: string) => {
    const uri = "/v1/traces";
    const to = { kind: "otlp http", cluster: name as ClusterName, uri, serviceName: "", headers: [] } as const;
    all.received({ kind: "spans", to, spans: [SPAN] });
    await all.settled();
  };
  await send("tls");
  assert.deepEqual([all.sent, all.dropped, warnings], [1, 0, []]);
  assert.equal(calls[0].path, "/v1/traces");
  await send("tls-other-name");
  assert.deepEqual([all.sent, all.dropped], [1, 1]);
  assert.match(warnings[0], /certificate|name/);
});

test("export: calls of a worker that is gone are answered", async () => {
  const lone = new Workers({
    entry: new URL("../../../src/roles/waypoint_worker.ts", import.meta.url),
    count: 1,
    settings: {
      identity: "spiffe://td/ns/demo/sa/waypoint",
      hostname: "",
      ownAddresses: [],
      tls: { tls12: false, pqc: false },
      logFormat: "plain",
      drainMs: 0,
      nodeId: "",
      node: {},
      serviceCluster: "",
    },
    directives: () => "error",
    replay: () => [],
    lost: () => {},
    resolve: () => {},
    judge: () => {},
    schedule: (task, delayMs) => {
      const timer = setTimeout(task, delayMs);
      return () => clearTimeout(timer);
    },
  });
  const call = {
    cluster: "x" as ClusterName,
    kind: "http",
    path: "/",
    authority: "",
    headers: [],
    body: Buffer.alloc(0),
  } as const;
  assert.equal((await lone.call(call)).failure, "no worker is up");
  await lone.settle();
  const pending = lone.call(call);
  lone.close();
  assert.match((await pending).failure, /the process ends|not known/);
});
