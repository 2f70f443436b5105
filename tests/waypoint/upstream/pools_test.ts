import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ClusterName, OutlierSpec } from "../../../src/waypoint/spec/mod.ts";
import type { Host } from "../../../src/waypoint/upstream/host.ts";
import { clusterSpec, endpoint, endpoints, hbone, PICK, TestStream, TestUpstream, UNLIMITED } from "./support.ts";

const ONE = [endpoint("10.0.0.1:80")];

describe("http pool", () => {
  test("http pool: HTTP/1.1 connections are reused, one request at a time", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster({}, ONE);
    for (let i = 0; i < 3; i++) {
      const request = upstream.request(cluster);
      upstream.run();
      assert.equal(request.answer.status, 200);
    }
    assert.equal(upstream.dialer.dials.length, 1);
    upstream.answers = false;
    const both = [upstream.request(cluster), upstream.request(cluster)];
    upstream.run();
    assert.equal(upstream.dialer.dials.length, 2);
    assert.equal(cluster.counters.upstream_rq_active, 2);
    for (const exchange of upstream.arrived.slice(-2)) exchange.respond({ status: 200, headers: [] }, true);
    upstream.run();
    assert.deepEqual(both.map(({ answer }) => answer.status), [200, 200]);
    assert.equal(cluster.counters.upstream_rq_active, 0);
    assert.equal(cluster.counters.upstream_cx_active, 2);
    assert.deepEqual([cluster.counters.upstream_rq_total, cluster.counters.upstream_cx_total], [5, 2]);
  });

  test("http pool: HTTP/2 requests share a connection up to what its peer takes", () => {
    const upstream = new TestUpstream();
    upstream.answers = false;
    const cluster = upstream.cluster(
      { protocol: { kind: "http2", http2KeepaliveMs: 0, preserveHeaderCase: false } },
      ONE,
    );
    upstream.serve("2");
    const first = upstream.request(cluster);
    upstream.run();
    const rest = Array.from({ length: 4 }, () => upstream.request(cluster));
    upstream.run();
    // The endpoint takes four streams on each connection.
    assert.equal(upstream.dialer.dials.length, 2);
    assert.equal(upstream.arrived.length, 5);
    for (const exchange of upstream.arrived) exchange.respond({ status: 204, headers: [] }, true);
    upstream.run();
    assert.deepEqual([first, ...rest].map(({ answer }) => answer.status), [204, 204, 204, 204, 204]);
    assert.equal(cluster.counters.upstream_rq_active, 0);
  });

  test("http pool: a cluster that speaks as downstream has connections of both kinds", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster({
      protocol: { kind: "as downstream", http2KeepaliveMs: 0, preserveHeaderCase: false },
    }, ONE);
    upstream.serve("2");
    const two = upstream.request(cluster, {}, "2");
    upstream.run();
    upstream.serve("1.1");
    const one = upstream.request(cluster, {}, "1.1");
    upstream.run();
    assert.deepEqual([two.answer.head_?.version, one.answer.head_?.version], ["2", "1.1"]);
    assert.deepEqual(upstream.dialer.dials.map(({ request }) => request.protocol), ["h2", "http/1.1"]);
  });

  test("http pool: those who wait are served in order by the connection that becomes free", () => {
    const upstream = new TestUpstream();
    upstream.answers = false;
    upstream.serve();
    const cluster = upstream.cluster({ limits: { ...UNLIMITED, maxConnections: 1 } }, ONE);
    const requests = ["/1", "/2", "/3"].map((path) => upstream.request(cluster, {}, "1.1", path));
    upstream.run();
    assert.equal(upstream.dialer.dials.length, 1);
    assert.equal(cluster.counters.upstream_rq_pending_active, 2);
    for (let i = 0; i < 3; i++) {
      assert.equal(upstream.arrived[i].head.path, `/${i + 1}`);
      upstream.arrived[i].respond({ status: 200, headers: [] }, true);
      upstream.run();
    }
    assert.ok(requests.every(({ answer }) => answer.ended));
    assert.equal(cluster.counters.upstream_rq_pending_active, 0);
    assert.ok(cluster.counters.upstream_cx_overflow > 0);
  });

  test("http pool: bytes behind an answer are never the answer to who waits for the connection", () => {
    const upstream = new TestUpstream();
    upstream.answers = false;
    upstream.serve();
    const cluster = upstream.cluster({ limits: { ...UNLIMITED, maxConnections: 1 } }, ONE);
    const [first, second] = [upstream.request(cluster), upstream.request(cluster, {}, "1.1", "/second")];
    upstream.run();
    const both = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    const { far } = upstream.dialer.dials[0];
    far.write(new TextEncoder().encode(both), 0, both.length);
    upstream.run();
    assert.equal(first.answer.status, 200);
    assert.equal(second.answer.status, undefined);
    assert.equal(upstream.dialer.dials.length, 2);
    upstream.arrived.at(-1)?.respond({ status: 204, headers: [] }, true);
    upstream.run();
    assert.equal(second.answer.status, 204);
  });

  test("http pool: a host without any connection gets one, whatever the others hold", () => {
    const upstream = new TestUpstream();
    upstream.answers = false;
    upstream.serve();
    const cluster = upstream.cluster(
      { limits: { ...UNLIMITED, maxConnections: 1 } },
      [endpoint("10.0.0.1:80"), endpoint("10.0.0.2:80")],
    );
    const [one, two] = [...cluster.hosts.all()];
    const first = upstream.request(cluster, { tried: [two], avoidTried: true, hostAttempts: 50 });
    const second = upstream.request(cluster, { tried: [one], avoidTried: true, hostAttempts: 50 });
    upstream.run();
    assert.deepEqual([first.host, second.host], [one, two]);
    assert.equal(cluster.counters.upstream_cx_active, 2);
  });

  test("http pool: a failed connect answers everybody who waited, and the next request tries again", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster({
      protocol: { kind: "http2", http2KeepaliveMs: 0, preserveHeaderCase: false },
    }, ONE);
    const waiting = [upstream.request(cluster), upstream.request(cluster)];
    assert.equal(upstream.dialer.dials.length, 1);
    upstream.dialer.dials[0].fail();
    for (const { failure, failedHost } of waiting) {
      assert.equal(failure?.reason, "remote connection failure");
      assert.equal(failure?.flag, "UF");
      assert.equal(failure?.detail, "10.0.0.1:80: connection refused");
      assert.equal(failedHost?.shown, "10.0.0.1:80");
    }
    upstream.serve("2");
    const again = upstream.request(cluster);
    upstream.run();
    assert.equal(again.answer.status, 200);
    assert.equal(cluster.counters.upstream_cx_connect_fail, 1);
    assert.equal(cluster.counters.upstream_cx_active, 1);
  });

  test("http pool: a connect that takes too long is a timeout, and is given up", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster({ connectTimeoutMs: 250 }, ONE);
    const request = upstream.request(cluster);
    upstream.timing.advance(249);
    assert.equal(cluster.counters.upstream_cx_connect_timeout, 0);
    upstream.timing.advance(1);
    assert.deepEqual([request.failure?.flag, request.failure?.reason], ["UF", "connection timeout"]);
    assert.ok(upstream.dialer.dials[0].cancelled);
    assert.equal(cluster.counters.upstream_cx_connect_timeout, 1);
    assert.equal(cluster.counters.upstream_cx_active, 0);
  });

  test("http pool: a wait that is cancelled is not served; the connection is there for the next one", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster({}, ONE);
    const request = upstream.request(cluster);
    request.wait?.cancel();
    assert.equal(cluster.counters.upstream_rq_pending_active, 0);
    upstream.accept(upstream.dialer.dials[0]);
    upstream.run();
    assert.equal(request.host, undefined);
    const next = upstream.request(cluster);
    upstream.run();
    assert.equal(next.answer.status, 200);
    assert.equal(upstream.dialer.dials.length, 1);
  });

  test("http pool: a connection ends after its requests, after its time, and when nobody uses it", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster({ limits: { ...UNLIMITED, maxRequestsPerConnection: 2 } }, ONE);
    for (let i = 0; i < 4; i++) {
      upstream.request(cluster);
      upstream.run();
    }
    assert.equal(upstream.dialer.dials.length, 2);
    assert.equal(cluster.counters.upstream_cx_max_requests, 2);
    assert.equal(cluster.counters.upstream_cx_active, 0);

    upstream.cluster({ limits: { ...UNLIMITED, idleTimeoutMs: 1000, maxConnectionMs: 5000 } });
    upstream.answers = false;
    const slow = upstream.request(cluster);
    upstream.run();
    for (let i = 0; i < 6; i++) upstream.timing.advance(1000);
    assert.equal(cluster.counters.upstream_cx_max_duration_reached, 1);
    assert.equal(cluster.counters.upstream_cx_active, 1, "a request under way keeps its connection");
    upstream.arrived.at(-1)?.respond({ status: 200, headers: [] }, true);
    upstream.run();
    assert.equal(slow.answer.status, 200);
    assert.equal(cluster.counters.upstream_cx_active, 0);

    upstream.answers = true;
    upstream.request(cluster);
    upstream.run();
    upstream.timing.advance(600);
    upstream.request(cluster);
    upstream.run();
    upstream.timing.advance(600);
    assert.equal(cluster.counters.upstream_cx_active, 1, "used within its idle time");
    upstream.timing.advance(400);
    upstream.timing.advance(400);
    assert.equal(cluster.counters.upstream_cx_idle_timeout, 1);
    assert.equal(cluster.counters.upstream_cx_active, 0);
  });

  test("http pool: a connection that its endpoint closes leaves the counts right and is not used again", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster({}, ONE);
    upstream.request(cluster);
    upstream.run();
    upstream.dialer.dials[0].far.end();
    upstream.run();
    assert.equal(cluster.counters.upstream_cx_active, 0);
    upstream.answers = false;
    const cut = upstream.request(cluster);
    upstream.run();
    upstream.dialer.dials[1].far.reset();
    upstream.run();
    assert.equal(cut.answer.cut?.kind, "connection lost");
    assert.deepEqual([cluster.counters.upstream_rq_active, cluster.counters.upstream_cx_active], [0, 0]);
    assert.equal(cluster.counters.upstream_cx_destroy_with_active_rq, 1);
  });

  test("http pool: TLS to names of requests, and PROXY headers, are never shared by others", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const tls = {
      sni: "",
      autoSni: true,
      autoSan: true,
      sans: [],
      trust: "file-root:system",
      certificate: undefined,
      alpn: [],
      minVersion: "1.2",
      maxVersion: "1.3",
      insecureSkipVerify: false,
    } as const;
    const cluster = upstream.cluster({ transport: { kind: "tls", tls } }, ONE);
    for (const authority of ["a.example.com", "A.example.com:443", "b.example.com"]) {
      upstream.request(cluster, { authority });
      upstream.run();
    }
    assert.deepEqual(upstream.dialer.dials.map(({ request }) => request.serverName), [
      "a.example.com",
      "b.example.com",
    ]);
    upstream.cluster({ transport: { kind: "proxy protocol", version: 2, inner: { kind: "raw" } } });
    for (const port of [1, 2, 1]) {
      upstream.request(cluster, { connection: { ...PICK.connection, source: { ip: "10.0.1.5", port } } });
      upstream.run();
    }
    assert.deepEqual(upstream.dialer.dials.slice(2).map(({ request }) => request.ends?.source.port), [1, 2]);
  });
});

