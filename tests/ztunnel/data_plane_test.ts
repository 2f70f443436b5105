import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { createPolicy, identityOf } from "../../src/mesh/mod.ts";
import { ECONNRESET } from "../../src/platform/errno.ts";
import { closeOwned, ownerNumber } from "../../src/platform/ownership.ts";
import { shutdownWrite } from "../../src/platform/socket.ts";
import type { Peer } from "../net/support.ts";
import { CLIENT, stateOf, TwoPlanes, WEB } from "./two_planes.ts";

let planes: TwoPlanes;

beforeEach(async () => {
  planes = await TwoPlanes.create();
});

afterEach(() => planes.close());

const text = (value: string) => new TextEncoder().encode(value);

/** A connection that has carried a byte each way. */
function established(): readonly [Peer, Peer] {
  const client = planes.connect();
  client.send(text("?"));
  const server = planes.accept();
  planes.until(() => server.read() > 0, "the first byte");
  server.send(text("!"));
  planes.until(() => client.read() > 0, "the answer");
  return [client, server];
}

function untilReset(peer: Peer): void {
  planes.until(() => {
    peer.read();
    return peer.failure !== 0;
  }, "the reset");
  assert.equal(peer.failure, ECONNRESET);
  assert.equal(peer.ended, false);
}

describe("data_plane: the way of a connection", () => {
  test("data_plane: from application to application through the tunnel, and into both logs", () => {
    const [client, server] = established();
    for (const peer of [client, server]) shutdownWrite(peer.fd);
    planes.until(() => planes.client.lines.length > 0 && planes.server.lines.length > 0, "both log lines");
    assert.match(planes.client.lines[0], /dst\.addr=127\.0\.0\.2:15008 dst\.hbone_addr=127\.0\.0\.2:8080/);
    assert.match(planes.client.lines[0], /dst\.service="shop\.default\.svc" .*bytes_sent=1 bytes_recv=1/);
    assert.match(planes.server.lines[0], new RegExp(`src\\.identity="${identityOf(CLIENT)}"`));
  });

  test("data_plane: a report shows open connections and carries their bytes", () => {
    established();
    planes.client.tell({ type: "report", id: 5, connections: true });
    planes.until(() => planes.client.said("report").length > 0, "the report");
    const [report] = planes.client.said("report");
    assert.equal(report.id, 5);
    const connections = planes.client.said("connections").flatMap((part) => part.connections);
    assert.equal(connections.length, 1);
    assert.equal(connections[0].protocol, "HBONE");
    assert.equal(connections[0].originalDst, "127.0.0.3:80");
    assert.ok(report.metrics.slots.length > 0);
  });

  test("data_plane: counts its connections where all workers see them", () => {
    const [client] = established();
    assert.equal(planes.client.load.total, 1);
    shutdownWrite(client.fd);
    planes.client.tell({ type: "pod_down", uid: "client" });
    planes.until(() => planes.client.load.total === 0, "the end");
  });
});

