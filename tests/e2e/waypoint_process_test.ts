/** A whole waypoint: its start, the probes, and every way in which it ends, with requests under way on HTTP/1.1 and HTTP/2. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { HboneClient, type Tunnelled, until } from "../waypoint/worker/hbone_client.ts";
import {
  HTTP_CLUSTER,
  plainEndpoint,
  SmallIstiod,
  TCP_CLUSTER,
  VIP,
  WaypointProcess,
  type WaypointWish,
} from "./support/waypoint_process.ts";
import { Stopwatch } from "../support/stopwatch.ts";

let app: Server;
let istiod: SmallIstiod;
/** Requests that the application has not answered yet. */
const held: ServerResponse[] = [];

before(async () => {
  app = createServer((request, response) => {
    if (request.url === "/slow") held.push(response);
    else response.end("quick");
  });
  await new Promise<void>((resolve) => app.listen(0, "127.0.0.1", resolve));
  const { port } = app.address() as AddressInfo;
  istiod = await SmallIstiod.start([plainEndpoint(HTTP_CLUSTER, port), plainEndpoint(TCP_CLUSTER, port)]);
});

after(async () => {
  app.closeAllConnections();
  app.close();
  await istiod.close();
});

interface Scene {
  readonly waypoint: WaypointProcess;
  readonly client: HboneClient;
}

async function run(wish: Omit<WaypointWish, "istiod">, scenario: (scene: Scene) => Promise<void>): Promise<void> {
  const waypoint = await WaypointProcess.start({ istiod, ...wish });
  try {
    await waypoint.ready();
    const client = new HboneClient(await istiod.client(), waypoint.hbonePort);
    try {
      await scenario({ waypoint, client });
    } finally {
      client.close();
    }
  } finally {
    await waypoint.close();
  }
}

const http1 = (path: string) => `GET ${path} HTTP/1.1\r\nhost: b\r\n\r\n`;

/** Preface, empty SETTINGS, and HEADERS with :method GET, :scheme http, the path and :authority b (RFC 9113 sections 3.4 and 6.2; RFC 7541 annex A). */
function http2(path: string): Uint8Array {
  const frame = (type: number, flags: number, stream: number, payload: readonly number[]) => [
    0,
    0,
    payload.length,
    type,
    flags,
    0,
    0,
    0,
    stream,
    ...payload,
  ];
  const bytes = (text: string) => [...new TextEncoder().encode(text)];
  const headers = [0x82, 0x86, 0x44, path.length, ...bytes(path), 0x41, 1, ...bytes("b")];
  return Uint8Array.from([
    ...bytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ...frame(4, 0, 0, []),
    ...frame(1, 0x5, 1, headers),
  ]);
}

/** Frame type 7 on stream 0. */
const GOAWAY = "\x07\0\0\0\0\0";

async function connected(client: HboneClient, key?: string): Promise<Tunnelled> {
  const tunnelled = client.connect(`${VIP}:80`, key);
  await until(() => tunnelled.status === "200", "a tunnel");
  return tunnelled;
}

/** Two requests that the application holds: over HTTP/1.1, and over HTTP/2. */
async function hold(client: HboneClient): Promise<readonly [Tunnelled, Tunnelled]> {
  held.length = 0;
  const [first, second] = [await connected(client), await connected(client)];
  first.send(http1("/slow"));
  second.sendBytes(http2("/slow"));
  await until(() => held.length === 2, "two requests at the application");
  return [first, second];
}

test("waypoint process: it starts with Istio's arguments, tells istiod who it is, and serves", async () => {
  await run({}, async ({ waypoint, client }) => {
    assert.equal((await waypoint.probe()).status, 200);
    const tunnelled = await connected(client);
    tunnelled.send(http1("/"));
    await until(() => tunnelled.received.endsWith("quick"), "an answer");
    assert.match(tunnelled.received, /^HTTP\/1\.1 200 OK\r\n/);
    assert.ok(waypoint.lines.some((line) => line.includes("waypoint~10.222.3.1~waypoint-7d9f-abcde.demo~demo.svc")));
    assert.deepEqual(waypoint.lines.filter((line) => /\t(warn|error)\t/.test(line)), []);
  });
});