describe("limits", () => {
  test("limits: one request too many is refused as Envoy words it", () => {
    const upstream = new TestUpstream();
    upstream.answers = false;
    upstream.serve();
    const cluster = upstream.cluster({ limits: { ...UNLIMITED, maxRequests: 1 } }, ONE);
    upstream.request(cluster);
    const second = upstream.request(cluster);
    assert.deepEqual([second.failure?.flag, second.failure?.reason], ["UO", "overflow"]);
    upstream.run();
    upstream.arrived[0].respond({ status: 200, headers: [] }, true);
    upstream.run();
    assert.equal(upstream.request(cluster).failure, undefined);
  });

  test("limits: requests that wait are bounded", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster({ limits: { ...UNLIMITED, maxPending: 1, maxConnections: 1 } }, ONE);
    const first = upstream.request(cluster);
    const second = upstream.request(cluster);
    assert.equal(second.failure?.flag, "UO");
    assert.equal(cluster.counters.upstream_rq_pending_overflow, 1);
    first.wait?.cancel();
    assert.equal(upstream.request(cluster).failure, undefined);
  });

  test("limits: count in all workers, and a worker that starts begins at zero", () => {
    const boards = [new Int32Array(4), new Int32Array([7, 0, 1, 0])];
    const upstream = new TestUpstream({ boards: () => boards });
    const cluster = upstream.cluster({ limits: { ...UNLIMITED, maxRequests: 2 } }, ONE);
    upstream.answers = false;
    upstream.serve();
    upstream.request(cluster);
    upstream.run();
    assert.equal(boards[0][2], 1);
    assert.equal(upstream.request(cluster).failure?.flag, "UO");
    boards[1][2] = 0;
    assert.equal(upstream.request(cluster).failure, undefined);
    const other = new TestUpstream({ boards: () => [boards[1], boards[0]] });
    other.cluster({}, ONE);
    assert.deepEqual([...boards[1]], [0, 0, 0, 0]);
  });

  test("limits: retries by number or by budget", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster({ limits: { ...UNLIMITED, maxRetries: 1 } }, ONE);
    const done = cluster.takeRetry();
    assert.equal(cluster.takeRetry(), undefined);
    done?.();
    done?.();
    assert.notEqual(cluster.takeRetry(), undefined);
    assert.equal(cluster.takeRetry(), undefined);
    assert.equal(cluster.counters.upstream_rq_retry_overflow, 2);
    const budget = upstream.cluster({
      name: "b" as ClusterName,
      limits: { ...UNLIMITED, maxRetries: 0, retryBudget: { percent: 20, minConcurrency: 1 } },
    }, endpoints(ONE, "b"));
    upstream.answers = false;
    upstream.serve();
    for (let i = 0; i < 10; i++) upstream.request(budget);
    assert.ok(budget.takeRetry() !== undefined && budget.takeRetry() !== undefined);
    assert.equal(budget.takeRetry(), undefined, "two of ten are a fifth");
  });

  test("limits: byte streams count as connections until both halves are over", () => {
    const upstream = new TestUpstream();
    upstream.dialer.onDial = (dial) => dial.accept();
    const cluster = upstream.cluster({ limits: { ...UNLIMITED, maxConnections: 1 } }, ONE);
    const open = (): TestStream => {
      const stream = new TestStream();
      cluster.stream(PICK, stream);
      return stream;
    };
    const first = open();
    assert.equal(first.host?.shown, "10.0.0.1:80");
    const second = open();
    assert.deepEqual([second.failure?.flag, second.failure?.reason], ["UO", "overflow"]);
    first.stream?.reset();
    assert.equal(cluster.counters.upstream_cx_active, 0);
    assert.notEqual(open().stream, undefined);
    assert.equal([...cluster.hosts.all()][0].rqActive, 1);
  });

  test("limits: a byte stream that is given up or late is nobody's", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster({ connectTimeoutMs: 100 }, ONE);
    const gone = new TestStream();
    cluster.stream(PICK, gone).cancel();
    upstream.dialer.dials[0].accept();
    assert.equal(gone.stream, undefined);
    assert.ok(upstream.dialer.dials[0].near.closed, "a stream that comes all the same is cut");
    const late = new TestStream();
    cluster.stream(PICK, late);
    upstream.timing.advance(100);
    assert.equal(late.failure?.reason, "connection timeout");
    assert.equal(cluster.counters.upstream_cx_active, 0);
  });
});

