/** DestinationRule behind a waypoint (reference waypoint 4.5 to 4.7): who is chosen, who is left out, and how much is let through. */
import process from "node:process";
import type { HttpAnswer } from "../apps/protocol.ts";
import { eventually, pause } from "../../../e2e/support/wait.ts";
import { istioObject } from "../support/objects.ts";
import { assertThat, check, countApps, expectRows, httpRow, type Row } from "../support/rows.ts";
import { scenario, type Scene } from "../support/scenario.ts";
import type { LabService } from "../support/services.ts";
import type { AppPod } from "../support/stage.ts";

type Parts = Readonly<Record<string, unknown>>;
type Ask = Readonly<{ path?: string; headers?: Readonly<Record<string, string>> }>;

const USERS = Array.from({ length: 16 }, (_, i) => `user-${i}`);

/** Each value asks three times: always the same application answers, and both have some of the values. */
function sticky(name: string, ask: (value: string) => Promise<HttpAnswer>): Row {
  return {
    name,
    async check() {
      const chosen = new Set<string>();
      for (const user of USERS) {
        const answers = await Promise.all([ask(user), ask(user), ask(user)]);
        const apps = new Set(answers.map(({ headers }) => headers["x-app"]!));
        assertThat(apps.size === 1, `${user} was answered by ${[...apps].join()}`);
        for (const app of apps) chosen.add(app);
      }
      assertThat(chosen.has("alpha") && chosen.has("beta"), `all were answered by ${[...chosen].join()}`);
    },
  };
}

/** How long an endpoint warms up: new to it for some seconds on a slow machine, too. */
const WARM_MS = 12_000;

let keys = 0;

scenario("routing: DestinationRule, subsets, balancing, hashes, limits and outliers", async (scene) => {
  const { client, alpha, beta } = await scene.stage();
  const both = [alpha, beta];
  const made = await makeServices(scene, both);
  const { subsets, robin, random, least, header, source, query, maglev, cookie, narrow, single, sick, warm } = made;
  const ask = (service: LabService, { path = "/", headers = {} }: Ask = {}, from = client) =>
    from.app.http(service.url("http", path), { headers, timeoutMs: 10_000 });
  const shares = (service: LabService, times: number) =>
    countApps(times, async () => (await ask(service)).headers["x-app"]!);
  const spread = (name: string, service: LabService): Row => ({
    name,
    async check() {
      const { alpha = 0, beta = 0 } = await shares(service, 60);
      assertThat(alpha + beta === 60 && alpha > 10 && beta > 10, `alpha ${alpha}, beta ${beta}`);
    },
  });
  await expectRows([
    httpRow("a subset", client, subsets.url("http", "/one"), {}, { app: "alpha" }),
    httpRow("another subset", client, subsets.url("http", "/two"), {}, { app: "beta" }),
    httpRow("a subset with nobody in it", client, subsets.url("http", "/none"), {}, {
      status: 503,
      body: "no healthy upstream",
    }),
    spread("round robin", robin),
    spread("random", random),
    spread("least request", least),
    sticky("hash of a header", (user) => ask(header, { headers: { "x-user": user } })),
    sticky("hash of a header, Maglev", (user) => ask(maglev, { headers: { "x-user": user } })),
    sticky("hash of a parameter", (user) => ask(query, { path: `/?user=${user}` })),
    {
      name: "hash of the source address",
      async check() {
        const apps = await countApps(20, async () => (await ask(source)).headers["x-app"]!);
        assertThat(Object.keys(apps).length === 1, JSON.stringify(apps));
      },
    },
    {
      name: "hash of a cookie, which the waypoint gives",
      async check() {
        const first = await ask(cookie);
        const [, name, value] = /^(session)="?([^";]+)"?;.*Max-Age=3600/i.exec(first.headers["set-cookie"] ?? "") ?? [];
        assertThat(value !== undefined, `the cookie is ${first.headers["set-cookie"]}`);
        const apps = await countApps(12, async () => {
          const answer = await ask(cookie, { headers: { cookie: `${name}=${value}` } });
          assertThat(answer.headers["set-cookie"] === undefined, "a cookie was given again");
          return answer.headers["x-app"]!;
        });
        assertThat(apps[first.headers["x-app"]!] === 12, `${first.headers["x-app"]}, then ${JSON.stringify(apps)}`);
      },
    },
    {
      name: "requests above the limit",
      async check() {
        const answers = await Promise.all(Array.from({ length: 8 }, () => ask(narrow, { path: "/?delay=400" })));
        const refused = answers.filter(({ status }) => status === 503);
        assertThat(refused.length >= 4 && refused.length < 8, `of 8 were refused ${refused.length}`);
        for (const answer of refused) {
          check(answer, { status: 503, body: /overflow/, headers: { "x-envoy-overloaded": "true" } });
        }
        check(await ask(narrow), {});
      },
    },
    {
      name: "a connection for each request",
      async check() {
        const peers = new Set<string>();
        for (let i = 0; i < 6; i++) peers.add(JSON.parse((await ask(single)).body).peer);
        assertThat(peers.size === 6, `6 requests came on ${peers.size} connections`);
      },
    },
    {
      name: "a new endpoint gets little at first, and its share when it is warm",
      async check() {
        const betas = async () => (await shares(warm, 40))["beta"] ?? 0;
        await warm.setPods(alpha.pod);
        await eventually(async () => assertThat(await betas() === 0, "beta is still asked"), 10_000);
        await pause(WARM_MS);
        await warm.setPods(alpha.pod, beta.pod);
        await eventually(async () => assertThat(await betas() > 0, "beta is not asked"), 10_000);
        const cold = await betas();
        assertThat(cold < 16, `beta, new, answered ${cold} of 40`);
        await pause(WARM_MS);
        const grown = await betas();
        assertThat(grown >= 18, `beta, warm, answered ${grown} of 40`);
      },
    },
    {
      name: "outliers are left out",
      async check() {
        // Each application fails so often for a key; beta has been told before.
        const path = `/?status=500&fail=40&key=${process.pid}-${++keys}`;
        for (let i = 0; i < 40; i++) await beta.app.http(`http://127.0.0.1:8080${path}`);
        for (let i = 0; i < 30; i++) await ask(sick, { path });
        const apps = await countApps(20, async () => {
          const { status, headers } = await ask(sick, { path });
          return `${status} ${headers["x-app"]}`;
        });
        assertThat(apps["200 beta"] === 20, JSON.stringify(apps));
      },
    },
  ], 60_000);
}, { sideBySide: true });

