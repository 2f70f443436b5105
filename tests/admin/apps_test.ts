import assert from "node:assert/strict";
import { test } from "node:test";
import { brotliDecompressSync, gunzipSync, inflateSync, zstdDecompressSync } from "node:zlib";
import { createAdminApp } from "../../src/admin/admin.ts";
import { createMetricsApp } from "../../src/admin/metrics.ts";
import { createReadinessApp, Readiness } from "../../src/admin/readiness.ts";
import { createLog } from "../../src/telemetry/log.ts";

function request(path: string, init?: RequestInit): Request {
  return new Request(`http://localhost${path}`, init);
}

test("readiness: the first line lists pending tasks sorted, the others say why; then it is ready", async () => {
  let nowMs = 0;
  const readiness = new Readiness(["workload proxy manager", "state manager"], () => nowMs);
  let reached = 0;
  void readiness.first.then(() => reached++);
  const app = createReadinessApp(readiness);
  const get = async () => {
    const response = await app.fetch(request("/healthz/ready"));
    return [response.status, await response.text()];
  };
  readiness.explain("state manager", "xDS: cannot reach\nistiod:15012");
  nowMs = 65_000;
  assert.deepEqual(await get(), [
    500,
    "not ready, pending: state manager, workload proxy manager\n" +
    "state manager: xDS: cannot reach istiod:15012 (pending for 65 s)\n" +
    "workload proxy manager: it has not begun (pending for 65 s)\n",
  ]);
  readiness.done("state manager");
  readiness.explain("state manager", "too late");
  readiness.pend("workload proxy manager", "the node agent is gone");
  assert.deepEqual(await get(), [
    500,
    "not ready, pending: workload proxy manager\n" +
    "workload proxy manager: the node agent is gone (pending for 65 s)\n",
  ]);
  assert.equal(reached, 0);
  readiness.done("workload proxy manager");
  assert.deepEqual(await get(), [200, "ready\n"]);
  assert.equal(reached, 1);
  readiness.pend("workload proxy manager", "the snapshot is awaited");
  assert.deepEqual(await get(), [
    500,
    "not ready, pending: workload proxy manager\n" +
    "workload proxy manager: the snapshot is awaited (pending for 0 s)\n",
  ]);
});

test("readiness: takes GET only; unknown paths are an empty 404", async () => {
  const app = createReadinessApp(new Readiness([]));
  for (const method of ["POST", "PUT", "HEAD", "DELETE"]) {
    assert.equal((await app.fetch(request("/healthz/ready", { method }))).status, 405, method);
  }
  const unknown = await app.fetch(request("/other"));
  assert.equal(unknown.status, 404);
  assert.equal(await unknown.text(), "");
});

const EXPOSITION = "# TYPE x counter\n" + 'x_total{a="1"} 1\n'.repeat(50) + "# EOF\n";
const metricsApp = createMetricsApp({ render: () => Promise.resolve(EXPOSITION) });

test("metrics: both paths, any method, OpenMetrics text always", async () => {
  for (const path of ["/metrics", "/stats/prometheus"]) {
    for (const method of ["GET", "POST", "PUT"]) {
      const response = await metricsApp.fetch(request(path, { method }));
      assert.equal(response.status, 200);
      assert.equal(response.headers.get("content-type"), "text/plain; charset=utf-8");
      assert.equal(await response.text(), EXPOSITION);
    }
  }
});

test("metrics: the content type follows Accept", async () => {
  const accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5";
  const response = await metricsApp.fetch(request("/metrics", { headers: { accept } }));
  assert.equal(
    response.headers.get("content-type"),
    "application/openmetrics-text;charset=utf-8;version=1.0.0",
  );
});

