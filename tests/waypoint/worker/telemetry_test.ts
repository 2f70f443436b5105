/** Telemetry as a real worker does it: what a chain asks for is written, counted and sent, and an operator hears of refusals without asking. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttpServer, type Server as HttpServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Registry, renderOpenMetrics } from "../../../src/telemetry/mod.ts";
import { openTunnelListener, type TunnelListener } from "../../../src/waypoint/agent/listener.ts";
import { Workers } from "../../../src/waypoint/agent/workers.ts";
import { parseFormat } from "../../../src/waypoint/config/format.ts";
import type {
  AccessLogSpec,
  ChainName,
  ClusterName,
  HttpChainSpec,
  RbacSpec,
  TcpChainSpec,
  WorkloadSpec,
} from "../../../src/waypoint/spec/mod.ts";
import { Exporter } from "../../../src/waypoint/telemetry/export/exporter.ts";
import { MainTelemetry } from "../../../src/waypoint/telemetry/main_telemetry.ts";
import type { WorkerCounts } from "../../../src/waypoint/telemetry/worker_counts.ts";
import { TestAuthority } from "../../platform/authority.ts";
import { chain, forwardTo, NO_CHANGE, route } from "../support/test_engine.ts";
import { STATS, TRACING } from "../telemetry/support.ts";
import { clusterSpec, endpoint, endpoints } from "../upstream/support.ts";
import { HboneClient, type Tunnelled, until } from "./hbone_client.ts";

const CLIENT_ID = "spiffe://td/ns/a/sa/client";
const OWN_ID = "spiffe://td/ns/demo/sa/waypoint";
const NODE = { id: "waypoint~10.0.2.7~waypoint-0.demo~demo.svc.cluster.local", cluster: "waypoint.demo" };
const VIP = "10.96.0.20";
const TEXT = "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %DOWNSTREAM_PEER_URI_SAN% %HOSTNAME% %TRACE_ID%\n";
/** The client's pod, as istiod tells of it. */
const CLIENT: WorkloadSpec = {
  uid: "Kubernetes//Pod/a/client-1",
  addresses: ["127.0.0.1"],
  name: "client-1",
  namespace: "a",
  workloadName: "client",
  workloadType: "deployment",
  canonicalName: "client-app",
  canonicalRevision: "v1",
  clusterId: "Kubernetes",
  identity: CLIENT_ID,
  region: "",
  zone: "",
};
const DENY: RbacSpec = {
  rules: {
    action: "deny",
    policies: [{
      name: "p",
      principals: { kind: "any" },
      permissions: {
        kind: "path",
        match: { kind: "text", match: { kind: "prefix", text: "/secret", ignoreCase: false } },
      },
    }],
  },
  shadow: undefined,
  shadowPrefix: "",
};

let directory: string;
let authority: TestAuthority;
let http: HttpServer, collector: HttpServer, tcp: TcpServer;
let listener: TunnelListener;
let workers: Workers;
let client: HboneClient;
const spans: Record<string, unknown>[] = [];
const lost: string[] = [];
const registry = new Registry({ nowMs: () => 0, retainMs: 0 });

const log = (name: string, format: string, filter?: AccessLogSpec["filter"]): AccessLogSpec => ({
  filter,
  to: { kind: "text", path: join(directory, name), format: parseFormat(format) },
});
const lines = (name: string): string[] => {
  try {
    return readFileSync(join(directory, name), "utf8").split("\n").filter((line) => line !== "");
  } catch {
    return [];
  }
};

