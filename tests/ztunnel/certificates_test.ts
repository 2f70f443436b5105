/** Certificates under a running data plane: revoked ones, renewed ones, other roots. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { identityOf } from "../../src/mesh/mod.ts";
import type { TlsMaterial } from "../../src/platform/tls_context.ts";
import { createLog, Registry, renderOpenMetrics } from "../../src/telemetry/mod.ts";
import { createWorkerMetrics } from "../../src/telemetry/worker_metrics.ts";
import type { Peer } from "../net/support.ts";
import { TestAuthority } from "../platform/authority.ts";
import { CLIENT, type Node, TwoPlanes, WEB } from "./two_planes.ts";

let planes: TwoPlanes;
/** What each pod presents. */
let clientTls: TlsMaterial;
let webTls: TlsMaterial;

beforeEach(async () => {
  // A tunnel for each connection: the pool would go on with the one it has.
  planes = await TwoPlanes.create({ poolMaxStreamsPerConnection: 1 });
  clientTls = await planes.issue(CLIENT);
  webTls = await planes.issue(WEB);
  renew(planes.client, clientTls);
  renew(planes.server, webTls);
});

afterEach(() => planes.close());

function renew(node: Node, tls: TlsMaterial): void {
  node.tell({ type: "certificate", identity: identityOf(node === planes.client ? CLIENT : WEB), tls });
  planes.turn();
}

async function revoke(node: Node, ...materials: readonly TlsMaterial[]): Promise<void> {
  node.tell({ type: "revocations", lists: [await planes.authority.crl(materials.map(({ chain }) => chain[0]))] });
}

const text = (value: string) => new TextEncoder().encode(value);

/** A byte each way. */
function exchange(client: Peer, server: Peer): void {
  const [asked, answered] = [server.receivedBytes, client.receivedBytes];
  client.send(text("?"));
  planes.until(() => server.read() > 0 || server.receivedBytes > asked, "the question");
  server.send(text("!"));
  planes.until(() => client.read() > 0 || client.receivedBytes > answered, "the answer");
}

function established(): readonly [Peer, Peer] {
  const client = planes.connect();
  const server = planes.accept();
  exchange(client, server);
  return [client, server];
}

function untilReset(peer: Peer): void {
  planes.until(() => {
    peer.read();
    return peer.failure !== 0;
  }, "the reset");
  assert.equal(peer.ended, false);
}

/** The node's metrics, as a scrape shows them. */
function metrics(node: Node): string {
  const seen = node.said("report").length;
  node.tell({ type: "report", id: seen, connections: false });
  planes.until(() => node.said("report").length > seen, "the report");
  const registry = new Registry({ nowMs: () => 0, retainMs: 0 });
  createWorkerMetrics(
    registry,
    createLog({ filter: "off", format: "plain", sink: () => {}, nowMs: Date.now }),
    () => 0,
  );
  for (const report of node.said("report")) registry.merge(report.metrics);
  return renderOpenMetrics(registry);
}

function lineWith(node: Node, words: RegExp): string {
  planes.until(() => node.lines.some((line) => words.test(line)), `a line like ${words}`);
  return node.lines.find((line) => words.test(line))!;
}

const REFUSED = /the revocation lists refuse the peer's certificate chain \(CERT_REVOKED\): certificate revoked/;

