import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { peerLabels, peerNames, serviceLabels } from "../../src/mesh/mod.ts";
import { createAccessLog } from "../../src/telemetry/access_log.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { renderOpenMetrics } from "../../src/telemetry/openmetrics.ts";
import { Registry } from "../../src/telemetry/registry.ts";
import { createTrafficMetrics } from "../../src/telemetry/traffic_metrics.ts";
import { type ConnectionEnds, ConnectionRecord, type RecordKeeper } from "../../src/ztunnel/connection_record.ts";
import { pod, service } from "../mesh/builders.ts";

const CLIENT = pod("client", ["10.0.0.1"]);
const WEB = pod("web", ["10.0.0.2"]);

let lines: string[];
let nowMs: number;
let keeper: RecordKeeper;

function useLog(filter: string): void {
  const registry = new Registry({ nowMs: () => nowMs, retainMs: 0 });
  const log = createLog({ filter, format: "plain", sink: (line) => lines.push(line), nowMs: () => nowMs });
  keeper = {
    registry,
    traffic: createTrafficMetrics(registry),
    access: createAccessLog(log),
    log,
    records: new Set(),
    nowMs: () => nowMs,
  };
}

beforeEach(() => {
  lines = [];
  nowMs = 50_000;
  useLog("info");
});

function ends(direction: "inbound" | "outbound", change: Partial<ConnectionEnds> = {}): ConnectionEnds {
  return {
    direction,
    pod: "uid-1",
    peer: { ip: "10.0.0.1", port: 41_000 },
    source: { labels: peerLabels(CLIENT, true), names: peerNames(CLIENT, true) },
    destination: { labels: peerLabels(WEB, true), names: peerNames(WEB, true) },
    service: serviceLabels(service("shop", ["10.96.0.1"])),
    actual: { ip: "10.0.0.2", port: 15_008 },
    hboneAddress: "10.0.0.2:8080",
    original: "10.96.0.1:80",
    mutualTls: true,
    nested: false,
    ...change,
  };
}

/** The value of a metric's only series, by a part of its labels. */
function metric(name: string, labels = ""): number {
  const found = renderOpenMetrics(keeper.registry).split("\n").filter((line) =>
    line.startsWith(`${name}{`) && line.includes(labels)
  );
  assert.ok(found.length <= 1, found.join("\n"));
  return found.length === 0 ? 0 : Number(found[0].slice(found[0].lastIndexOf(" ")));
}

/** A connection that carried 100 bytes to the server and 2,000 back, and took 1.5 s. */
function run(direction: "inbound" | "outbound", error?: string, change: Partial<ConnectionEnds> = {}): void {
  const record = new ConnectionRecord(keeper, ends(direction, change), nowMs);
  record.follow({ fromClient: () => 100, fromServer: () => 2_000 });
  nowMs += 1_500;
  record.end(error === undefined ? "-" : "CONNECT", error);
}

describe("connection_record: the access log", () => {
  test("connection_record: counts bytes as the local workload sees them, in either direction", () => {
    run("outbound");
    run("inbound");
    assert.equal(lines.length, 2);
    assert.match(lines[0], /direction="outbound" bytes_sent=100 bytes_recv=2000 duration="1500ms"/);
    assert.match(lines[1], /direction="inbound" bytes_sent=2000 bytes_recv=100 duration="1500ms"/);
  });

  test("connection_record: writes one line with everything that is known of both ends", () => {
    run("outbound");
    const [line] = lines;
    for (
      const part of [
        "connection complete",
        "src.addr=10.0.0.1:41000",
        'src.workload="client"',
        'src.namespace="default"',
        'src.identity="spiffe://cluster.local/ns/default/sa/client"',
        "dst.addr=10.0.0.2:15008",
        "dst.hbone_addr=10.0.0.2:8080",
        'dst.service="shop.default.svc"',
        'dst.workload="web"',
        'dst.identity="spiffe://cluster.local/ns/default/sa/web"',
      ]
    ) assert.ok(line.includes(part), `${part} is not in ${line}`);
    assert.doesNotMatch(line, /error=/);
  });

  test("connection_record: a failure is an error line with its reason", () => {
    run("outbound", "cannot reach 10.0.0.2:15008");
    assert.match(lines[0], /\terror\t/);
    assert.match(lines[0], /error="cannot reach 10\.0\.0\.2:15008"/);
  });

  test("connection_record: is opened at debug only, and written at no level that is off", () => {
    useLog("debug");
    run("outbound");
    assert.deepEqual(lines.map((line) => /connection (opened|complete)/.exec(line)?.[1]), ["opened", "complete"]);
    lines.length = 0;
    useLog("info,access=error");
    run("outbound");
    assert.deepEqual(lines, []);
    run("outbound", "broken");
    assert.equal(lines.length, 1);
    useLog("off");
    run("outbound", "broken");
    assert.equal(lines.length, 1);
  });

  test("connection_record: one that failed before a relay was there has no bytes", () => {
    const record = new ConnectionRecord(keeper, ends("outbound"), nowMs);
    record.end("CONNECT", "refused");
    assert.match(lines[0], /bytes_sent=0 bytes_recv=0/);
  });
});

