/** Real workers: TLS, tunnels, chains and clusters, from a client's CONNECT to servers on the loopback. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer as createHttpServer, type Server as HttpServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from "node:net";
import { after, before, test } from "node:test";
import { openTunnelListener, type TunnelListener } from "../../../src/waypoint/agent/listener.ts";
import { Workers } from "../../../src/waypoint/agent/workers.ts";
import type { Change } from "../../../src/waypoint/agent/live_config.ts";
import type {
  ChainName,
  ChainSpec,
  ClusterName,
  HttpChainSpec,
  SelectionSpec,
  TcpChainSpec,
  TerminateSpec,
} from "../../../src/waypoint/spec/mod.ts";
import { TestAuthority } from "../../platform/authority.ts";
import { chain, forwardTo, route } from "../support/test_engine.ts";
import { clusterSpec, endpoint, endpoints } from "../upstream/support.ts";
import { HboneClient, type Tunnelled, until } from "./hbone_client.ts";

/** Of removed chains. */
const DRAIN_MS = 200;
const CLIENT_ID = "spiffe://td/ns/a/sa/client";
const OWN_ID = "spiffe://td/ns/demo/sa/waypoint";
const VIP = "10.96.0.20";
const HTTP_CHAIN = "http" as ChainName;
const TCP_CHAIN = "tcp" as ChainName;

const TERMINATE: TerminateSpec = {
  peerNames: [{ kind: "prefix", text: "spiffe://td/", ignoreCase: false }],
  maxConcurrentStreams: 100,
  pingIntervalMs: 10_000,
  pingTimeoutMs: 20_000,
  accessLogs: [],
  refusal: undefined,
};
const SELECTION: SelectionSpec = {
  authorities: {},
  ranges: [{
    cidrs: [`${VIP}/32`],
    to: {
      kind: "ports",
      ports: {
        80: { kind: "chain", chain: HTTP_CHAIN },
        90: { kind: "chain", chain: TCP_CHAIN },
        100: { kind: "sniff", protocols: { "http/1.1": HTTP_CHAIN, h2c: HTTP_CHAIN, other: TCP_CHAIN } },
        110: { kind: "chain", chain: "refused" as ChainName },
        120: { kind: "chain", chain: "not there" as ChainName },
      },
    },
  }],
};
const tcpChain = (change: Partial<TcpChainSpec> = {}): TcpChainSpec => ({
  kind: "tcp",
  name: TCP_CHAIN,
  rbac: [],
  extAuthz: [],
  clusters: [{ cluster: "tcp" as ClusterName, weight: 1 }],
  idleTimeoutMs: 0,
  maxConnectionMs: 0,
  hashSourceIp: false,
  sniForward: undefined,
  accessLogs: [],
  stats: undefined,
  ...change,
});
const httpChain = (status?: number): HttpChainSpec => ({
  ...chain([
    route({ action: status === undefined ? forwardTo("http") : { kind: "direct", status, body: "direct" } }),
  ]),
  name: HTTP_CHAIN,
});
const REFUSED: ChainSpec = { kind: "refused", name: "refused" as ChainName, reason: "Lua", http: true };

let authority: TestAuthority;
let http: HttpServer, tcp: TcpServer;
let listener: TunnelListener;
let workers: Workers;
let client: HboneClient;
const lost: string[] = [];

function deliver(change: Change): Promise<void> {
  const epoch = workers.nextEpoch();
  workers.broadcast({ type: "config", update: { epoch, ...change }, places: undefined });
  return workers.confirmed(epoch);
}

async function secrets(uri = OWN_ID): Promise<Change["secrets"]> {
  const { privateKey, chain, roots } = await authority.material({ uris: [uri] });
  return {
    default: { kind: "certificate", chain: chain.join(""), key: privateKey },
    ROOTCA: { kind: "trust", roots: roots.join(""), crl: undefined },
  };
}

