/** The agent's HTTP interfaces over real sockets: plugin events, the plugin's log, health, administration. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { controlHandler } from "../../../src/cni/agent/control_server.ts";
import { Health, healthHandler } from "../../../src/cni/agent/health.ts";
import { type Handler, serveTcp, serveUnix } from "../../../src/cni/agent/http_server.ts";
import { logHandler, parseLogBody } from "../../../src/cni/agent/log_server.ts";
import { pluginHandler, type PluginServerOptions } from "../../../src/cni/agent/plugin_server.ts";
import type { CniAddEvent } from "../../../src/cni/plugin_event.ts";
import { createLog, type Log, type LogFormat } from "../../../src/telemetry/log.ts";

interface Answer {
  readonly status: number;
  readonly body: string;
}

function ask(at: { socketPath: string } | { port: number }, method: string, path: string, body = ""): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request({ host: "127.0.0.1", ...at, method, path, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => text += chunk);
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    call.on("error", reject);
    call.end(body);
  });
}

/** Serves on a unix socket in a directory of its own while `use` runs. */
async function serving(handler: Handler, use: (socketPath: string) => Promise<void>, mode = 0o666): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "ambit-agent-"));
  const path = join(directory, "run", "x.sock");
  const server = await serveUnix(path, mode, { handler });
  try {
    await use(path);
  } finally {
    await server.close(100);
    rmSync(directory, { recursive: true });
  }
}

function logOf(lines: string[], filter = "info", format: LogFormat = "plain"): Log {
  return createLog({ filter, format, sink: (line) => void lines.push(line), nowMs: () => 0 });
}

function plugin(overrides: Partial<PluginServerOptions> = {}) {
  const events: CniAddEvent[] = [];
  const codes: number[] = [];
  const handler = pluginHandler({
    enroll: async (event) => void events.push(event),
    log: logOf([]),
    counted: (code) => void codes.push(code),
    ...overrides,
  });
  return { handler, events, codes };
}

const GO_EVENT = JSON.stringify({
  Netns: "/var/run/netns/cni-1",
  PodName: "cart",
  PodNamespace: "shop",
  IPs: [{ Interface: 2, Address: { IP: "10.0.0.7", Mask: "/////w==" }, Gateway: "" }],
});

test("plugin server: a good event is handled once and answered with an empty 200, whatever the method", async () => {
  const { handler, events, codes } = plugin();
  await serving(handler, async (socketPath) => {
    assert.deepEqual(await ask({ socketPath }, "POST", "/cmdadd", GO_EVENT), { status: 200, body: "" });
    assert.deepEqual(events, [
      { netns: "/var/run/netns/cni-1", podName: "cart", podNamespace: "shop", ips: ["10.0.0.7"] },
    ]);
    assert.equal((await ask({ socketPath }, "PUT", "/cmdadd", GO_EVENT)).status, 200);
    assert.deepEqual(codes, [200, 200]);
  });
});

test("plugin server: a body that is no event is a 400, and nothing is done", async () => {
  const { handler, events, codes } = plugin();
  await serving(handler, async (socketPath) => {
    for (const body of ["", "{", "[]", '{"Netns":7}', '{"Netns":"/x","PodName":"a","PodNamespace":"b","IPs":[{}]}']) {
      assert.equal((await ask({ socketPath }, "POST", "/cmdadd", body)).status, 400, body);
    }
    assert.equal((await ask({ socketPath }, "POST", "/other", GO_EVENT)).status, 404);
    assert.deepEqual(events, []);
    assert.deepEqual(codes, [400, 400, 400, 400, 400]);
  });
});

test("plugin server: a failure is a 500 with its words", async () => {
  const { handler, codes } = plugin({ enroll: () => Promise.reject(new Error("no ztunnel connection")) });
  await serving(handler, async (socketPath) => {
    assert.deepEqual(await ask({ socketPath }, "POST", "/cmdadd", GO_EVENT), {
      status: 500,
      body: "no ztunnel connection",
    });
    assert.deepEqual(codes, [500]);
  });
});

test("plugin server: who goes away aborts what was begun for him", async () => {
  const aborted = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const { handler } = plugin({
    enroll: (_event, signal) => {
      begun.resolve();
      return new Promise((_, reject) =>
        signal.addEventListener("abort", () => {
          aborted.resolve();
          reject(signal.reason);
        })
      );
    },
  });
  await serving(handler, async (socketPath) => {
    const socket = connect(socketPath);
    socket.on("error", () => {});
    socket.write(`POST /cmdadd HTTP/1.1\r\nHost: unix\r\nContent-Length: ${GO_EVENT.length}\r\n\r\n${GO_EVENT}`);
    await begun.promise;
    socket.destroy();
    await aborted.promise;
  });
});

test("plugin server: a body above the limit is refused and not kept", async () => {
  const { handler, events } = plugin();
  await serving(handler, async (socketPath) => {
    const answer = await ask({ socketPath }, "POST", "/cmdadd", " ".repeat(2 * 1024 * 1024)).catch(() => undefined);
    assert.ok(answer === undefined || answer.status === 413);
    assert.equal((await ask({ socketPath }, "POST", "/cmdadd", GO_EVENT)).status, 200);
    assert.equal(events.length, 1);
  });
});

test("socket: everybody may use the plugin's, a stale one is replaced, and the file goes with the server", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ambit-agent-"));
  const path = join(directory, "deep", "x.sock");
  const first = await serveUnix(path, 0o666, { handler: () => ({ status: 200 }) });
  assert.equal(statSync(path).mode & 0o777, 0o666);
  assert.equal(statSync(join(directory, "deep")).mode & 0o777, 0o750);
  await first.close(100);
  assert.throws(() => statSync(path), /ENOENT/);
  writeFileSync(path, "left by an agent that was killed");
  const second = await serveUnix(path, 0o600, { handler: () => ({ status: 202 }) });
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal((await ask({ socketPath: path }, "GET", "/")).status, 202);
  await second.close(100);
  rmSync(directory, { recursive: true });
});