async function makeServices(scene: Scene, both: readonly AppPod[]) {
  const service = (name: string) => scene.addService(name, { pods: both });
  const rule = (service: LabService, spec: Parts) =>
    istioObject("DestinationRule", service.namespace, service.name, { host: service.hostname, ...spec });
  const policy = (service: LabService, trafficPolicy: Parts) => rule(service, { trafficPolicy });
  const balanced = (service: LabService, loadBalancer: Parts) => policy(service, { loadBalancer });
  const hashed = (service: LabService, consistentHash: Parts) => balanced(service, { consistentHash });
  const made = {
    subsets: await service("subsets"),
    robin: await service("robin"),
    random: await service("random"),
    least: await service("least"),
    header: await service("header"),
    maglev: await service("maglev"),
    source: await service("source"),
    query: await service("query"),
    cookie: await service("cookie"),
    narrow: await service("narrow"),
    single: await service("single"),
    sick: await service("sick"),
    warm: await scene.addService("warm", { pods: [both[0]!] }),
  };
  const { subsets, robin, random, least, header, maglev, source, query, cookie, narrow, single, sick, warm } = made;
  const subset = (path: string, name: string) => ({
    match: [{ uri: { exact: path } }],
    route: [{ destination: { host: subsets.hostname, subset: name, port: { number: 80 } } }],
  });
  await scene.apply(
    rule(subsets, {
      subsets: [["one", "v1"], ["two", "v2"], ["none", "v3"]].map(([name, version]) => ({ name, labels: { version } })),
    }),
    istioObject("VirtualService", subsets.namespace, subsets.name, {
      hosts: [subsets.hostname],
      http: [subset("/one", "one"), subset("/two", "two"), subset("/none", "none")],
    }),
    balanced(robin, { simple: "ROUND_ROBIN" }),
    balanced(random, { simple: "RANDOM" }),
    balanced(least, { simple: "LEAST_REQUEST" }),
    hashed(header, { httpHeaderName: "x-user", ringHash: { minimumRingSize: 256 } }),
    hashed(maglev, { httpHeaderName: "x-user", maglev: { tableSize: 1009 } }),
    hashed(source, { useSourceIp: true }),
    hashed(query, { httpQueryParameterName: "user" }),
    hashed(cookie, { httpCookie: { name: "session", ttl: "3600s" } }),
    policy(narrow, {
      connectionPool: { tcp: { maxConnections: 1 }, http: { http1MaxPendingRequests: 1, http2MaxRequests: 2 } },
    }),
    policy(single, { connectionPool: { http: { maxRequestsPerConnection: 1 } } }),
    balanced(warm, { simple: "ROUND_ROBIN", warmup: { duration: `${WARM_MS / 1000}s` } }),
    policy(sick, {
      loadBalancer: { simple: "ROUND_ROBIN" },
      outlierDetection: { consecutive5xxErrors: 2, interval: "0.5s", baseEjectionTime: "60s", maxEjectionPercent: 100 },
    }),
  );
  return made;
}