describe("data_plane: messages", () => {
  test("data_plane: an epoch is confirmed when all that came before it is in force", () => {
    const [client, server] = established();
    const deny = createPolicy({
      name: "deny-all",
      namespace: "default",
      scope: "Namespace",
      action: "Allow",
      rules: [],
    });
    planes.server.tell(
      { type: "pod_state", uid: "web", state: stateOf(WEB, [deny]) },
      { type: "epoch", epoch: 7 },
    );
    planes.server.plane.reactor.turn(100);
    assert.deepEqual(planes.server.said("confirmed"), [{ type: "confirmed", epoch: 7 }]);
    assert.equal(planes.server.load.total, 0, "what the policy forbids is closed by then");
    untilReset(server);
    untilReset(client);
    assert.match(planes.server.lines.join(""), /closed due to policy change/);
  });

  test("data_plane: a pod that is gone cuts its connections", () => {
    const [client, server] = established();
    planes.client.tell({ type: "pod_down", uid: "client" }, { type: "pod_down", uid: "no such pod" });
    untilReset(client);
    untilReset(server);
  });

  test("data_plane: an adopted connection is served; one for a pod that is gone is closed", () => {
    const [fd, peer] = planes.rawPair();
    planes.client.tell({ type: "adopt", uid: "gone", listener: "outbound", fd });
    planes.until(() => {
      peer.read();
      return peer.ended || peer.failure !== 0;
    }, "the end");
    assert.equal(planes.client.table[fd], 0);
    const [served] = planes.rawPair();
    planes.client.tell({ type: "adopt", uid: "client", listener: "outbound", fd: served });
    planes.until(() => planes.client.said("lookup").some(({ key }) => key.includes("127.0.0.9")), "its question");
  });

  test("data_plane: who has clearly more than its share passes connections on", () => {
    const { load } = planes.client;
    load.add(0, 20);
    load.add(1, 2);
    load.up(1);
    planes.connect();
    planes.until(() => planes.client.said("pass").length > 0, "the pass");
    const [pass] = planes.client.said("pass");
    assert.equal(pass.worker, 1);
    assert.equal(pass.uid, "client");
    assert.equal(pass.listener, "outbound");
    assert.equal(planes.client.table[pass.fd], ownerNumber(1), "until it is adopted it is closed with this worker");
    load.add(1, 7);
    established();
    assert.equal(planes.client.said("pass").length, 1);
    planes.client.tell({ type: "adopt", uid: "client", listener: "outbound", fd: pass.fd });
    planes.accept();
  });

  test("data_plane: after drain and finish it says drained, when the last connection has ended", () => {
    const [client, server] = established();
    planes.client.tell({ type: "drain" }, { type: "finish" });
    const until = performance.now() + 150;
    while (performance.now() < until) planes.turn();
    assert.deepEqual(planes.client.said("drained"), []);
    client.send(text("still served"));
    planes.until(() => server.read() > 0, "bytes of the open connection");
    for (const peer of [client, server]) shutdownWrite(peer.fd);
    planes.until(() => planes.client.said("drained").length > 0, "the end of the drain");
    assert.equal(planes.client.said("drained").length, 1);
    assert.equal(planes.client.said("report").at(-1)?.id, 0, "its last counts come first");
  });

  test("data_plane: what has not ended by the deadline is cut, says so, and is counted as failed", () => {
    const [client, server] = established();
    planes.client.tell({ type: "drain" }, { type: "finish" });
    planes.client.tell({ type: "cut", reason: "connection closed due to connection drain" });
    planes.until(() => planes.client.said("drained").length > 0, "the end of the drain");
    assert.match(
      planes.client.lines[0],
      /bytes_sent=1 bytes_recv=1 .*error="connection closed due to connection drain"/,
    );
    const counted = planes.client.said("report").flatMap(({ metrics }) => metrics.defined);
    const failed = counted.filter(({ family }) => family === "istio_tcp_connections_failed");
    assert.equal(failed.length, 1);
    assert.match(failed[0].labels, /response_flags="CONNECT"/);
    for (const peer of [client, server]) untilReset(peer);
  });

  test("data_plane: what is cut before anything is known of its destination leaves a line too", () => {
    planes.client.answers = false;
    const waiting = planes.connect();
    planes.until(() => planes.client.said("lookup").length > 0, "its question");
    planes.client.tell({ type: "cut", reason: "connection closed due to connection drain" });
    untilReset(waiting);
    assert.match(planes.client.lines[0], /connection failed.*error="connection closed due to connection drain"/);
  });

  test("data_plane: a worker that fails writes the lines of its connections", () => {
    established();
    planes.client.plane.lastWords();
    assert.match(planes.client.lines[0], /error="connection lost: the part of this proxy that served it failed"/);
  });

  test("data_plane: takes no connection after a drain", () => {
    planes.client.tell({ type: "drain" });
    planes.turn();
    const late = planes.connect();
    late.send(text("x"));
    const until = performance.now() + 100;
    while (performance.now() < until) planes.turn();
    assert.deepEqual(planes.client.said("lookup"), []);
  });
});

describe("data_plane: certificates", () => {
  test("data_plane: a renewed certificate leaves open connections alone", async () => {
    const [client, server] = established();
    planes.client.tell({ type: "certificate", identity: identityOf(CLIENT), tls: await planes.issue(CLIENT) });
    planes.server.tell({ type: "certificate", identity: identityOf(WEB), tls: await planes.issue(WEB) });
    planes.turn();
    client.send(text("go on"));
    planes.until(() => server.read() > 0, "bytes after the renewal");
    established();
  });

  test("data_plane: a certificate renewed while connections are on their way fails none of them", async () => {
    await planes.close();
    planes = await TwoPlanes.create({ poolMaxStreamsPerConnection: 1 });
    const clients = Array.from({ length: 6 }, () => planes.connect());
    for (const client of clients) client.send(text("hello"));
    for (const _ of clients) {
      const server = planes.accept();
      // Each dial of the pool meets another context than the one that was there when its stream was asked for.
      planes.client.tell({ type: "certificate", identity: identityOf(CLIENT), tls: await planes.issue(CLIENT) });
      planes.until(() => server.read() > 0, "the greeting");
    }
    assert.deepEqual(planes.client.lines, []);
  });

  test("data_plane: another identity's certificate is not taken", async () => {
    planes.client.tell({ type: "certificate", identity: "spiffe://x/ns/y/sa/z", tls: await planes.issue(WEB) });
    established();
  });
});

describe("data_plane: death", () => {
  test("data_plane: what it holds is all noted, so that its death leaves no connection hanging", () => {
    const [open] = established();
    planes.client.answers = false;
    planes.client.tell({ type: "invalidate", keys: planes.client.said("lookup").map(({ key }) => key) });
    const asked = planes.client.said("lookup").length;
    const waiting = planes.connect();
    planes.until(() => planes.client.said("lookup").length > asked, "its question");
    // The application's two, the tunnel's, the epoll set and the wake-up.
    assert.equal(closeOwned(planes.client.table, ownerNumber(1)), 5);
    for (const peer of [open, waiting]) {
      for (let i = 0; i < 100 && peer.failure === 0; i++) {
        peer.read();
        planes.server.plane.reactor.turn(1);
      }
      assert.equal(peer.failure, ECONNRESET);
    }
    planes.forgetClient();
  });
});
