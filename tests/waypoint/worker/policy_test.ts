/** Policies that ask somebody, in a real worker: an authorization service by connect-node's gRPC, and tokens judged on the main thread. */
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import assert from "node:assert/strict";
import { createServer as createHttpServer, type Server as HttpServer } from "node:http";
import { createServer as createHttp2Server, type Http2Server } from "node:http2";
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from "node:net";
import { after, before, test } from "node:test";
import { Authorization } from "../../../src/gen/envoy/service/auth/v3/external_auth_pb.ts";
import { openTunnelListener, type TunnelListener } from "../../../src/waypoint/agent/listener.ts";
import type { Change } from "../../../src/waypoint/agent/live_config.ts";
import { Workers } from "../../../src/waypoint/agent/workers.ts";
import { createTokenJudge } from "../../../src/waypoint/filters/jwt_judge.ts";
import type {
  ChainName,
  ClusterName,
  ExtAuthzSpec,
  HttpChainSpec,
  JwtSpec,
  TcpChainSpec,
} from "../../../src/waypoint/spec/mod.ts";
import { TestAuthority } from "../../platform/authority.ts";
import { GRPC } from "../filters/ext_authz_support.ts";
import { chain, forwardTo, route } from "../support/test_engine.ts";
import { clusterSpec, endpoint, endpoints } from "../upstream/support.ts";
import { HboneClient, type Tunnelled, until } from "./hbone_client.ts";

const CLIENT_ID = "spiffe://td/ns/a/sa/client";
const OWN_ID = "spiffe://td/ns/demo/sa/waypoint";
const VIP = "10.96.0.20";

const EXT_AUTHZ: ExtAuthzSpec = {
  ...GRPC,
  body: { maxBytes: 100, allowPartial: true, asBytes: false },
  onlyIfPolicy: { metadataKey: "istio_ext_authz_shadow_effective_policy_id", prefix: "istio-ext-authz-p" },
};
const ANY = { kind: "any" } as const;

/** Everything below a path is for the provider. */
const shadow = (path: string) => ({
  rules: undefined,
  shadow: {
    action: "deny" as const,
    policies: [{
      name: "istio-ext-authz-p-ns[demo]-policy[x]-rule[0]",
      principals: ANY,
      permissions: path === "" ? ANY : {
        kind: "path" as const,
        match: { kind: "text" as const, match: { kind: "prefix" as const, text: path, ignoreCase: false } },
      },
    }],
  },
  shadowPrefix: "istio_ext_authz_",
});

function jwt(jwks: string): JwtSpec {
  return {
    providers: {
      "origins-0": {
        name: "origins-0",
        issuer: "me",
        audiences: [],
        keys: { kind: "inline", jwks },
        fromHeaders: [],
        fromParams: [],
        fromCookies: [],
        forward: false,
        forwardPayloadHeader: "",
        padForwardPayload: false,
        claimsToHeaders: [],
        payloadInMetadata: "payload",
        headerInMetadata: "",
        spaceDelimitedClaims: [],
        clockSkewSeconds: 60,
        subjects: undefined,
        requireExpiration: false,
        clearRouteCache: true,
      },
    },
    rules: [{
      path: { kind: "prefix", path: "/jwt", ignoreCase: false },
      headers: [],
      requires: { kind: "provider", provider: "origins-0", audiences: undefined },
    }],
    bypassCorsPreflight: true,
  };
}

const httpChain = (tokens: JwtSpec): HttpChainSpec => ({
  ...chain([route({ action: forwardTo("http") })]),
  name: "http" as ChainName,
  policies: [
    { kind: "rbac", rbac: shadow("/ext") },
    { kind: "ext_authz", extAuthz: EXT_AUTHZ },
    { kind: "jwt", jwt: tokens },
    { kind: "grpc_stats" },
    { kind: "fault" },
    { kind: "cors" },
  ],
});
const TCP_CHAIN: TcpChainSpec = {
  kind: "tcp",
  name: "tcp" as ChainName,
  rbac: [{ ...shadow(""), statPrefix: "tcp." }],
  extAuthz: [EXT_AUTHZ],
  clusters: [{ cluster: "tcp" as ClusterName, weight: 1 }],
  idleTimeoutMs: 0,
  maxConnectionMs: 0,
  hashSourceIp: false,
  sniForward: undefined,
  accessLogs: [],
  stats: undefined,
};