describe("hosts", () => {
  test("hosts: connections survive an update that keeps their endpoint", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster({}, ONE);
    upstream.request(cluster);
    upstream.run();
    const [host] = [...cluster.hosts.all()];
    upstream.clusters.apply({ endpoints: [endpoints([endpoint("10.0.0.1:80", { weight: 3 })])] });
    upstream.clusters.apply({ clusters: [clusterSpec({ source: "changed" })] });
    upstream.request(cluster);
    upstream.run();
    assert.equal(upstream.dialer.dials.length, 1);
    assert.equal([...cluster.hosts.all()][0], host);
  });

  test("hosts: one that leaves finishes its requests and takes no other", () => {
    const upstream = new TestUpstream();
    upstream.answers = false;
    upstream.serve();
    const cluster = upstream.cluster({}, ONE);
    const request = upstream.request(cluster);
    upstream.run();
    upstream.clusters.apply({ endpoints: [endpoints([endpoint("10.0.0.2:80")])] });
    const next = upstream.request(cluster);
    upstream.run();
    assert.equal(next.host?.shown, "10.0.0.2:80");
    assert.equal(cluster.counters.upstream_cx_active, 2);
    upstream.arrived[0].respond({ status: 200, headers: [] }, true);
    upstream.run();
    assert.equal(request.answer.status, 200);
    assert.equal(cluster.counters.upstream_cx_active, 1);
  });

  test("hosts: who waits for a connection to a host that leaves still gets it", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster({}, ONE);
    const request = upstream.request(cluster);
    upstream.clusters.apply({ removedEndpoints: ["c"] });
    assert.equal(upstream.request(cluster).failure?.flag, "UH");
    upstream.accept(upstream.dialer.dials[0]);
    upstream.run();
    assert.equal(request.answer.status, 200);
    assert.equal(cluster.counters.upstream_cx_active, 0);
  });

  test("hosts: an endpoint that joins the mesh is reached by its tunnel from then on", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster({}, ONE);
    upstream.request(cluster);
    upstream.run();
    upstream.clusters.apply({ endpoints: [endpoints([hbone("10.0.0.1:80")])] });
    const request = upstream.request(cluster);
    upstream.run();
    assert.equal(upstream.dialer.dials[1].request.reach.kind, "hbone");
    assert.equal(request.host?.shown, "envoy://connect_originate/10.0.0.1:80");
    assert.equal(cluster.counters.upstream_cx_active, 1, "the plain connection was ended");
  });

  test("hosts: a transport of its own by the endpoint's tag", () => {
    const upstream = new TestUpstream();
    const plain = { kind: "proxy protocol", version: 1, inner: { kind: "raw" } } as const;
    const cluster = upstream.cluster({
      transport: plain,
      transportByTag: [{ tag: "tunnel", transport: { kind: "raw" } }],
    }, [hbone("10.0.0.1:80")]);
    upstream.request(cluster);
    assert.equal(upstream.dialer.dials[0].request.transport.kind, "raw");
    upstream.clusters.apply({ endpoints: [endpoints(ONE)] });
    upstream.request(cluster);
    assert.deepEqual(upstream.dialer.dials[1].request.transport, plain);
  });

  test("hosts: a changed transport makes new connections, old ones finish", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster({}, ONE);
    upstream.request(cluster);
    upstream.run();
    upstream.cluster({ transport: { kind: "proxy protocol", version: 1, inner: { kind: "raw" } } });
    assert.equal(cluster.counters.upstream_cx_active, 0);
    upstream.request(cluster);
    upstream.run();
    assert.equal(upstream.dialer.dials[1].request.transport.kind, "proxy protocol");
  });

  test("hosts: the same endpoint twice is one host", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster({}, [...ONE, ...ONE]);
    assert.equal(cluster.hosts.count(), 1);
    assert.equal(cluster.counters.membership_total, 1);
  });

  test("hosts: a removed cluster is not found, and its requests under way end well", () => {
    const upstream = new TestUpstream();
    upstream.answers = false;
    upstream.serve();
    const cluster = upstream.cluster({}, ONE);
    const request = upstream.request(cluster);
    upstream.run();
    upstream.clusters.apply({ removedClusters: [cluster.name] });
    assert.equal(upstream.clusters.get(cluster.name), undefined);
    upstream.arrived[0].respond({ status: 200, headers: [] }, true);
    upstream.run();
    assert.equal(request.answer.status, 200);
    assert.equal(cluster.counters.upstream_cx_active, 0);
  });

  test("hosts: closing cuts what is under way and answers who waits", () => {
    const upstream = new TestUpstream();
    upstream.answers = false;
    upstream.serve();
    const cluster = upstream.cluster({ limits: { ...UNLIMITED, maxConnections: 1 } }, ONE);
    const [running, waiting] = [upstream.request(cluster), upstream.request(cluster)];
    upstream.run();
    upstream.clusters.close("the waypoint ends");
    assert.equal(running.answer.cut?.kind, "connection lost");
    assert.equal(waiting.failure?.detail, "the waypoint ends");
    assert.equal(cluster.counters.upstream_cx_active, 0);
  });
});

