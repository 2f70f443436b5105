/** Who is let in by real workers: not those whose certificates are revoked, endpoints likewise, and no more than a limit allows. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { TlsMaterial } from "../../../src/platform/tls_context.ts";
import type { Change } from "../../../src/waypoint/agent/live_config.ts";
import { openTunnelListener, type TunnelListener } from "../../../src/waypoint/agent/listener.ts";
import { Workers } from "../../../src/waypoint/agent/workers.ts";
import type { ChainName, ClusterName } from "../../../src/waypoint/spec/mod.ts";
import { StreamLog, TestServer } from "../../hbone/support.ts";
import { createLoop, type Loop } from "../../net/support.ts";
import { TestAuthority } from "../../platform/authority.ts";
import { clusterSpec, endpoints, hbone } from "../upstream/support.ts";
import { HboneClient, type Tunnelled, until } from "./hbone_client.ts";

const CLIENT_ID = "spiffe://td/ns/a/sa/client";
const OWN_ID = "spiffe://td/ns/demo/sa/waypoint";
const ENDPOINT_ID = "spiffe://td/ns/b/sa/server";
const VIP = "10.96.0.20";
const CHAIN = "tcp" as ChainName;
const MAX_CONNECTIONS = 8;

let authority: TestAuthority;
let own: TlsMaterial, good: TlsMaterial, revoked: TlsMaterial, endpoint: TlsMaterial;
let loop: Loop;
let server: TestServer;
let listener: TunnelListener;
let workers: Workers;
let timer: ReturnType<typeof setInterval>;
const counted: string[] = [];
const clients: HboneClient[] = [];

function deliver(change: Change): Promise<void> {
  const epoch = workers.nextEpoch();
  workers.broadcast({ type: "config", update: { epoch, ...change }, places: undefined });
  return workers.confirmed(epoch);
}

function secrets(crl: string | undefined): Change["secrets"] {
  return {
    default: { kind: "certificate", chain: own.chain.join(""), key: own.privateKey },
    ROOTCA: { kind: "trust", roots: own.roots.join(""), crl },
  };
}

function connect(material: TlsMaterial): Tunnelled {
  const client = new HboneClient(material, listener.port);
  clients.push(client);
  return client.connect(`${VIP}:90`);
}

const reached = () => server.requests.length;

before(async () => {
  authority = await TestAuthority.create();
  const issue = (uri: string) => authority.material({ uris: [uri] });
  [own, good, revoked, endpoint] = await Promise.all([OWN_ID, CLIENT_ID, CLIENT_ID, ENDPOINT_ID].map(issue));
  loop = createLoop();
  timer = setInterval(() => loop.reactor.turn(0), 2);
  server = new TestServer(loop, endpoint);
  listener = openTunnelListener(0, false);
  workers = new Workers({
    entry: new URL("../../../src/roles/waypoint_worker.ts", import.meta.url),
    count: 1,
    settings: {
      identity: OWN_ID,
      hostname: "waypoint-0",
      ownAddresses: ["10.0.2.7"],
      tls: { tls12: false, pqc: false },
      logFormat: "plain",
      drainMs: 200,
      node: {},
      nodeId: "waypoint~10.0.2.7~waypoint-0.demo~demo.svc.cluster.local",
      serviceCluster: "waypoint.demo",
      endpointPort: server.port,
      maxConnections: MAX_CONNECTIONS,
    },
    directives: () => "off",
    replay: () => [{ type: "listen", fd: listener.fd }],
    lost: (_worker, reason) => assert.fail(reason),
    resolve: () => {},
    judge: () => {},
    revocations: {
      rejected: (reporter) => counted.push(`rejected ${reporter}`),
      untracked: (reporter) => counted.push(`untracked ${reporter}`),
    },
    schedule: (task, delayMs) => {
      const scheduled = setTimeout(task, delayMs);
      return () => clearTimeout(scheduled);
    },
  });
  const name = "tcp" as ClusterName;
  await deliver({
    terminate: {
      peerNames: [{ kind: "prefix", text: "spiffe://td/", ignoreCase: false }],
      maxConcurrentStreams: 100,
      pingIntervalMs: 10_000,
      pingTimeoutMs: 20_000,
      accessLogs: [],
      refusal: undefined,
    },
    selection: {
      authorities: {},
      ranges: [{ cidrs: [`${VIP}/32`], to: { kind: "any", to: { kind: "chain", chain: CHAIN } } }],
    },
    chains: [{
      kind: "tcp",
      name: CHAIN,
      rbac: [],
      extAuthz: [],
      clusters: [{ cluster: name, weight: 1 }],
      idleTimeoutMs: 0,
      maxConnectionMs: 0,
      hashSourceIp: false,
      sniForward: undefined,
      accessLogs: [],
      stats: undefined,
    }],
    clusters: [
      clusterSpec({ name, discovery: { kind: "static", endpoints: endpoints([hbone("127.0.0.1:8080")], name) } }),
    ],
    secrets: secrets(undefined),
  });
});

after(async () => {
  for (const client of clients) client.close();
  await workers.cut("test over");
  workers.close();
  listener.close();
  clearInterval(timer);
  server.close();
  loop.reactor.dispose();
});

test("revocation: a live tunnel of a revoked client ends, its next one is refused, others go on", async () => {
  const [kept, ended] = [connect(good), connect(revoked)];
  await until(() => kept.status === "200" && ended.status === "200" && reached() === 2, "two tunnels");
  await deliver({ secrets: secrets(await authority.crl([revoked.chain[0]])) });
  await until(() => ended.over, "the end of the revoked client's tunnel");
  await until(() => counted.length === 1, "the count");
  const refused = connect(revoked);
  await until(() => refused.over, "a refusal");
  assert.equal(refused.status, "");
  await until(() => counted.length === 2, "the count");
  assert.deepEqual(counted.splice(0), ["rejected destination", "rejected destination"]);
  assert.equal(kept.over, false);
  const next = connect(good);
  await until(() => next.status === "200", "a tunnel of another client");
});

test("revocation: a live tunnel to a revoked endpoint ends, and no new one is opened", async () => {
  const before = reached();
  const tunnelled = connect(good);
  await until(() => tunnelled.status === "200" && reached() === before + 1, "a tunnel to the endpoint");
  await until(() => server.streams.at(-1)?.user instanceof StreamLog, "the endpoint's answer");
  await deliver({ secrets: secrets(await authority.crl([endpoint.chain[0]])) });
  await until(() => tunnelled.over, "the end of the tunnel to the endpoint");
  await until(() => counted.includes("rejected source"), "the count");
  counted.splice(0);
  const next = connect(good);
  await until(() => next.over, "a refusal");
  assert.equal(reached(), before + 1);
  assert.ok(counted.splice(0).every((line) => line === "rejected source"));
  // Taken back, it is let in again.
  await deliver({ secrets: secrets(undefined) });
  const last = connect(good);
  await until(() => reached() === before + 2, "a tunnel to the endpoint");
  assert.equal(last.over, false);
});

test("entrance: no more tunnels than the limit allows; one that ends makes room", async () => {
  for (const client of clients.splice(0)) client.close();
  await until(() => workers.connections === 0, "no tunnel is left");
  const many = Array.from({ length: MAX_CONNECTIONS }, () => connect(good));
  await until(() => many.every(({ status }) => status === "200"), "as many tunnels as are allowed");
  const excess = connect(good);
  await until(() => excess.over, "the one too many is turned away");
  assert.equal(excess.status, "");
  clients.splice(0, 1)[0].close();
  await until(() => workers.connections < MAX_CONNECTIONS, "one ended");
  const next = connect(good);
  await until(() => next.status === "200", "a tunnel in its place");
});