let authority: TestAuthority;
let service: Http2Server, http: HttpServer, tcp: TcpServer;
let listener: TunnelListener;
let workers: Workers;
let client: HboneClient;
let sign: (claims: Record<string, unknown>) => Promise<string>;
let tcpAllowed = false;
/** The service takes its time about connections while this is pending. */
let held: Promise<void> | undefined;
let heldChecks = 0;
let abandoned = 0;
let judged = 0;

function deliver(change: Change): Promise<void> {
  const epoch = workers.nextEpoch();
  workers.broadcast({ type: "config", update: { epoch, ...change }, places: undefined });
  return workers.confirmed(epoch);
}

before(async () => {
  service = createHttp2Server(connectNodeAdapter({
    routes: (router) => {
      router.service(Authorization, {
        async check({ attributes }, { signal }) {
          const http = attributes?.request?.http;
          let answered = false;
          const who = attributes?.source?.principal ?? "";
          if (http === undefined && held !== undefined) {
            heldChecks++;
            signal.addEventListener("abort", () => abandoned += answered ? 0 : 1);
            await held;
            answered = true;
          }
          if (http === undefined) return { status: { code: tcpAllowed && who === CLIENT_ID ? 0 : 7 } };
          if (http.path === "/ext/no") {
            const body = `${who} said ${http.body}`;
            return {
              status: { code: 7 },
              httpResponse: { case: "deniedResponse", value: { status: { code: 401 }, body } },
            };
          }
          const headers = [{ header: { key: "x-user", value: who } }];
          return { status: { code: 0 }, httpResponse: { case: "okResponse", value: { headers } } };
        },
      });
    },
  }));
  http = createHttpServer((request, response) => {
    let body = "";
    request.on("data", (piece) => body += piece);
    request.on("end", () => {
      if (request.url === "/nothing") response.statusCode = 404;
      response.end(`${request.url} ${request.headers["x-user"]} ${body}.`);
    });
  });
  tcp = createTcpServer((socket) => {
    socket.write("hello");
    socket.on("error", () => {});
  });
  const servers = [service, http, tcp];
  await Promise.all(servers.map((server) => new Promise<void>((done) => server.listen(0, "127.0.0.1", () => done()))));

  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const tokens = jwt(JSON.stringify({ keys: [{ ...await exportJWK(publicKey), kid: "k" }] }));
  sign = (claims) => new SignJWT(claims).setProtectedHeader({ alg: "ES256", kid: "k" }).sign(privateKey);
  const judge = createTokenJudge(() => Promise.reject(new Error("nobody")), () => performance.now());

  authority = await TestAuthority.create();
  listener = openTunnelListener(0, false);
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
      nodeId: "waypoint~10.0.2.7~waypoint-0.demo~demo.svc.cluster.local",
      node: {},
      serviceCluster: "waypoint.demo",
    },
    directives: () => "error",
    replay: () => [{ type: "listen", fd: listener.fd }],
    lost: (_worker, reason) => assert.fail(reason),
    resolve: () => {},
    judge: ({ provider, token }, answered) => {
      judged++;
      void judge.judge(provider, token).then(answered);
    },
    schedule: (task, delayMs) => {
      const timer = setTimeout(task, delayMs);
      return () => clearTimeout(timer);
    },
  });
  const cluster = (name: string, server: { address(): unknown }, kind: "http1" | "http2") =>
    clusterSpec({
      name: name as ClusterName,
      discovery: {
        kind: "static",
        endpoints: endpoints([endpoint(`127.0.0.1:${(server.address() as AddressInfo).port}`)], name),
      },
      protocol: { kind, http2KeepaliveMs: 0, preserveHeaderCase: false },
    });
  const { privateKey: key, chain: own, roots } = await authority.material({ uris: [OWN_ID] });
  await deliver({
    terminate: {
      peerNames: [{ kind: "prefix", text: "spiffe://td/", ignoreCase: false }],
      maxConcurrentStreams: 100,
      pingIntervalMs: 0,
      pingTimeoutMs: 0,
      accessLogs: [],
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
    chains: [httpChain(tokens), TCP_CHAIN],
    clusters: [cluster("authz", service, "http2"), cluster("http", http, "http1"), cluster("tcp", tcp, "http1")],
    secrets: {
      default: { kind: "certificate", chain: own.join(""), key },
      ROOTCA: { kind: "trust", roots: roots.join(""), crl: undefined },
    },
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
  for (const server of [service, http, tcp]) server.close();
});

async function send(tunnelled: Tunnelled, head: string, body = ""): Promise<string> {
  const before = tunnelled.received.length;
  tunnelled.send(`${head}\r\nhost: b.demo\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  const text = () => tunnelled.received.slice(before);
  const whole = () => {
    const length = /content-length: (\d+)/i.exec(text());
    const split = text().indexOf("\r\n\r\n");
    return split >= 0 &&
      (length === null ? text().endsWith("0\r\n\r\n") : text().length >= split + 4 + Number(length[1]));
  };
  await until(whole, "a whole answer");
  return text();
}

test("worker policy: a service that speaks gRPC decides about requests, by who sends them", async () => {
  const tunnelled = client.connect(`${VIP}:80`);
  await until(() => tunnelled.status === "200", "the tunnel");
  const no = await send(tunnelled, "POST /ext/no HTTP/1.1", "please");
  assert.match(no, /^HTTP\/1\.1 401 /);
  assert.ok(no.endsWith(`${CLIENT_ID} said please`), no);
  const yes = await send(tunnelled, "POST /ext/yes HTTP/1.1\r\nx-user: root", "body");
  assert.ok(yes.includes(`/ext/yes ${CLIENT_ID} body.`), yes);
  assert.ok((await send(tunnelled, "GET /free HTTP/1.1")).includes("/free undefined ."));
});

test("worker policy: and about connections", async () => {
  tcpAllowed = false;
  const no = client.connect(`${VIP}:90`);
  await until(() => no.over, "the cut");
  assert.equal(no.received, "");
  tcpAllowed = true;
  const yes = client.connect(`${VIP}:90`);
  await until(() => yes.received === "hello", "the server's greeting");
  yes.end();
});

test("worker policy: a verdict that comes late is of a policy that may be gone", async () => {
  tcpAllowed = true;
  let release = () => {};
  held = new Promise((done) => release = done);
  const waiting = client.connect(`${VIP}:90`);
  await until(() => heldChecks === 1, "the check");
  const deny = {
    rules: { action: "deny" as const, policies: [{ name: "p", principals: ANY, permissions: ANY }] },
    shadow: undefined,
    shadowPrefix: "",
    statPrefix: "tcp.",
  };
  await deliver({ chains: [{ ...TCP_CHAIN, rbac: [deny], extAuthz: [] }] });
  release();
  held = undefined;
  await until(() => waiting.over, "the cut");
  assert.equal(waiting.received, "");
  await deliver({ chains: [TCP_CHAIN] });
});

test("worker policy: a client that leaves is not asked about any more", async () => {
  let release = () => {};
  held = new Promise((done) => release = done);
  const before = heldChecks;
  const leaver = new HboneClient(await authority.material({ uris: [CLIENT_ID] }), listener.port);
  leaver.connect(`${VIP}:90`);
  await until(() => heldChecks === before + 1, "the check");
  assert.equal(abandoned, 0);
  leaver.close();
  await until(() => abandoned === 1, "the end of the check");
  release();
  held = undefined;
});

test("worker policy: tokens are judged on the main thread, each once", async () => {
  const tunnelled = client.connect(`${VIP}:80`);
  await until(() => tunnelled.status === "200", "the tunnel");
  const get = (token: string) => send(tunnelled, `GET /jwt HTTP/1.1\r\nauthorization: Bearer ${token}`);
  assert.match(await send(tunnelled, "GET /jwt HTTP/1.1"), /^HTTP\/1\.1 401 [^]*Jwt is missing$/);
  const good = await sign({ iss: "me" });
  assert.match(await get(good), /^HTTP\/1\.1 200 /);
  const asked = judged;
  assert.match(await get(good), /^HTTP\/1\.1 200 /);
  assert.equal(judged, asked);
  assert.match(await get(`${good}x`), /^HTTP\/1\.1 401 [^]*Jwt verification fails$/);
  assert.match(await get(await sign({ iss: "other" })), /^HTTP\/1\.1 401 /);
});

test("worker get: what is at an address comes through its cluster; what is no 200 does not", async () => {
  const get = async (cluster: string, path: string) => {
    const headers = [{ name: "x-user", value: "main" }];
    const asked = { cluster: cluster as ClusterName, path, authority: "keys.example.com", headers, timeoutMs: 5_000 };
    const { failure, body } = await workers.call({ ...asked, kind: "get", body: new Uint8Array(0) });
    return body === undefined ? failure : new TextDecoder().decode(body);
  };
  assert.equal(await get("http", "/keys?a=b"), "/keys?a=b main .");
  assert.equal(await get("http", "/nothing"), "HTTP 404");
  assert.equal(await get("nobody", "/keys"), "the cluster nobody is not known");
});
