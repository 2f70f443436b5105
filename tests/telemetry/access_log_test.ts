import assert from "node:assert/strict";
import { test } from "node:test";
import { createAccessLog } from "../../src/telemetry/access_log.ts";
import type { AccessConnection } from "../../src/telemetry/access_log.ts";
import { createLog } from "../../src/telemetry/log.ts";

const NOW = Date.UTC(2026, 4, 4, 9, 59, 5) + 28.75;
const TIME = "2026-05-04T09:59:05.028750Z";

const full: AccessConnection = {
  sourceAddress: "10.244.0.12:41098",
  source: {
    workload: "client-7d4",
    namespace: "shop",
    identity: "spiffe://cluster.local/ns/shop/sa/client",
    cluster: "Kubernetes",
  },
  destinationAddress: "10.244.0.13:15008",
  hboneAddress: "10.244.0.13:8080",
  service: "echo.shop.svc.cluster.local",
  destination: {
    workload: "echo-5f6",
    namespace: "shop",
    identity: "spiffe://cluster.local/ns/shop/sa/echo",
    cluster: "Kubernetes",
  },
  direction: "outbound",
};

const nobody = { workload: undefined, namespace: undefined, identity: undefined, cluster: undefined };
const bareOne: AccessConnection = {
  sourceAddress: "[2001:db8::1]:5",
  source: nobody,
  destinationAddress: "1.2.3.4:80",
  hboneAddress: undefined,
  service: undefined,
  destination: nobody,
  direction: "inbound",
};

function open(filter: string, format: "plain" | "json" = "plain") {
  const lines: string[] = [];
  const log = createLog({ filter, format, sink: (line) => lines.push(line), nowMs: () => NOW });
  return { access: createAccessLog(log), lines };
}

test("access log: a completed connection has ztunnel's fields in ztunnel's order", () => {
  const { access, lines } = open("info");
  access.complete(full, { bytesSent: 84, bytesReceived: 175, durationMs: 2.4, error: undefined });
  assert.equal(
    lines[0],
    `${TIME}\tinfo\taccess\tconnection complete\tsrc.addr=10.244.0.12:41098 src.workload="client-7d4" ` +
      'src.namespace="shop" src.identity="spiffe://cluster.local/ns/shop/sa/client" src.cluster="Kubernetes" ' +
      "dst.addr=10.244.0.13:15008 dst.hbone_addr=10.244.0.13:8080 " +
      'dst.service="echo.shop.svc.cluster.local" dst.workload="echo-5f6" dst.namespace="shop" ' +
      'dst.identity="spiffe://cluster.local/ns/shop/sa/echo" dst.cluster="Kubernetes" direction="outbound" ' +
      'bytes_sent=84 bytes_recv=175 duration="2ms"\n',
  );
});

test("access log: a failed connection is an error with its reason; what is absent is left out", () => {
  const { access, lines } = open("info");
  access.complete(bareOne, { bytesSent: 0, bytesReceived: 0, durationMs: 0, error: 'say "no"' });
  assert.equal(
    lines[0],
    `${TIME}\terror\taccess\tconnection complete\tsrc.addr=[2001:db8::1]:5 dst.addr=1.2.3.4:80 ` +
      'direction="inbound" bytes_sent=0 bytes_recv=0 duration="0ms" error="say \\"no\\""\n',
  );
});

test("access log: opened is debug and ends at the direction, failed is a warning", () => {
  const { access, lines } = open("access=debug");
  access.opened(bareOne);
  access.failed("1.1.1.1:1", "2.2.2.2:2", "inbound", "unknown source");
  assert.deepEqual(lines, [
    `${TIME}\tdebug\taccess\tconnection opened\tsrc.addr=[2001:db8::1]:5 dst.addr=1.2.3.4:80 direction="inbound"\n`,
    `${TIME}\twarn\taccess\tconnection failed\tsrc.addr=1.1.1.1:1 dst.addr=2.2.2.2:2 direction="inbound" ` +
    'error="unknown source"\n',
  ]);
});

test("access log: is silent where the filter says so", () => {
  const { access, lines } = open("info,access=off");
  access.opened(full);
  access.complete(full, { bytesSent: 0, bytesReceived: 0, durationMs: 0, error: "x" });
  access.failed("a", "b", "inbound", "c");
  assert.deepEqual(lines, []);
});

test("access log: JSON has the same fields in the same order", () => {
  const { access, lines } = open("debug", "json");
  access.complete(full, { bytesSent: 84, bytesReceived: 175, durationMs: 2, error: "e" });
  const parsed = JSON.parse(lines[0]);
  assert.deepEqual(Object.keys(parsed), [
    "level",
    "time",
    "scope",
    "message",
    "src.addr",
    "src.workload",
    "src.namespace",
    "src.identity",
    "src.cluster",
    "dst.addr",
    "dst.hbone_addr",
    "dst.service",
    "dst.workload",
    "dst.namespace",
    "dst.identity",
    "dst.cluster",
    "direction",
    "bytes_sent",
    "bytes_recv",
    "duration",
    "error",
  ]);
  assert.equal(parsed.level, "error");
  assert.equal(parsed.bytes_sent, 84);
  assert.equal(parsed.duration, "2ms");
  access.opened(bareOne);
  assert.deepEqual(JSON.parse(lines[1]), {
    level: "debug",
    time: TIME,
    scope: "access",
    message: "connection opened",
    "src.addr": "[2001:db8::1]:5",
    "dst.addr": "1.2.3.4:80",
    direction: "inbound",
  });
});

test("access log: a peer's authority cannot forge fields", () => {
  const { access, lines } = open("info");
  access.complete({ ...bareOne, hboneAddress: 'x" error="no\n' }, {
    bytesSent: 0,
    bytesReceived: 0,
    durationMs: 0,
    error: undefined,
  });
  assert.match(lines[0], / dst\.hbone_addr="x\\" error=\\"no\\n" direction=/);
});
