import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ClusterName, DiscoverySpec } from "../../../src/waypoint/spec/mod.ts";
import { hostOf } from "../../../src/waypoint/upstream/authority.ts";
import { isBelow } from "../../../src/waypoint/upstream/discovery/dynamic_forward.ts";
import { RemoteResolver } from "../../../src/waypoint/upstream/resolver.ts";
import { endpoint, endpoints, PICK, TestStream, TestUpstream } from "./support.ts";

type DnsSpec = Extract<DiscoverySpec, { readonly kind: "dns" }>;

function dns(spec: Partial<DnsSpec> = {}): { readonly discovery: DnsSpec } {
  return {
    discovery: {
      kind: "dns",
      strict: true,
      family: "v4",
      respectTtl: true,
      refreshMs: 60_000,
      jitterMs: 0,
      endpoints: endpoints([endpoint("db.example.com:5432")]),
      ...spec,
    },
  };
}

const shown = (hosts: Iterable<{ readonly shown: string }>): string[] => [...hosts].map(({ shown }) => shown);

describe("dns clusters", () => {
  test("dns: strict: every address is a host, and an address that leaves takes its host along", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster(dns());
    assert.deepEqual([upstream.resolver.questions[0].host, upstream.resolver.questions[0].family], [
      "db.example.com",
      "v4",
    ]);
    upstream.resolver.answer(["192.0.2.1", "192.0.2.2"]);
    assert.deepEqual(shown(cluster.hosts.all()), ["192.0.2.1:5432", "192.0.2.2:5432"]);
    const [, second] = [...cluster.hosts.all()];
    upstream.timing.advance(30_000);
    upstream.resolver.answer(["192.0.2.2", "192.0.2.3"]);
    assert.deepEqual(shown(cluster.hosts.all()), ["192.0.2.2:5432", "192.0.2.3:5432"]);
    assert.equal([...cluster.hosts.all()][0], second);
  });

  test("dns: the first requests wait for the first answer, whatever it is", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster(dns());
    const [request, given] = [upstream.request(cluster), upstream.request(cluster)];
    given.wait?.cancel();
    upstream.resolver.answer(["192.0.2.1"]);
    upstream.run();
    assert.deepEqual([request.answer.status, given.answer.status], [200, undefined]);
    const other = upstream.cluster({ ...dns(), name: "d" as ClusterName });
    const failed = upstream.request(other);
    upstream.resolver.answer("db.example.com: no such name");
    assert.equal(failed.failure?.flag, "UH");
    assert.equal(upstream.request(other).failure?.flag, "UH", "later ones do not wait");
    const removed = upstream.cluster({ ...dns(), name: "e" as ClusterName });
    const left = upstream.request(removed);
    upstream.clusters.apply({ removedClusters: [removed.name] });
    assert.equal(left.failure?.flag, "UH");
  });

  test("dns: a changed cluster keeps what it knows, and its connections, until there is an answer", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster(dns());
    upstream.resolver.answer(["192.0.2.1"]);
    upstream.request(cluster);
    upstream.run();
    upstream.cluster(dns({ refreshMs: 1_000 }));
    const request = upstream.request(cluster);
    upstream.run();
    assert.equal(request.answer.status, 200);
    assert.equal(upstream.dialer.dials.length, 1);
  });

  test("dns: a cluster that becomes one of another kind forgets its hosts", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster(dns());
    upstream.resolver.answer(["192.0.2.1"]);
    upstream.cluster({ discovery: { kind: "original destination", port: undefined, hbone: false } });
    assert.equal(cluster.hosts.count(), 0);
    upstream.serve();
    upstream.request(cluster);
    upstream.run();
    assert.equal(cluster.counters.upstream_cx_active, 1);
    upstream.cluster({ discovery: { kind: "static", endpoints: endpoints([endpoint("192.0.2.5:80")]) } });
    assert.deepEqual(shown(cluster.hosts.all()), ["192.0.2.5:80"]);
    assert.equal(cluster.counters.upstream_cx_active, 0, "where the clients wanted to go");
  });

  test("dns: asks again by the answer's life, by the rate where it does not count, and after a failure", () => {
    const upstream = new TestUpstream();
    const { questions } = upstream.resolver;
    const cluster = upstream.cluster(dns());
    upstream.resolver.answer(["192.0.2.1"], 5);
    upstream.timing.advance(4_999);
    assert.equal(questions.length, 0);
    upstream.timing.advance(1);
    assert.equal(questions.length, 1);
    upstream.resolver.answer("db.example.com: the name server does not answer");
    assert.deepEqual(shown(cluster.hosts.all()), ["192.0.2.1:5432"], "a failure takes nothing away");
    assert.equal(cluster.counters.update_failure, 1);
    upstream.timing.advance(59_999);
    assert.equal(questions.length, 0);
    upstream.timing.advance(1);
    upstream.resolver.answer(["192.0.2.1"], 0);
    upstream.timing.advance(999);
    assert.equal(questions.length, 0, "an answer without a life is not asked for all the time");
    upstream.timing.advance(1);
    assert.equal(questions.length, 1);

    const fixed = new TestUpstream();
    fixed.cluster(dns({ respectTtl: false, refreshMs: 7_000, jitterMs: 1_000 }));
    fixed.resolver.answer(["192.0.2.1"], 1);
    fixed.timing.advance(7_000);
    assert.equal(fixed.resolver.questions.length, 0);
    fixed.timing.advance(1_000);
    assert.equal(fixed.resolver.questions.length, 1);
  });

  test("dns: an empty answer leaves no host", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster(dns());
    upstream.resolver.answer(["192.0.2.1"], 5);
    upstream.timing.advance(5_000);
    upstream.resolver.answer([]);
    assert.equal(cluster.hosts.count(), 0);
  });

  test("dns: logical: connections stay while new ones go to the address of now", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster(dns({ strict: false }));
    upstream.resolver.answer(["192.0.2.1", "192.0.2.9"], 5);
    upstream.request(cluster);
    upstream.run();
    upstream.timing.advance(5_000);
    upstream.resolver.answer(["192.0.2.2"], 5);
    upstream.request(cluster);
    upstream.run();
    assert.equal(upstream.dialer.dials.length, 1);
    upstream.answers = false;
    upstream.request(cluster);
    upstream.request(cluster);
    upstream.run();
    assert.deepEqual(upstream.dialer.dials.map(({ host }) => host), ["192.0.2.1:5432", "192.0.2.2:5432"]);
  });

  test("dns: of all families the addresses are tried side by side", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster(dns({ strict: false, family: "all" }));
    upstream.resolver.answer(["2001:db8::1", "192.0.2.1"]);
    upstream.request(cluster);
    assert.deepEqual(upstream.dialer.dials[0].request.reach, {
      kind: "direct",
      host: "2001:db8::1",
      port: 5432,
      others: [{ host: "192.0.2.1", port: 5432 }],
    });
  });

  test("dns: an endpoint that is an address already is used at once", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster(dns({ endpoints: endpoints([endpoint("192.0.2.7:80"), endpoint("a.b:80")]) }));
    assert.deepEqual(shown(cluster.hosts.all()), ["192.0.2.7:80"]);
    assert.equal(upstream.resolver.questions.length, 1);
  });

  test("dns: a removed cluster asks no more", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster(dns());
    upstream.clusters.apply({ removedClusters: [cluster.name] });
    assert.ok(upstream.resolver.questions[0].cancelled);
  });
});