test("socket: a port that is taken is an error that names it", async () => {
  const server = await serveTcp("127.0.0.1", 0, { handler: () => ({ status: 200 }) });
  await assert.rejects(
    serveTcp("127.0.0.1", server.port, { handler: () => ({ status: 200 }) }),
    new RegExp(`cannot listen at 127.0.0.1:${server.port}`),
  );
  await server.close(100);
});

const PLUGIN_LINE = JSON.stringify({
  level: "warn",
  time: "2026-01-02T03:04:05.678Z",
  msg: "the pod waits",
  scope: "cni-plugin",
  pod: "shop/cart",
  tries: 3,
});

test("log server: a plugin's line is written again with its own time, under the plugin's scope", async () => {
  const lines: string[] = [];
  await serving(logHandler(logOf(lines)), async (socketPath) => {
    assert.equal((await ask({ socketPath }, "POST", "/log", JSON.stringify([PLUGIN_LINE]))).status, 200);
  });
  assert.deepEqual(lines, ['2026-01-02T03:04:05.678000Z\twarn\tcni-plugin\tthe pod waits\tpod="shop/cart" tries=3\n']);
});

test("log server: as JSON when the log is, and only what the plugin's level lets through", async () => {
  const lines: string[] = [];
  const log = logOf(lines, "info,cni-plugin=error", "json");
  await serving(logHandler(log), async (socketPath) => {
    await ask({ socketPath }, "POST", "/log", JSON.stringify([PLUGIN_LINE]));
    log.change("cni-plugin=debug");
    await ask({ socketPath }, "POST", "/log", JSON.stringify([PLUGIN_LINE]));
  });
  assert.equal(lines.length, 1);
  assert.deepEqual(JSON.parse(lines[0]), {
    level: "warn",
    time: "2026-01-02T03:04:05.678000Z",
    scope: "cni-plugin",
    message: "the pod waits",
    pod: "shop/cart",
    tries: 3,
  });
});

test("log server: lines without message, level or time are dropped, others of the same post are not", () => {
  const line = (fields: Record<string, unknown>) =>
    JSON.stringify({ level: "info", time: "2026-01-01T00:00:00Z", msg: "x", ...fields });
  const bad = [line({ msg: undefined }), line({ level: "loud" }), line({ time: "soon" }), "no json", "[]", "null"];
  assert.equal(parseLogBody(JSON.stringify([...bad, 7, null, line({})]))?.length, 1);
  assert.equal(parseLogBody("{}"), undefined);
  assert.equal(parseLogBody("nothing"), undefined);
});

test("log server: a field cannot forge another one or another line", () => {
  const lines: string[] = [];
  const log = logOf(lines);
  const forged = JSON.stringify({ level: "info", time: "2026-01-01T00:00:00Z", msg: "a\nb", "x y": 1, z: "1\t\n2" });
  logHandler(log)({
    method: "POST",
    path: "/log",
    query: new URLSearchParams(),
    body: JSON.stringify([forged]),
    signal: new AbortController().signal,
  });
  assert.equal(lines.length, 1);
  assert.equal(lines[0].split("\n").length, 2);
  assert.ok(!lines[0].includes("x y"));
});

test("health: ready needs both the installation and the watch; alive it is always", async () => {
  const health = new Health();
  await serving(healthHandler(health), async (socketPath) => {
    for (
      const [install, watch, status] of [[false, false, 503], [true, false, 503], [false, true, 503], [
        true,
        true,
        200,
      ]] as const
    ) {
      health.install = install;
      health.watch = watch;
      assert.equal((await ask({ socketPath }, "GET", "/readyz")).status, status, `${install} ${watch}`);
      assert.equal((await ask({ socketPath }, "GET", "/healthz")).status, 200);
    }
    assert.equal((await ask({ socketPath }, "GET", "/nothing")).status, 404);
  });
});

test("control: log levels as istioctl reads and sets them", async () => {
  const log = logOf([], "info,cni-plugin=debug");
  const handler = controlHandler({ log, report: () => assert.fail(), version: "v" });
  await serving(handler, async (socketPath) => {
    const list = JSON.parse((await ask({ socketPath }, "GET", "/scopej/")).body) as {
      name: string;
      output_level: string;
    }[];
    assert.deepEqual(list.map(({ name, output_level }) => [name, output_level]), [
      ["cni-agent", "info"],
      ["cni-plugin", "debug"],
      ["default", "info"],
      ["kube", "info"],
    ]);
    const put = (scope: string, body: unknown) => ask({ socketPath }, "PUT", `/scopej/${scope}`, JSON.stringify(body));
    assert.equal((await put("cni-agent", { name: "cni-agent", output_level: "debug" })).status, 202);
    assert.ok(log.enabledFor("debug", "cni-agent"));
    assert.equal((await put("cni-plugin", { output_level: "none" })).status, 202);
    assert.ok(!log.enabledFor("error", "cni-plugin"));
    assert.equal(JSON.parse((await ask({ socketPath }, "GET", "/scopej/cni-plugin")).body).output_level, "none");
    assert.equal((await put("nobody", { output_level: "debug" })).status, 400);
    assert.equal((await ask({ socketPath }, "PUT", "/scopej/kube", "{")).status, 400);
    assert.equal((await ask({ socketPath }, "GET", "/else")).status, 404);
  });
});
