import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { parseFormat } from "../../../src/waypoint/config/format.ts";
import type { AccessLogFilter, AccessLogSpec, ClusterName, TerminateSpec } from "../../../src/waypoint/spec/mod.ts";
import { LogFiles } from "../../../src/waypoint/telemetry/log_files.ts";
import { caught, pass, simpleChain } from "./support.ts";

const text = (format: string, filter?: AccessLogFilter, path = "/dev/stdout"): AccessLogSpec => ({
  filter,
  to: { kind: "text", path, format: parseFormat(format) },
});

test("access log: a line for each request, to each logger's own path", () => {
  const all = caught();
  const spec = simpleChain({
    accessLogs: [text("%RESPONSE_CODE% %REQ(:PATH)%\n"), text("x\n", undefined, "/tmp/other")],
  });
  pass(all, spec);
  assert.deepEqual(all.lines, [{ path: "/dev/stdout", line: "200 /a?b=c\n" }, { path: "/tmp/other", line: "x\n" }]);
});

test("access log: JSON is a line", () => {
  const all = caught();
  pass(
    all,
    simpleChain({
      accessLogs: [{
        filter: undefined,
        to: { kind: "json", path: "/dev/stdout", format: { code: parseFormat("%RESPONSE_CODE%") }, omitEmpty: false },
      }],
    }),
  );
  assert.deepEqual(all.lines.map(({ line }) => line), ['{"code":200}\n']);
});

const status = (op: "==" | ">=" | "<=" | "!=", value: number): AccessLogFilter => ({ kind: "status", op, value });
for (
  const [name, filter, wanted] of [
    ["status >= 400", status(">=", 400), [404, 503]],
    ["status <= 404", status("<=", 404), [200, 404]],
    ["status == 200", status("==", 200), [200]],
    ["status != 200", status("!=", 200), [404, 503]],
    ["flag UF", { kind: "flags", flags: ["NR", "UF"] }, [503]],
    ["any flag", { kind: "flags", flags: [] }, [503]],
    ["another flag", { kind: "flags", flags: ["NR"] }, []],
    ["and", { kind: "and", of: [status(">=", 201), status("<=", 499)] }, [404]],
    ["or", { kind: "or", of: [status("==", 200), status("==", 503)] }, [200, 503]],
    ["CEL", { kind: "cel", expression: "response.code >= 404 && request.method == 'POST'" }, [404, 503]],
    ["CEL that fails", { kind: "cel", expression: "request.headers['x'] == 'y'" }, []],
    ["CEL that is none", { kind: "cel", expression: "response.code >=" }, []],
  ] as const satisfies readonly (readonly [string, AccessLogFilter, readonly number[]])[]
) {
  test(`access log: the filter ${name} passes ${JSON.stringify(wanted)}`, async () => {
    const all = caught();
    const spec = simpleChain({ accessLogs: [text("%RESPONSE_CODE%", filter)] });
    all.telemetry.configured([spec], [], undefined);
    for (const rest of all.rests) await rest();
    for (const code of [200, 404, 503]) {
      pass(all, spec, { status: code, before: (context) => code === 503 && context.flags.add("UF") });
    }
    assert.deepEqual(all.lines.map(({ line }) => Number(line)), wanted);
  });
}

test("access log: an unknown command is warned of when it is configured, once", () => {
  const all = caught();
  const spec = simpleChain({ accessLogs: [text("%NEW_THING% %NEW_THING%\n")] });
  all.telemetry.configured([spec], [], undefined);
  assert.deepEqual(all.warnings, ['the access log command %NEW_THING% is not known: it prints "-"']);
  pass(all, spec);
  assert.deepEqual(all.lines.map(({ line }) => line), ["- -\n"]);
  assert.equal(all.warnings.length, 1);
});

test("access log: a refused CONNECT is a request of the listener", () => {
  const all = caught();
  const terminate: TerminateSpec = {
    peerNames: [],
    maxConcurrentStreams: 100,
    pingIntervalMs: 0,
    pingTimeoutMs: 0,
    accessLogs: [
      text(
        "%REQ(:METHOD)% %REQ(:AUTHORITY)% %RESPONSE_CODE% %RESPONSE_FLAGS% %DOWNSTREAM_PEER_URI_SAN%",
        status(">=", 400),
      ),
    ],
    refusal: undefined,
  };
  all.telemetry.connectRefused({
    authority: "b.demo:81",
    source: { ip: "10.0.1.5", port: 4000 },
    peerPrincipal: "spiffe://cluster.local/ns/a/sa/client",
    status: 503,
    reason: "no_such_port",
    flags: "NR",
    startedAtWallMs: 0,
  }, terminate);
  assert.deepEqual(all.lines.map(({ line }) => line), [
    "CONNECT b.demo:81 503 NR spiffe://cluster.local/ns/a/sa/client",
  ]);
});