describe("connection_record: metrics", () => {
  test("connection_record: received is client to server and sent the way back, whoever reports", () => {
    for (const [direction, reporter] of [["outbound", "source"], ["inbound", "destination"]] as const) {
      run(direction);
      assert.equal(metric("istio_tcp_received_bytes_total", `reporter="${reporter}"`), 100);
      assert.equal(metric("istio_tcp_sent_bytes_total", `reporter="${reporter}"`), 2_000);
      assert.equal(metric("istio_tcp_connections_opened_total", `reporter="${reporter}"`), 1);
      assert.equal(metric("istio_tcp_connections_closed_total", `reporter="${reporter}"`), 1);
    }
  });

  test("connection_record: a flush adds what came since the last one, and the end adds the rest", () => {
    let [up, down] = [10, 0];
    const record = new ConnectionRecord(keeper, ends("outbound"), nowMs);
    record.flush();
    assert.equal(metric("istio_tcp_received_bytes_total"), 0, "nothing to follow yet");
    record.follow({ fromClient: () => up, fromServer: () => down });
    record.flush();
    record.flush();
    assert.equal(metric("istio_tcp_received_bytes_total"), 10);
    [up, down] = [15, 7];
    record.flush();
    assert.equal(metric("istio_tcp_received_bytes_total"), 15);
    assert.equal(metric("istio_tcp_sent_bytes_total"), 7);
    [up, down] = [16, 8];
    record.end("-", undefined);
    assert.equal(metric("istio_tcp_received_bytes_total"), 16);
    assert.equal(metric("istio_tcp_sent_bytes_total"), 8);
  });

  test("connection_record: the end counts once, with its flags", () => {
    const record = new ConnectionRecord(keeper, ends("outbound"), nowMs);
    assert.equal(keeper.records.size, 1);
    record.end("DENY", "policy");
    record.end("-", undefined);
    assert.equal(keeper.records.size, 0);
    assert.equal(lines.length, 1);
    assert.equal(metric("istio_tcp_connections_closed_total", 'response_flags="DENY"'), 1);
    assert.equal(metric("istio_tcp_connections_closed_total", 'response_flags="-"'), 0);
  });
});

describe("connection_record: the admin view", () => {
  test("connection_record: shows a tunnel and a plain connection", () => {
    const tunnel = new ConnectionRecord(keeper, ends("outbound"), nowMs);
    assert.deepEqual(tunnel.view(), {
      pod: "uid-1",
      direction: "outbound",
      src: "10.0.0.1:41000",
      originalDst: "10.96.0.1:80",
      actualDst: "10.0.0.2:15008",
      protocol: "HBONE",
    });
    const plain = new ConnectionRecord(
      keeper,
      ends("inbound", {
        hboneAddress: undefined,
        original: undefined,
        mutualTls: false,
        peer: { ip: "2001:db8::1", port: 5 },
      }),
      nowMs,
    );
    const view = plain.view();
    assert.equal(view.protocol, "TCP");
    assert.equal(view.src, "[2001:db8::1]:5");
    assert.equal(view.originalDst, undefined);
    assert.deepEqual(keeper.records, new Set([tunnel, plain]));
  });
});

test("connection_record: a connection that failed is counted as such with its flags, one that ended well is not", () => {
  const failed = (labels: string) => metric("istio_tcp_connections_failed_total", labels);
  run("outbound");
  assert.equal(renderOpenMetrics(keeper.registry).includes("istio_tcp_connections_failed_total{"), false);
  new ConnectionRecord(keeper, ends("outbound"), nowMs).end("TLS_FAILURE", "tls error");
  new ConnectionRecord(keeper, ends("outbound"), nowMs).end("CONNECT", "broke off");
  assert.equal(failed('response_flags="TLS_FAILURE"'), 1);
  assert.equal(failed('response_flags="CONNECT"'), 1);
});