describe("certificates: revoked", () => {
  test("certificates: inbound, a revoked client is refused and told why", async () => {
    await revoke(planes.server, clientTls);
    untilReset(planes.connect());
    lineWith(planes.server, REFUSED);
    assert.match(metrics(planes.server), /istio_crl_policy_rejections_total\{reporter="destination"\} 1\n/);
    const line = lineWith(planes.client, /did not accept our certificate/);
    assert.match(line, /tls error with 127\.0\.0\.2:15008: .*\(TLS alert 44: certificate revoked\)/);
    assert.match(metrics(planes.client), /istio_tcp_connections_closed_total\{.*response_flags="TLS_FAILURE"/);
  });

  test("certificates: outbound, a revoked server is refused", async () => {
    await revoke(planes.client, webTls);
    untilReset(planes.connect());
    lineWith(planes.client, REFUSED);
    const shown = metrics(planes.client);
    assert.match(shown, /istio_crl_policy_rejections_total\{reporter="source"\} 1\n/);
    assert.match(shown, /istio_tcp_connections_closed_total\{.*response_flags="CERT_REVOKED"/);
  });

  test("certificates: inbound, a live tunnel ends when its client is revoked, and only that one", async () => {
    const [client, server] = established();
    await revoke(planes.server, webTls);
    planes.turn();
    exchange(client, server);
    await revoke(planes.server, clientTls);
    untilReset(server);
    untilReset(client);
    lineWith(planes.server, new RegExp(`connection complete.*${REFUSED.source}`));
    lineWith(planes.server, /tunnel ended: .*src\.identity="spiffe:/);
    const shown = metrics(planes.server);
    assert.match(shown, /istio_crl_policy_rejections_total\{reporter="destination"\} 1\n/);
    assert.match(shown, /istio_tcp_connections_closed_total\{.*response_flags="CERT_REVOKED"/);
  });

  test("certificates: outbound, a live tunnel ends when its server is revoked", async () => {
    const [client, server] = established();
    await revoke(planes.client, webTls);
    untilReset(client);
    untilReset(server);
    lineWith(planes.client, new RegExp(`connection complete.*${REFUSED.source}`));
    const shown = metrics(planes.client);
    assert.match(shown, /istio_crl_policy_rejections_total\{reporter="source"\} 1\n/);
    assert.match(shown, /response_flags="CERT_REVOKED"/);
  });

  for (const side of ["client", "server"] as const) {
    test(`certificates: a list that comes in the middle of a handshake counts for it, at the ${side}`, async () => {
      const list = await planes.authority.crl([(side === "client" ? webTls : clientTls).chain[0]]);
      const other = side === "client" ? planes.server : planes.client;
      const own = planes[side];
      const client = planes.connect();
      // Up to the point where it waits for the other's answer.
      for (let i = 0; i < 5; i++) planes.client.plane.reactor.turn(1);
      if (side === "server") { for (let i = 0; i < 3; i++) planes.server.plane.reactor.turn(1); }
      own.tell({ type: "revocations", lists: [list] });
      own.plane.reactor.turn(1);
      other.plane.reactor.turn(1);
      untilReset(client);
      lineWith(own, REFUSED);
    });
  }

  test("certificates: lists that are emptied revoke nothing any more", async () => {
    await revoke(planes.server, clientTls);
    untilReset(planes.connect());
    planes.server.tell({ type: "revocations", lists: [] });
    established();
  });

  test("certificates: lists are in force for pods that come later, and for certificates that are renewed", async () => {
    await revoke(planes.server, clientTls);
    planes.turn();
    renew(planes.server, await planes.issue(WEB));
    untilReset(planes.connect());
    renew(planes.client, await planes.issue(CLIENT));
    established();
  });
});

describe("certificates: refused by the peer", () => {
  test("certificates: the alert of a server that does not trust us is in the log, not an HTTP/2 error", async () => {
    const foreign = await TestAuthority.create("foreign");
    renew(planes.client, await foreign.material({ uris: [identityOf(CLIENT)] }, [planes.authority.pem]));
    untilReset(planes.connect());
    const line = lineWith(planes.client, /error=/);
    assert.match(line, /the peer did not accept our certificate \(TLS alert \d+: (unknown ca|bad certificate)/);
    assert.doesNotMatch(line, /HTTP\/2 error/);
  });
});

describe("certificates: other roots", () => {
  test("certificates: roots are changed under traffic without a failed connection, and live ones stay", async () => {
    const next = await TestAuthority.create("root");
    const both = [planes.authority.pem, next.pem];
    const [live, peer] = established();
    const issue = (authority: TestAuthority, roots: readonly string[]) =>
      Promise.all([
        authority.material({ uris: [identityOf(CLIENT)] }, roots),
        authority.material({ uris: [identityOf(WEB)] }, roots),
      ]);
    // As istiod does it: trust both, then sign with the new one, then trust that alone. Pods are renewed one after the other.
    const phases = [await issue(planes.authority, both), await issue(next, both), await issue(next, [next.pem])];
    for (const [client, web] of phases) {
      for (const [node, tls] of [[planes.client, client], [planes.server, web]] as const) {
        renew(node, tls);
        const [a, b] = established();
        exchange(a, b);
        exchange(live, peer);
      }
    }
    assert.deepEqual([...planes.client.lines, ...planes.server.lines].filter((line) => /error=/.test(line)), []);
    // The old root is trusted no more.
    renew(planes.client, { ...await planes.issue(CLIENT), roots: both });
    untilReset(planes.connect());
  });
});