describe("original destination", () => {
  test("original destination: goes where the client wanted to go, by the tunnel or straight", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster({ discovery: { kind: "original destination", port: undefined, hbone: true } });
    upstream.request(cluster);
    upstream.run();
    assert.deepEqual(upstream.dialer.dials[0].request.reach, {
      kind: "hbone",
      target: "10.96.0.20:80",
      via: undefined,
    });
    const connection = { ...PICK.connection, destination: { ip: "2001:db8::1", port: 81 } };
    const stream = new TestStream();
    upstream.dialer.onDial = (dial) => dial.accept();
    cluster.stream({ ...PICK, connection }, stream);
    assert.equal(stream.host?.shown, "envoy://connect_originate/[2001:db8::1]:81");
    const direct = upstream.cluster({ discovery: { kind: "original destination", port: 8080, hbone: false } });
    upstream.request(direct);
    assert.equal(upstream.dialer.dials.at(-1)?.host, "10.96.0.20:8080");
  });

  test("original destination: a host that nobody uses is forgotten, one with connections is not", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster({ discovery: { kind: "original destination", port: undefined, hbone: false } });
    upstream.request(cluster);
    upstream.run();
    upstream.timing.advance(60_000);
    upstream.timing.advance(60_000);
    assert.equal(cluster.counters.membership_total, 1);
    upstream.dialer.dials[0].far.end();
    upstream.run();
    upstream.timing.advance(60_000);
    assert.equal(cluster.counters.membership_total, 0);
  });
});