test("metrics: each coding unpacks to the same text", async () => {
  const codings = { gzip: gunzipSync, deflate: inflateSync, br: brotliDecompressSync, zstd: zstdDecompressSync };
  for (const [coding, unpack] of Object.entries(codings)) {
    const response = await metricsApp.fetch(request("/metrics", { headers: { "accept-encoding": coding } }));
    assert.equal(response.headers.get("content-encoding"), coding);
    const packed = new Uint8Array(await response.arrayBuffer());
    assert.ok(packed.length < EXPOSITION.length);
    assert.equal(new TextDecoder().decode(unpack(packed)), EXPOSITION, coding);
  }
});

test("metrics: a failing source is a 500 with its text", async () => {
  const app = createMetricsApp({ render: () => Promise.reject(new Error("no worker answers")) });
  const response = await app.fetch(request("/metrics"));
  assert.equal(response.status, 500);
  assert.equal(await response.text(), "no worker answers\n");
});

function admin() {
  const state = { stopped: 0 };
  const log = createLog({ filter: "info", format: "plain", sink: () => {}, nowMs: () => 0 });
  const app = createAdminApp({
    configDump: () => ({ workloads: [], version: { version: "x" } }),
    log,
    shutdown: () => state.stopped++,
  });
  const post = (path: string) => app.fetch(request(path, { method: "POST" }));
  return { app, log, state, post };
}

test("admin: the dashboard links to what there is", async () => {
  const { app } = admin();
  const response = await app.fetch(request("/"));
  assert.match(response.headers.get("content-type") ?? "", /^text\/html/);
  const html = await response.text();
  assert.match(html, /<a href="config_dump">/);
  assert.match(html, /<form method="post" action="quitquitquit">/);
});

test("admin: the config dump is pretty JSON", async () => {
  const { app } = admin();
  const response = await app.fetch(request("/config_dump"));
  assert.equal(response.headers.get("content-type"), "application/json");
  assert.equal(await response.text(), '{\n  "workloads": [],\n  "version": {\n    "version": "x"\n  }\n}');
});

test("admin: /logging shows and changes the level", async () => {
  const { app, log, post } = admin();
  const table: [string, number, RegExp][] = [
    ["/logging", 200, /^current log level is hickory_server::server=off,info\n$/],
    ["/logging?level=", 200, /^current log level is hickory_server::server=off,info\n$/],
    ["/logging?level=debug", 200, /^current log level is hickory_server::server=off,debug\n$/],
    ["/logging?level=access=trace,warn", 200, /^current log level is hickory_server::server=off,access=trace,warn\n$/],
    // As istioctl sends it: `ztunnel-config log --level access:debug,info`.
    [
      "/logging?level=access:debug,info",
      200,
      /^current log level is hickory_server::server=off,access=debug,info\n$/,
    ],
    ["/logging?level=a::b:warning,critical", 200, /^current log level is \S*access=debug,a::b=warn,error\n$/],
    ["/logging?level=access:loud", 400, /^Invalid level provided: access:loud\nusage: /],
    ["/logging?level=access", 400, /^Invalid level provided: access\nusage: /],
    ["/logging?level=loud", 400, /^Invalid level provided: loud\nusage: /],
    ["/logging?level=error&reset", 200, /^current log level is hickory_server::server=off,error\n$/],
    ["/logging?reset=1", 200, /^current log level is hickory_server::server=off,info\n$/],
  ];
  for (const [path, status, text] of table) {
    const response = await post(path);
    assert.equal(response.status, status, path);
    assert.match(await response.text(), text, path);
  }
  await post("/logging?level=access=off");
  assert.equal(log.enabledFor("error", "access"), false);
  const get = await app.fetch(request("/logging?level=debug"));
  assert.equal(get.status, 405);
  assert.match(await get.text(), /^usage: POST \/logging /);
});

test("admin: /quitquitquit stops on POST only", async () => {
  const { app, state, post } = admin();
  assert.equal((await app.fetch(request("/quitquitquit"))).status, 405);
  assert.equal(state.stopped, 0);
  const response = await post("/quitquitquit");
  assert.equal(response.status, 200);
  assert.equal(await response.text(), "shutdown now\n");
  assert.equal(state.stopped, 1);
});