describe("outliers", () => {
  const RULES: OutlierSpec = {
    consecutive5xx: 3,
    consecutiveGatewayFailure: undefined,
    consecutiveLocalOrigin: undefined,
    splitLocalOrigin: false,
    intervalMs: 10_000,
    baseEjectionMs: 30_000,
    maxEjectionMs: 300_000,
    maxEjectionPercent: 50,
  };
  const TWO = [endpoint("10.0.0.1:80"), endpoint("10.0.0.2:80")];
  const start = (rules: Partial<OutlierSpec> = {}, list = TWO) => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster({ outliers: { ...RULES, ...rules } }, list);
    const hosts: readonly Host[] = [...cluster.hosts.all()];
    const chosen = (): ReadonlySet<string> => {
      const seen = new Set<string>();
      for (let i = 0; i < 40; i++) {
        const request = upstream.request(cluster);
        upstream.dialer.dials.splice(0).forEach((dial) => dial.fail());
        seen.add(request.failedHost?.shown ?? request.failure?.flag ?? "");
      }
      return seen;
    };
    return { upstream, cluster, hosts, chosen };
  };

  test("outliers: a host that fails in a row gets nothing for its time, then everything again", () => {
    const { upstream, cluster, hosts, chosen } = start();
    for (const status of [500, 503, 200, 500, 500]) cluster.outcome(hosts[0], { status });
    assert.equal(hosts[0].isEjected, false, "an answer between them begins the row anew");
    cluster.outcome(hosts[0], { localFailure: "reset" });
    assert.deepEqual(chosen(), new Set(["10.0.0.2:80"]));
    assert.equal(cluster.counters["outlier_detection.ejections_active"], 1);
    assert.equal(cluster.counters.membership_healthy, 1);
    upstream.timing.advance(10_000);
    upstream.timing.advance(10_000);
    assert.equal(chosen().size, 1);
    upstream.timing.advance(10_000);
    assert.equal(chosen().size, 2);
    assert.equal(cluster.counters["outlier_detection.ejections_active"], 0);
  });

  test("outliers: each ejection in a row is longer, up to the longest; time without one makes it shorter", () => {
    const { upstream, cluster, hosts } = start({ maxEjectionMs: 60_000 });
    const eject = (): number => {
      for (let i = 0; i < 3; i++) cluster.outcome(hosts[0], { status: 500 });
      assert.ok(hosts[0].isEjected);
      let ms = 0;
      for (; hosts[0].isEjected; ms += 1000) upstream.timing.advance(1000);
      return ms;
    };
    assert.deepEqual([eject(), eject(), eject(), eject()], [30_000, 60_000, 60_000, 60_000]);
    for (let i = 0; i < 10; i++) upstream.timing.advance(10_000);
    assert.equal(eject(), 30_000);
  });

  test("outliers: never more than the part of hosts that is allowed", () => {
    const { cluster, hosts } = start();
    for (let i = 0; i < 3; i++) for (const host of hosts) cluster.outcome(host, { status: 500 });
    assert.deepEqual(hosts.map(({ isEjected }) => isEjected), [true, false]);
    assert.equal(cluster.counters["outlier_detection.ejections_overflow"], 1);
    // As Envoy: with ten per cent one of two is too many.
    const few = start({ maxEjectionPercent: 10 });
    for (let i = 0; i < 3; i++) few.cluster.outcome(few.hosts[0], { status: 500 });
    assert.equal(few.hosts[0].isEjected, false);
  });

  test("outliers: gateway failures are 502 to 504 alone", () => {
    const { cluster, hosts } = start({ consecutive5xx: undefined, consecutiveGatewayFailure: 2 });
    for (const status of [503, 500, 503, 501, 502]) cluster.outcome(hosts[0], { status });
    assert.equal(hosts[0].isEjected, false);
    cluster.outcome(hosts[0], { status: 504 });
    assert.equal(hosts[0].isEjected, true);
  });

  test("outliers: what fails on the way is counted apart where that is asked for", () => {
    const split = { splitLocalOrigin: true, consecutiveLocalOrigin: 2, consecutive5xx: 2 };
    const { cluster, hosts } = start(split);
    cluster.outcome(hosts[0], { localFailure: "connect" });
    cluster.outcome(hosts[0], { status: 500 });
    cluster.outcome(hosts[0], { localFailure: "timeout" });
    assert.equal(hosts[0].isEjected, false);
    cluster.outcome(hosts[0], { localFailure: "connect" });
    assert.equal(hosts[0].isEjected, true);
    const whole = start({ consecutive5xx: 2 });
    whole.cluster.outcome(whole.hosts[0], { localFailure: "connect" });
    whole.cluster.outcome(whole.hosts[0], { localFailure: "timeout" });
    assert.equal(whole.hosts[0].isEjected, true);
  });

  test("outliers: an ejected host that leaves makes room, and one that stays is still known", () => {
    const { upstream, cluster, hosts } = start();
    for (let i = 0; i < 3; i++) cluster.outcome(hosts[0], { status: 500 });
    upstream.clusters.apply({ endpoints: [endpoints([...TWO, endpoint("10.0.0.3:80")])] });
    assert.equal(hosts[0].isEjected, true);
    upstream.cluster({ outliers: { ...RULES, consecutive5xx: 7 } });
    assert.equal(hosts[0].isEjected, true);
    upstream.clusters.apply({ endpoints: [endpoints([TWO[1]])] });
    assert.equal(cluster.counters["outlier_detection.ejections_active"], 0);
  });
});