describe("dynamic forward", () => {
  const spec = { discovery: { kind: "dynamic forward", wildcard: "*.example.com", family: "v4" } } as const;

  test("dynamic forward: resolves the request's host once and connects on the service's port", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster(spec);
    const both = [1, 2].map(() => upstream.request(cluster, { authority: "API.example.com:8443" }));
    assert.equal(upstream.resolver.questions.length, 1);
    assert.equal(upstream.resolver.questions[0].host, "api.example.com");
    upstream.resolver.answer(["192.0.2.1"]);
    upstream.run();
    assert.deepEqual(both.map(({ answer }) => answer.status), [200, 200]);
    // Port 80 of the service the client connected to: a client does not choose ports.
    assert.deepEqual(new Set(upstream.dialer.dials.map(({ host }) => host)), new Set(["192.0.2.1:80"]));
    upstream.request(cluster, { authority: "api.example.com" });
    upstream.run();
    assert.equal(upstream.resolver.questions.length, 0);
  });

  test("dynamic forward: names that are not below the wildcard go nowhere", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster(spec);
    for (
      const authority of ["example.com", "evil.com", "a.example.com.evil.com", "xexample.com", "10.0.0.1", "", "[::1]"]
    ) {
      const request = upstream.request(cluster, { authority });
      assert.equal(request.failure?.flag, "DF", authority);
    }
    assert.equal(upstream.resolver.questions.length, 0);
    assert.ok(isBelow("a.b.example.com", "*.example.com"));
    assert.ok(isBelow("one.example.com", "one.example.com") && !isBelow("two.example.com", "one.example.com"));
    assert.ok(!isBelow("1.2.3.4", "*") && isBelow("a.b", "*"));
  });

  test("dynamic forward: a failure is told, and remembered for a moment", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster(spec);
    const first = upstream.request(cluster, { authority: "a.example.com" });
    upstream.resolver.answer("a.example.com: no such name");
    assert.deepEqual([first.failure?.flag, first.failure?.detail], ["DF", "a.example.com: no such name"]);
    assert.equal(upstream.request(cluster, { authority: "a.example.com" }).failure?.flag, "DF");
    assert.equal(upstream.resolver.questions.length, 0);
    upstream.timing.advance(5_000);
    upstream.request(cluster, { authority: "a.example.com" });
    assert.equal(upstream.resolver.questions.length, 1);
  });

  test("dynamic forward: an old answer serves while it is asked for again", () => {
    const upstream = new TestUpstream();
    upstream.serve();
    const cluster = upstream.cluster(spec);
    upstream.request(cluster, { authority: "a.example.com" });
    upstream.resolver.answer(["192.0.2.1"], 10);
    upstream.run();
    upstream.timing.advance(10_000);
    const request = upstream.request(cluster, { authority: "a.example.com" });
    upstream.run();
    assert.equal(request.answer.status, 200);
    assert.equal(upstream.resolver.questions.length, 1);
  });

  test("dynamic forward: a request that is given up while its name is looked up is not sent", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster(spec);
    const request = upstream.request(cluster, { authority: "a.example.com" });
    request.wait?.cancel();
    upstream.resolver.answer(["192.0.2.1"]);
    assert.equal(upstream.dialer.dials.length, 0);
  });

  test("dynamic forward: requests that wait for a name are answered when their cluster goes", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster(spec);
    const request = upstream.request(cluster, { authority: "a.example.com" });
    upstream.clusters.apply({ removedClusters: [cluster.name] });
    assert.equal(request.failure?.flag, "DF");
  });

  test("dynamic forward: the names that clients bring are bounded", () => {
    const upstream = new TestUpstream();
    const cluster = upstream.cluster(spec);
    for (let i = 0; i < 1024; i++) upstream.request(cluster, { authority: `n${i}.example.com` });
    assert.equal(upstream.resolver.questions.length, 1024);
    assert.match(upstream.request(cluster, { authority: "more.example.com" }).failure?.detail ?? "", /too many/);
    upstream.resolver.answer(["192.0.2.1"]);
    upstream.request(cluster, { authority: "more.example.com" });
    assert.equal(upstream.resolver.questions.at(-1)?.host, "more.example.com");
  });
});

describe("remote resolver", () => {
  test("remote resolver: questions go out by number, answers come back to who asked and still waits", () => {
    const posted: number[] = [];
    const answers: unknown[] = [];
    const resolver = new RemoteResolver(({ id }) => void posted.push(id), (work) => work());
    resolver.resolve("a", "v4", (answer) => void answers.push(answer));
    resolver.resolve("b", "v4", (answer) => void answers.push(answer)).cancel();
    resolver.received(posted[1], { failure: "late" });
    resolver.received(posted[0], { addresses: [] });
    resolver.received(posted[0], { failure: "twice" });
    assert.deepEqual(answers, [{ addresses: [] }]);
    const failures: unknown[] = [];
    for (let i = 0; i < 1025; i++) resolver.resolve("c", "v4", (answer) => void failures.push(answer));
    assert.equal(failures.length, 1);
  });
});

test("authority: the host without its port, in lower case", () => {
  for (
    const [given, host] of [
      ["Example.com:80", "example.com"],
      ["example.com", "example.com"],
      ["[2001:db8::1]:80", "2001:db8::1"],
      ["[2001:db8::1]", "2001:db8::1"],
      ["2001:db8::1", "2001:db8::1"],
      ["", ""],
    ]
  ) assert.equal(hostOf(given), host);
});