before(async () => {
  authority = await TestAuthority.create();
  http = createHttpServer((request, response) => {
    request.resume();
    response.end(`${request.method} ${request.url} ${request.headers.host}`);
  });
  tcp = createTcpServer({ allowHalfOpen: true }, (socket) => {
    // A server that speaks first, and echoes.
    socket.write("hello\n");
    socket.on("data", (bytes) => socket.write(bytes));
    socket.on("end", () => socket.end("bye\n"));
    socket.on("error", () => {});
  });
  await Promise.all([http, tcp].map((server) => new Promise<void>((done) => server.listen(0, "127.0.0.1", done))));
  listener = openTunnelListener(0, false);
  workers = new Workers({
    entry: new URL("../../../src/roles/waypoint_worker.ts", import.meta.url),
    count: 2,
    settings: {
      identity: OWN_ID,
      hostname: "waypoint-0",
      ownAddresses: ["10.0.2.7"],
      tls: { tls12: false, pqc: false },
      logFormat: "plain",
      drainMs: DRAIN_MS,
      nodeId: "waypoint~10.0.2.7~waypoint-0.demo~demo.svc.cluster.local",
      node: {},
      serviceCluster: "waypoint.demo",
    },
    directives: () => "error",
    replay: () => [{ type: "listen", fd: listener.fd }],
    lost: (_worker, reason) => lost.push(reason),
    resolve: () => {},
    judge: () => {},
    schedule: (task, delayMs) => {
      const timer = setTimeout(task, delayMs);
      return () => clearTimeout(timer);
    },
  });
  const port = (server: HttpServer | TcpServer) => (server.address() as AddressInfo).port;
  const cluster = (name: string, server: HttpServer | TcpServer) =>
    clusterSpec({
      name: name as ClusterName,
      discovery: { kind: "static", endpoints: endpoints([endpoint(`127.0.0.1:${port(server)}`)], name) },
    });
  await deliver({
    terminate: TERMINATE,
    selection: SELECTION,
    chains: [httpChain(), tcpChain(), REFUSED],
    clusters: [cluster("http", http), cluster("tcp", tcp)],
    secrets: await secrets(),
    workloads: [],
  });
  client = new HboneClient(await authority.material({ uris: [CLIENT_ID] }), listener.port);
});

after(async () => {
  client.close();
  await workers.cut("test over");
  workers.close();
  listener.close();
  http.closeAllConnections();
  http.close();
  tcp.close();
  assert.deepEqual(lost, []);
});

async function answered(tunnelled: Tunnelled): Promise<string> {
  await until(() => tunnelled.status !== "" || tunnelled.failure !== "", "an answer to CONNECT");
  return tunnelled.status;
}

async function get(tunnelled: Tunnelled, path: string): Promise<string> {
  const before = tunnelled.received.length;
  tunnelled.send(`GET ${path} HTTP/1.1\r\nhost: echo\r\n\r\n`);
  await until(() => /\r\n\r\n[^]*(?:echo|direct|refused)?$/.test(tunnelled.received.slice(before)), "an answer");
  await until(() => whole(tunnelled.received.slice(before)), "a whole answer");
  return tunnelled.received.slice(before);
}

/** Its content-length is there. */
function whole(text: string): boolean {
  const split = text.indexOf("\r\n\r\n");
  const length = /content-length: (\d+)/i.exec(text);
  return split >= 0 && (length === null ? text.includes("0\r\n\r\n") : text.length >= split + 4 + Number(length[1]));
}

test("worker: a request travels from a tunnel to a server and back", async () => {
  const tunnelled = client.connect(`${VIP}:80`);
  assert.equal(await answered(tunnelled), "200");
  const answer = await get(tunnelled, "/path");
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(answer, /server: istio-envoy\r\n/i);
  assert.match(answer, /GET \/path echo$/);
  assert.match(await get(tunnelled, "/again"), /GET \/again echo$/);
  tunnelled.end();
  await until(() => tunnelled.ended, "the end");
});