test("waypoint process: SIGTERM fails the probe at once, lets requests under way end, and ends with 0 in its time", async () => {
  await run({ proxyConfig: { terminationDrainDuration: "2s" } }, async ({ waypoint, client }) => {
    const [first, second] = await hold(client);
    const watch = new Stopwatch();
    waypoint.kill("SIGTERM");
    await until(() => first.goingAway, "GOAWAY on the tunnel");
    const { status, body } = await waypoint.probe();
    assert.equal(status, 503);
    assert.match(body, /draining/);
    await until(() => second.received.includes(GOAWAY), "GOAWAY inside");
    // A second one changes nothing.
    waypoint.kill("SIGTERM");
    for (const response of held) response.end("slow");
    await until(() => first.received.endsWith("slow"), "the answer over HTTP/1.1");
    assert.match(first.received, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(first.received, /connection: close\r\n/i);
    await until(() => second.received.includes("slow"), "the answer over HTTP/2");
    // Whoever comes now is still served: its ztunnel has not heard of the end yet.
    const late = await connected(client, "late");
    late.send(http1("/late"));
    await until(() => late.received.endsWith("quick"), "the late answer");
    assert.deepEqual(await waypoint.exit(), { code: 0, signal: null });
    const { ms, wallMs } = watch.stop();
    assert.ok(wallMs >= 1_900 && ms < 6_000, `it took ${ms} ms`);
  });
});

test("waypoint process: EXIT_ON_ZERO_ACTIVE_CONNECTIONS ends it with the last connection, not before", async () => {
  const env = { EXIT_ON_ZERO_ACTIVE_CONNECTIONS: "true", MINIMUM_DRAIN_DURATION: "100ms" };
  await run({ env }, async ({ waypoint, client }) => {
    const [first, second] = await hold(client);
    waypoint.kill("SIGTERM");
    let ended = false;
    void waypoint.exited.then(() => ended = true);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    assert.equal(ended, false, "requests are under way");
    for (const response of held) response.end("slow");
    await until(() => first.received.endsWith("slow") && second.received.includes("slow"), "the answers");
    client.close();
    assert.deepEqual(await waypoint.exit(), { code: 0, signal: null });
  });
});

test("waypoint process: POST /drain drains and stays; the SIGTERM that follows ends it at once", async () => {
  await run({}, async ({ waypoint, client }) => {
    const tunnelled = await connected(client);
    assert.equal((await waypoint.agent("GET", "/drain")).status, 405);
    assert.equal((await waypoint.probe()).status, 200);
    assert.equal((await waypoint.agent("POST", "/drain")).status, 200);
    await until(() => tunnelled.goingAway, "GOAWAY");
    assert.equal((await waypoint.probe()).status, 503);
    tunnelled.send(http1("/"));
    await until(() => tunnelled.received.endsWith("quick"), "an answer");
    const began = performance.now();
    waypoint.kill("SIGTERM");
    assert.deepEqual(await waypoint.exit(), { code: 0, signal: null });
    // terminationDrainDuration is 5 s.
    assert.ok(performance.now() - began < 3_000);
  });
});

test("waypoint process: POST /quitquitquit ends it at once, also in the middle of a drain", async () => {
  for (const before of ["nothing", "a drain"]) {
    await run({}, async ({ waypoint, client }) => {
      const tunnelled = await connected(client);
      assert.equal((await waypoint.agent("GET", "/quitquitquit")).status, 405);
      if (before === "a drain") {
        waypoint.kill("SIGTERM");
        await until(() => tunnelled.goingAway, "GOAWAY");
      }
      const began = performance.now();
      assert.equal((await waypoint.agent("POST", "/quitquitquit")).status, 200);
      assert.deepEqual(await waypoint.exit(), { code: 0, signal: null });
      assert.ok(performance.now() - began < 3_000);
    });
  }
});

test("waypoint process: a client whose certificate comes to be revoked loses its tunnel and gets no other", async () => {
  const path = "var/run/secrets/istio/crl/ca-crl.pem";
  const revoked = await istiod.client();
  const waypoint = await WaypointProcess.start({ istiod, files: { [path]: await istiod.crl([]) } });
  const [good, bad] = [await istiod.client(), revoked].map((material) => new HboneClient(material, waypoint.hbonePort));
  try {
    await waypoint.ready();
    const [kept, ended] = [await connected(good), await connected(bad)];
    waypoint.write(path, await istiod.crl([revoked]));
    await until(() => ended.over, "the end of the revoked client's tunnel");
    const again = bad.connect(`${VIP}:80`, "again");
    await until(() => again.over, "a refusal");
    assert.equal(again.status, "");
    kept.send(http1("/"));
    await until(() => kept.received.endsWith("quick"), "an answer to another client");
    const { body } = await waypoint.agent("GET", "/metrics");
    assert.match(body, /istio_crl_policy_rejections_total\{reporter="destination"\} 2/);
    assert.ok(waypoint.lines.some((line) => line.includes("its client's certificate is revoked")));
  } finally {
    good.close();
    bad.close();
    await waypoint.close();
  }
});

test("waypoint process: revocation lists that cannot be read end the start", async () => {
  const files = { "var/run/secrets/istio/crl/ca-crl.pem": "no list" };
  const waypoint = await WaypointProcess.start({ istiod, files });
  assert.equal((await waypoint.exit()).code, 1);
  assert.match(waypoint.lines.join("\n"), /revocation lists: neither PEM/);
  await waypoint.close();
});

/** In a user namespace with one user there is no other to become; what counts is that it has no capabilities. */
const HAS_OTHER_USERS = Number(readFileSync("/proc/self/uid_map", "utf8").trim().split(/\s+/)[2]) > 1337;
const AS_PROXY = HAS_OTHER_USERS ? "--reuid=1337 --regid=1337 --clear-groups" : "";

/** As the kubelet starts it: another user, no capabilities, and nothing to write to but what the template mounts. */
const asPod = (directory: string): readonly string[] => [
  "unshare",
  "--mount",
  "--propagation=private",
  "sh",
  "-ec",
  `mount --bind "$1" /mnt
   for place in /tmp /var/tmp /dev/shm /run; do mount --rbind "$place" "$place"; mount -o remount,bind,ro "$place"; done
   mount -o remount,bind,ro /mnt
   mount -o remount,bind,ro /
   for file in /mnt/x /x /tmp/x /var/tmp/x /run/x; do if touch "$file" 2>/dev/null; then exit 99; fi; done
   cd /mnt
   shift
   exec setpriv ${AS_PROXY} --inh-caps=-all --bounding-set=-all --no-new-privs "$@"`,
  "sh",
  directory,
];

test("waypoint process: user 1337 without capabilities, a root that cannot be written to, and no home", async () => {
  const env = { HOME: "/nonexistent", DENO_DIR: "/nonexistent", XDG_CACHE_HOME: "/nonexistent" };
  await run({ prefix: asPod, bareEnvironment: true, env }, async ({ waypoint, client }) => {
    const status = readFileSync(`/proc/${waypoint.pid}/status`, "utf8");
    assert.match(status, HAS_OTHER_USERS ? /^Uid:\s+1337\s+1337/m : /^Uid:/m);
    assert.match(status, /^CapEff:\s+0+$/m);
    assert.match(status, /^CapBnd:\s+0+$/m);
    const tunnelled = await connected(client);
    tunnelled.send(http1("/"));
    await until(() => tunnelled.received.endsWith("quick"), "an answer");
    waypoint.kill("SIGTERM");
    assert.equal((await waypoint.exit()).code, 0);
  });
});

test("waypoint process: with two workers it ends as well, and a start that is refused says why", async () => {
  await run({ env: { ISTIO_CPU_LIMIT: "2" }, flags: ["--concurrency=2"] }, async ({ waypoint, client }) => {
    const tunnelled = await connected(client);
    tunnelled.send(http1("/"));
    await until(() => tunnelled.received.endsWith("quick"), "an answer");
    assert.equal((await waypoint.agent("POST", "/quitquitquit")).status, 200);
    assert.equal((await waypoint.exit()).code, 0);
  });
  const refused = await WaypointProcess.start({ istiod, env: { FILE_MOUNTED_CERTS: "true" } });
  assert.equal((await refused.exit()).code, 2);
  assert.match(refused.lines.join("\n"), /FILE_MOUNTED_CERTS: "true" is not supported/);
  await refused.close();
});