test("access log: records for collectors go in batches, with the ids of their trace", () => {
  const all = caught();
  const cluster = "outbound|4317||otel" as ClusterName;
  const spec = simpleChain({
    accessLogs: [
      {
        filter: undefined,
        to: {
          kind: "otel",
          cluster,
          logName: "l",
          body: { body: parseFormat("%REQ(:METHOD)%") },
          attributes: { code: parseFormat("%RESPONSE_CODE%") },
          resource: { a: "b" },
        },
      },
      { filter: undefined, to: { kind: "grpc", cluster, logName: "g" } },
    ],
  });
  for (let i = 0; i < 3; i++) pass(all, spec);
  assert.equal(all.messages.length, 0);
  all.timing.advance(1001);
  assert.equal(all.messages.length, 2);
  const [otel, grpc] = all.messages;
  assert.ok(otel.kind === "logs" && otel.to.kind === "otel" && grpc.kind === "logs");
  assert.deepEqual(otel.to.resource, { a: "b" });
  assert.equal(otel.records.length, 3);
  const [record] = otel.records;
  assert.ok(record.kind === "otel");
  assert.deepEqual([record.body, record.attributes], ["POST", { code: 200 }]);
  const [entry] = grpc.records;
  assert.ok(entry.kind === "grpc");
  assert.equal(entry.request?.status, 200);
  assert.equal(entry.upstreamHost, "10.0.3.1:8080");
});

test("access log: what the main thread is not fast enough for is dropped and counted", () => {
  const all = caught();
  const spec = simpleChain({
    accessLogs: [{ filter: undefined, to: { kind: "grpc", cluster: "c" as ClusterName, logName: "g" } }],
  });
  const context = pass(all, spec);
  for (let i = 0; i < 9000; i++) all.telemetry.requestFinished(context);
  assert.equal(all.telemetry.report().next().value!.dropped["telemetry_records"], 9001 - 8192);
  all.timing.advance(1001);
  all.telemetry.requestFinished(context);
  assert.equal(all.telemetry.report().next().value!.dropped["telemetry_records"], 9001 - 8192);
});

test("log files: lines of one path share a writer, and a file that cannot be opened holds up nobody", () => {
  const dir = mkdtempSync(join(tmpdir(), "ambit-log-"));
  const failures: string[] = [];
  const flushes: (() => void)[] = [];
  const stdout: string[] = [];
  const files = new LogFiles({
    stdout: (line) => void stdout.push(line),
    scheduler: () => (flush) => void flushes.push(flush),
    failed: (path) => void failures.push(path),
  });
  try {
    const path = join(dir, "access.log");
    files.open(path)("one\n");
    files.open(path)("two\n");
    files.open("/dev/stdout")("three\n");
    files.open(join(dir, "none", "x"))("four\n");
    assert.equal(readFileSync(path, "utf8"), "");
    assert.equal(flushes.length, 1);
    for (const flush of flushes) flush();
    assert.equal(readFileSync(path, "utf8"), "one\ntwo\n");
    assert.deepEqual(stdout, ["three\n"]);
    assert.deepEqual(failures, [join(dir, "none", "x")]);
  } finally {
    files.close();
    rmSync(dir, { recursive: true });
  }
});

test("log files: a pipe that nobody reads loses lines, which are counted", async () => {
  const { spawnSync } = await import("node:child_process");
  const dir = mkdtempSync(join(tmpdir(), "ambit-log-"));
  const path = join(dir, "pipe");
  assert.equal(spawnSync("mkfifo", [path]).status, 0);
  const flushes: (() => void)[] = [];
  const files = new LogFiles({
    stdout() {},
    scheduler: () => (flush) => void flushes.push(flush),
    failed: assert.fail,
  });
  // Opened for both, so that there is a reader, who does not read.
  const reader = openSync(path, "r+");
  try {
    const sink = files.open(path);
    const line = "x".repeat(1023) + "\n";
    for (let i = 0; i < 4096; i++) {
      sink(line);
      for (const flush of flushes.splice(0)) flush();
    }
    assert.ok(files.dropped > 1000 && files.dropped < 3000, String(files.dropped));
  } finally {
    closeSync(reader);
    rmSync(dir, { recursive: true });
  }
});