test("worker: TCP both ways, the server first, with half-close", async () => {
  const tunnelled = client.connect(`${VIP}:90`);
  assert.equal(await answered(tunnelled), "200");
  await until(() => tunnelled.received === "hello\n", "the server's greeting");
  tunnelled.send("ping\n");
  await until(() => tunnelled.received === "hello\nping\n", "the echo");
  tunnelled.end();
  await until(() => tunnelled.received === "hello\nping\nbye\n" && tunnelled.ended, "the server's last words");
  assert.equal(tunnelled.resetCode, -1);
});

test("worker: where the port does not tell, the first bytes do", async () => {
  const tunnelled = client.connect(`${VIP}:100`);
  await answered(tunnelled);
  assert.match(await get(tunnelled, "/sniffed"), /GET \/sniffed echo$/);
  const other = client.connect(`${VIP}:100`);
  await answered(other);
  other.send("\x00binary");
  await until(() => other.received === "hello\n\x00binary", "the TCP chain");
  other.end();
});

test("worker: a policy about the server name waits for the client's hello", async () => {
  const rules = {
    rules: {
      action: "allow" as const,
      policies: [{
        name: "p",
        principals: { kind: "any" as const },
        permissions: {
          kind: "sni" as const,
          match: { kind: "suffix" as const, text: ".example.com", ignoreCase: false },
        },
      }],
    },
    shadow: undefined,
    shadowPrefix: "",
    statPrefix: "tcp.",
  };
  await deliver({ chains: [tcpChain({ rbac: [rules] })] });
  const hello = readFileSync(new URL("../../corpus/tls_client_hello/named", import.meta.url));
  const allowed = client.connect(`${VIP}:90`);
  await answered(allowed);
  allowed.sendBytes(hello);
  await until(() => allowed.received.length >= "hello\n".length, "the server's greeting");
  const denied = client.connect(`${VIP}:90`);
  await answered(denied);
  denied.send("no TLS");
  await until(() => denied.resetCode !== -1, "the cut");
  assert.equal(denied.received, "");
  allowed.end();
  await deliver({ chains: [tcpChain()] });
});

test("worker: CONNECT is answered 404 where nobody is, 503 where it cannot be served, 400 where it says nothing", async () => {
  await Promise.all(
    [
      ["10.96.0.21:80", "404"],
      [`${VIP}:81`, "404"],
      ["10.0.2.7:15008", "404"],
      ["echo.demo.svc.cluster.local:80", "404"],
      [`${VIP}:120`, "503"],
      [`${VIP}`, "400"],
    ].map(async ([authority, status]) => assert.equal(await answered(client.connect(authority)), status, authority)),
  );
});

test("worker: requests of a refused chain are answered 503", async () => {
  const tunnelled = client.connect(`${VIP}:110`);
  assert.equal(await answered(tunnelled), "200");
  tunnelled.send("POST / HTTP/1.1\r\nhost: echo\r\ncontent-length: 2\r\n\r\nab");
  await until(() => /^HTTP\/1\.1 503 /.test(tunnelled.received), "503");
});

test("worker: a client of another trust domain, or of several names, is refused", async () => {
  for (const uris of [["spiffe://other/ns/a/sa/b"], [CLIENT_ID, "spiffe://td/ns/a/sa/admin"]]) {
    const stranger = new HboneClient(await authority.material({ uris }), listener.port);
    const tunnelled = stranger.connect(`${VIP}:80`);
    await until(() => tunnelled.over, "a refusal");
    assert.equal(tunnelled.status, "");
    stranger.close();
  }
});

test("worker: a changed chain is in force for the next request of an open connection", async () => {
  const tunnelled = client.connect(`${VIP}:80`);
  await answered(tunnelled);
  assert.match(await get(tunnelled, "/before"), /GET \/before echo$/);
  await deliver({ chains: [httpChain(418)] });
  assert.match(await get(tunnelled, "/after"), /^HTTP\/1\.1 418 /);
  await deliver({ chains: [httpChain()] });
  assert.match(await get(tunnelled, "/later"), /GET \/later echo$/);
  tunnelled.end();
});