function httpChain(): HttpChainSpec {
  const decorated = route({
    action: forwardTo("http"),
    change: {
      ...NO_CHANGE,
      responseAdd: [
        {
          name: "x-who",
          value: parseFormat("%CEL(request.method)% %HOSTNAME%"),
          action: "overwrite",
          keepEmpty: false,
        },
      ],
    },
  });
  return {
    ...chain([decorated]),
    name: "http" as ChainName,
    policies: [{ kind: "rbac", rbac: DENY }],
    accessLogs: [
      log("all.log", TEXT),
      log("errors.log", "%RESPONSE_CODE%\n", { kind: "cel", expression: "response.code >= 400" }),
    ],
    stats: STATS,
    tracing: {
      ...TRACING,
      provider: {
        kind: "zipkin",
        cluster: "collector" as ClusterName,
        path: "/api/v2/spans",
        host: "",
        traceId128: true,
        sharedSpanContext: false,
        w3c: false,
      },
    },
  };
}

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "ambit-telemetry-"));
  authority = await TestAuthority.create();
  http = createHttpServer((request, response) => response.end(String(request.headers["x-b3-traceid"])));
  collector = createHttpServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      spans.push(...JSON.parse(Buffer.concat(parts).toString()));
      response.end();
    });
  });
  tcp = createTcpServer((socket) => {
    socket.end("hello");
    socket.on("error", () => {});
  });
  await Promise.all(
    [http, collector, tcp].map((server) => new Promise<void>((done) => server.listen(0, "127.0.0.1", () => done()))),
  );
  listener = openTunnelListener(0, false);
  const exporter = new Exporter({
    node: NODE,
    call: async (call) => (await workers.call(call)).failure,
    log: { enabled: () => true, log: (_l, _t, text, fields) => void lost.push(`${text} ${fields?.["error"]}`) },
    nowMs: () => 0,
    als: { path: "", identity: () => Buffer.alloc(0), encode: () => [] },
  });
  workers = new Workers({
    entry: new URL("../../../src/roles/waypoint_worker.ts", import.meta.url),
    count: 1,
    settings: {
      identity: OWN_ID,
      hostname: "waypoint-0",
      ownAddresses: [],
      tls: { tls12: false, pqc: false },
      logFormat: "plain",
      drainMs: 200,
      nodeId: NODE.id,
      node: { NAMESPACE: "demo" },
      serviceCluster: NODE.cluster,
    },
    directives: () => "error",
    replay: () => [{ type: "listen", fd: listener.fd }],
    lost: (_worker, reason) => assert.fail(reason),
    resolve: () => {},
    judge: () => {},
    telemetry: new MainTelemetry({ registry, exporter, version: "1.31.0" }),
    schedule: (task, delayMs) => {
      const timer = setTimeout(task, delayMs);
      return () => clearTimeout(timer);
    },
  });
  const cluster = (name: string, server: { address(): unknown }) =>
    clusterSpec({
      name: name as ClusterName,
      discovery: {
        kind: "static",
        endpoints: endpoints([endpoint(`127.0.0.1:${(server.address() as AddressInfo).port}`)], name),
      },
      service: { host: `${name}.demo.svc.cluster.local`, name, namespace: "demo" },
    });
  const tcpChain: TcpChainSpec = {
    kind: "tcp",
    name: "tcp" as ChainName,
    rbac: [],
    extAuthz: [],
    clusters: [{ cluster: "tcp" as ClusterName, weight: 1 }],
    idleTimeoutMs: 0,
    maxConnectionMs: 0,
    hashSourceIp: false,
    sniForward: undefined,
    accessLogs: [log("tcp.log", "%UPSTREAM_CLUSTER% %BYTES_SENT%\n")],
    stats: STATS,
  };
  const { privateKey, chain: own, roots } = await authority.material({ uris: [OWN_ID] });
  const epoch = workers.nextEpoch();
  workers.broadcast({
    type: "config",
    places: undefined,
    update: {
      epoch,
      terminate: {
        peerNames: [],
        maxConcurrentStreams: 100,
        pingIntervalMs: 0,
        pingTimeoutMs: 0,
        accessLogs: [log("connect.log", "%REQ(:AUTHORITY)% %RESPONSE_CODE% %RESPONSE_FLAGS%\n")],
        refusal: undefined,
      },
      selection: {
        authorities: {},
        ranges: [{
          cidrs: [`${VIP}/32`],
          to: {
            kind: "ports",
            ports: {
              80: { kind: "chain", chain: "http" as ChainName },
              90: { kind: "chain", chain: "tcp" as ChainName },
            },
          },
        }],
      },
      chains: [httpChain(), tcpChain],
      clusters: [cluster("http", http), cluster("tcp", tcp), cluster("collector", collector)],
      secrets: {
        default: { kind: "certificate", chain: own.join(""), key: privateKey },
        ROOTCA: { kind: "trust", roots: roots.join(""), crl: undefined },
      },
      workloads: [CLIENT],
    },
  });
  await workers.confirmed(epoch);
  // The evaluator of expressions was loaded while the reactor rested; it runs again now.
  await workers.settle();
  client = new HboneClient(await authority.material({ uris: [CLIENT_ID] }), listener.port);
});

after(async () => {
  client.close();
  await workers.cut("test over");
  workers.close();
  listener.close();
  for (const server of [http, collector]) server.closeAllConnections();
  for (const server of [http, collector, tcp]) server.close();
  rmSync(directory, { recursive: true });
  assert.deepEqual(lost, []);
});

async function connected(port: number): Promise<Tunnelled> {
  const tunnelled = client.connect(`${VIP}:${port}`);
  await until(() => tunnelled.status !== "" || tunnelled.failure !== "", "an answer to CONNECT");
  return tunnelled;
}

async function get(path: string): Promise<string> {
  const tunnelled = await connected(80);
  tunnelled.send(`GET ${path} HTTP/1.1\r\nhost: echo\r\nconnection: close\r\n\r\n`);
  await until(() => tunnelled.ended || tunnelled.resetCode >= 0, "the end of the answer");
  return tunnelled.received;
}

const scrape = async (): Promise<string[]> => {
  await workers.report();
  return renderOpenMetrics(registry).split("\n");
};

test("worker telemetry: a request is in the log, counted by who and whom, and its span reaches the collector", async () => {
  const answer = await get("/one");
  const traceId = /[0-9a-f]{32}$/.exec(answer)![0];
  await until(() => lines("all.log").length === 1, "the line");
  assert.deepEqual(lines("all.log"), [`GET /one 200 ${CLIENT_ID} waypoint-0 ${traceId}`]);
  const [counted] = (await scrape()).filter((line) => line.startsWith("istio_requests_total"));
  assert.match(
    counted,
    /reporter="waypoint",source_workload="client",.*source_principal="spiffe:\/\/td\/ns\/a\/sa\/client"/,
  );
  assert.match(counted, /destination_service="http.demo.svc.cluster.local",.*response_code="200".* 1$/);
  await until(() => spans.length === 1, "the span");
  assert.equal(spans[0]["traceId"], traceId);
});

test("worker telemetry: a denied request is counted by RBAC, and a filter by CEL lets its line through", async () => {
  assert.match(await get("/secret"), /^HTTP\/1\.1 403 /);
  await until(() => lines("errors.log").length === 1, "the line");
  assert.deepEqual(lines("errors.log"), ["403"]);
  const [{ telemetry }] = await workers.report();
  assert.equal((telemetry as WorkerCounts).rbac["denied"], 1);
  assert.equal((telemetry as WorkerCounts).rbac["allowed"], 1);
  const counts = (telemetry as WorkerCounts).http["inbound"];
  assert.deepEqual([counts["downstream_rq_2xx"], counts["downstream_rq_4xx"]], [1, 1]);
});

test("worker telemetry: a connection is in the log and counted", async () => {
  const tunnelled = await connected(90);
  await until(() => tunnelled.received === "hello", "the server's words");
  tunnelled.end();
  await until(() => lines("tcp.log").length === 1, "the line");
  assert.deepEqual(lines("tcp.log"), ["tcp 5"]);
  const all = await scrape();
  assert.match(
    all.find((line) => line.startsWith("istio_tcp_connections_opened_total"))!,
    /request_protocol="tcp".* 1$/,
  );
  assert.match(all.find((line) => line.startsWith("istio_tcp_sent_bytes_total"))!, / 5$/);
});

test("worker telemetry: a refused CONNECT is in the listener's log", async () => {
  const tunnelled = await connected(81);
  assert.equal(tunnelled.status, "404");
  await until(() => lines("connect.log").length === 1, "the line");
  assert.deepEqual(lines("connect.log"), [`${VIP}:81 404 NR`]);
});

test("worker telemetry: what is no HTTP is in the chain's log, and its sender answered", async () => {
  const before = lines("all.log").length;
  const tunnelled = await connected(80);
  tunnelled.send("GET / HTTP/1.1\r\nhost: echo\r\nbad header\r\n\r\n");
  await until(() => tunnelled.received.startsWith("HTTP/1.1 400 "), "a refusal");
  await until(() => lines("all.log").length > before, "the line");
  assert.equal(lines("all.log").at(-1), `- - 400 ${CLIENT_ID} waypoint-0 -`);
});

test("worker telemetry: formats of header changes know what those of logs know", async () => {
  assert.match(await get("/two"), /\r\nx-who: GET waypoint-0\r\n/);
});