test("worker: a TCP connection that a new policy denies is cut, others go on", async () => {
  const tunnelled = client.connect(`${VIP}:90`);
  await until(() => tunnelled.received === "hello\n", "the server's greeting");
  const rules = (principal: string) => ({
    rules: {
      action: "deny" as const,
      policies: [{
        name: "p",
        principals: {
          kind: "principal" as const,
          match: { kind: "exact" as const, text: principal, ignoreCase: false },
        },
        permissions: { kind: "any" as const },
      }],
    },
    shadow: undefined,
    shadowPrefix: "",
    statPrefix: "tcp.",
  });
  await deliver({ chains: [tcpChain({ rbac: [rules("spiffe://td/ns/a/sa/other")] })] });
  tunnelled.send("still\n");
  await until(() => tunnelled.received === "hello\nstill\n", "the echo");
  await deliver({ chains: [tcpChain({ rbac: [rules(CLIENT_ID)] })] });
  await until(() => tunnelled.resetCode !== -1, "the cut");
  const next = client.connect(`${VIP}:90`);
  await until(() => next.over, "the refusal");
  assert.equal(next.received, "");
  await deliver({ chains: [tcpChain()] });
});

test("worker: a removed chain serves who comes late, is cut after the drain time, and then is not there", async () => {
  const tunnelled = client.connect(`${VIP}:90`);
  await until(() => tunnelled.received === "hello\n", "the server's greeting");
  await deliver({ removedChains: [TCP_CHAIN] });
  assert.equal(tunnelled.over, false);
  const late = client.connect(`${VIP}:90`);
  await until(() => late.received === "hello\n", "the server's greeting");
  await until(() => tunnelled.resetCode !== -1 && late.resetCode !== -1, "the cut");
  assert.equal(await answered(client.connect(`${VIP}:90`)), "503");
  await deliver({ chains: [tcpChain()] });
});

test("worker: a CONNECT that comes before its configuration is answered when that is here", async () => {
  await deliver({ removedChains: [TCP_CHAIN] });
  await new Promise((resolve) => setTimeout(resolve, 2 * DRAIN_MS));
  const early = client.connect(`${VIP}:90`);
  const nowhere = client.connect("10.96.0.21:90");
  assert.equal(await answered(client.connect("10.0.2.7:15008")), "404", "itself it does not serve, whatever comes");
  assert.deepEqual([early.status, nowhere.status], ["", ""]);
  await deliver({ chains: [tcpChain()] });
  await until(() => early.received === "hello\n", "the server's greeting");
  early.end();
  assert.equal(await answered(nowhere), "404");
});

test("worker: a renewed certificate is used by the next handshake, and breaks no open tunnel", async () => {
  const tunnelled = client.connect(`${VIP}:80`);
  await answered(tunnelled);
  await deliver({ secrets: await secrets("spiffe://td/ns/demo/sa/renewed") });
  assert.match(await get(tunnelled, "/open"), /GET \/open echo$/);
  const second = client.connect(`${VIP}:80`, "another tunnel");
  assert.equal(await answered(second), "200");
  for (const each of [tunnelled, second]) each.end();
});

test("worker: draining, it says so at once and goes on serving what is under way", async () => {
  const tunnelled = client.connect(`${VIP}:90`, "drained");
  await until(() => tunnelled.received === "hello\n", "the server's greeting");
  assert.ok(workers.connections > 0);
  const kept = client.connect(`${VIP}:80`, "kept");
  assert.equal(await answered(kept), "200");
  assert.doesNotMatch(await get(kept, "/before"), /^connection: close\r$/m);
  workers.broadcast({ type: "drain" });
  await until(() => tunnelled.goingAway, "GOAWAY");
  tunnelled.send("last\n");
  await until(() => tunnelled.received === "hello\nlast\n", "the echo");
  // Who comes now is served on his way in.
  const late = client.connect(`${VIP}:80`, "late");
  assert.equal(await answered(late), "200");
  // To both it is said with an answer that they had their last one.
  for (const each of [kept, late]) assert.match(await get(each, "/last"), /^connection: close\r$/m);
  tunnelled.end();
  late.end();
  const reports = await workers.report();
  assert.equal(reports.filter(({ telemetry }) => telemetry === undefined).length, 2, "the last part of each");
});
