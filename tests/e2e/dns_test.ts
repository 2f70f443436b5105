/** The DNS of a pod: what applications ask is redirected to ztunnel, which knows the mesh and asks the pod's own name server for the rest. */
import assert from "node:assert/strict";
import process from "node:process";
import { after, before, test } from "node:test";
import { mergeNames } from "../../src/protocol/dns/encode.ts";
import { cnameRecord, RCODE, type ResourceRecord, TYPE } from "../../src/protocol/dns/mod.ts";
import { a, addresses, ask, NameServer, questionBytes } from "./support/dns_peer.ts";
import { TestMesh, type TestPod } from "./support/mesh.ts";
import { eventually } from "./support/wait.ts";
import { Stopwatch } from "../support/stopwatch.ts";

const FILE = `
nodes: [{ name: n }]
pods:
  - { name: client, namespace: town, node: n }
  - { name: other, namespace: city, node: n }
  - { name: web-0, namespace: town, node: n, labels: { app: web } }
  - { name: web-1, namespace: town, node: n, labels: { app: web } }
  - { name: resolver, namespace: wild, node: n, captured: false }
  - { name: secondary, namespace: wild, node: n, captured: false }
services:
  - { name: shop, namespace: town, ports: { 80: 8080 } }
  - { name: web, namespace: town, selector: { app: web }, vips: [], ports: { 80: 8080 } }
  - { name: far, namespace: town, hostname: "*.far.example", vips: [10.96.9.9], ports: { 80: 8080 } }
  - { name: secret, namespace: city, hostname: secret.example, visibility: Namespace, vips: [10.96.9.8], ports: { 80: 80 } }
`;

let mesh: TestMesh;
let client: TestPod;
let resolver: NameServer;
let secondary: NameServer;

const SOA: ResourceRecord = {
  name: "example",
  type: TYPE.SOA,
  class: 1,
  ttl: 900,
  data: mergeNames(new Uint8Array(0), ["ns.example", "admin.example"], Uint8Array.of(...numbers(7, 1, 1, 1, 600))),
};

function numbers(...values: readonly number[]): number[] {
  return values.flatMap((value) => [value >>> 24, value >>> 16 & 255, value >>> 8 & 255, value & 255]);
}

before(async () => {
  mesh = await TestMesh.start(FILE, { redirection: { dnsCapture: true }, env: { RUST_LOG: "info,dns=debug" } });
  client = mesh.pod("client");
  resolver = new NameServer(mesh.pod("resolver"), ({ question: { name, type }, protocol }) => {
    const lower = name.toLowerCase();
    if (lower === "silent.example") return undefined;
    if (lower === "broken.example") return { rcode: RCODE.ServFail };
    if (lower === "none.example") return { rcode: RCODE.NXDomain, authorities: [SOA] };
    if (lower === "large.example") {
      return { answers: Array.from({ length: 256 }, (_, i) => a(name, `240.0.0.${i}`)) };
    }
    if (lower === "shut.example" && protocol === "udp") return { truncated: true };
    if (lower === "alias.example") {
      return { answers: [cnameRecord(name, "www.example", 50), a("www.example", "192.0.2.7")] };
    }
    if (type === TYPE.A && lower.endsWith(".example")) return { answers: [a(name, "192.0.2.1", 30)] };
    if (type === TYPE.TXT) {
      return { answers: [{ name, type, class: 1, ttl: 5, data: new TextEncoder().encode("\x05hello") }] };
    }
    return { authorities: [SOA] };
  });
  secondary = new NameServer(mesh.pod("secondary"), ({ question: { name } }) => ({ answers: [a(name, "192.0.2.2")] }));
});
after(async () => {
  resolver?.close();
  secondary?.close();
  await mesh?.stop();
});

const server = (family: "ipv4" | "ipv6" = "ipv4") => mesh.pod("resolver").ip(family);

for (const protocol of ["udp", "tcp"] as const) {
  for (const family of ["ipv4", "ipv6"] as const) {
    test(`dns over ${protocol} and ${family}: a service of the mesh is answered with authority, and nobody is asked`, async () => {
      const before = resolver.asked.length;
      const answer = await ask(client, server(family), "shop.town.svc.cluster.local", { protocol });
      assert.equal(answer.rcode, RCODE.NoError);
      assert.ok(answer.authoritative && answer.recursionAvailable && answer.response);
      assert.deepEqual(addresses(answer), [mesh.vip("shop")]);
      assert.equal(answer.answers[0].ttl, 30);
      assert.equal(resolver.asked.length, before);
    });

    test(`dns over ${protocol} and ${family}: another name is asked of the server that the pod chose`, async () => {
      const name = `${protocol}-${family}.example`;
      const answer = await ask(client, server(family), name, { protocol });
      assert.equal(answer.rcode, RCODE.NoError);
      assert.ok(!answer.authoritative && answer.recursionAvailable);
      assert.deepEqual(addresses(answer), ["192.0.2.1"]);
      assert.equal(resolver.times(name), 1);
      const { from } = resolver.asked.at(-1)!;
      assert.equal(from.ip, client.ip(family), "asked from the pod's own network");
    });
  }
}

test("dns: the server that the pod asks counts, and no other", async () => {
  assert.deepEqual(addresses(await ask(client, server(), "chosen.example")), ["192.0.2.1"]);
  assert.deepEqual(addresses(await ask(client, mesh.pod("secondary").ip(), "chosen.example")), ["192.0.2.2"]);
  assert.equal(resolver.times("chosen.example"), 1);
});

test("dns: short names, search domains and the case of the question", async () => {
  const short = await ask(client, server(), "shop");
  assert.deepEqual(addresses(short), [mesh.vip("shop")]);
  const searched = await ask(client, server(), "ShOp.town.town.svc.cluster.local");
  assert.equal(searched.questions[0].name, "ShOp.town.town.svc.cluster.local");
  assert.deepEqual(searched.answers.map(({ name, type }) => [name, type]), [
    ["ShOp.town.town.svc.cluster.local", TYPE.CNAME],
    ["ShOp.town", TYPE.A],
  ]);
  assert.deepEqual(addresses(await ask(mesh.pod("other"), server(), "shop.town")), [mesh.vip("shop")]);
});

test("dns: a headless service is its pods, and each pod has a name in it", async () => {
  const pods = [mesh.pod("web-0").ip(), mesh.pod("web-1").ip()].sort();
  assert.deepEqual(addresses(await ask(client, server(), "web.town.svc.cluster.local")), pods);
  assert.deepEqual(addresses(await ask(client, server(), "web-1.web.town.svc.cluster.local")), [
    mesh.pod("web-1").ip(),
  ]);
});

test("dns: a wildcard service, and one that only its own namespace sees", async () => {
  assert.deepEqual(addresses(await ask(client, server(), "any.far.example")), ["10.96.9.9"]);
  assert.deepEqual(addresses(await ask(mesh.pod("other"), server(), "secret.example")), ["10.96.9.8"]);
  assert.deepEqual(addresses(await ask(client, server(), "secret.example")), ["192.0.2.1"], "forwarded");
});

test("dns: what does not exist comes with its SOA, and is remembered", async () => {
  const first = await ask(client, server(), "none.example");
  assert.equal(first.rcode, RCODE.NXDomain);
  assert.deepEqual(first.authorities, [SOA]);
  await ask(client, server(), "none.example");
  assert.equal(resolver.times("none.example"), 1);
  const noData = await ask(client, server(), "v4only.example", { type: TYPE.AAAA });
  assert.equal(noData.rcode, RCODE.NoError);
  assert.deepEqual([noData.answers, noData.authorities.length], [[], 1]);
});

test("dns: other types are forwarded as they are", async () => {
  const text = await ask(client, server(), "text.example", { type: TYPE.TXT });
  assert.equal(new TextDecoder().decode(text.answers[0].data), "\x05hello");
  const alias = await ask(client, server(), "alias.example");
  assert.deepEqual(alias.answers.map(({ type }) => type), [TYPE.CNAME, TYPE.A]);
});

test("dns: an answer that does not fit is cut by UDP and whole by TCP", async () => {
  const cut = await ask(client, server(), "large.example");
  assert.ok(cut.truncated);
  assert.ok(cut.answers.length > 0 && cut.answers.length < 256);
  const wide = await ask(client, server(), "large.example", { payloadBytes: 4096 });
  assert.ok(wide.truncated && wide.answers.length > 200);
  assert.equal(wide.edns?.payloadBytes, 4096);
  const whole = await ask(client, server(), "large.example", { protocol: "tcp" });
  assert.ok(!whole.truncated);
  assert.equal(whole.answers.length, 256);
  // The server's own UDP answer did not fit either.
  assert.ok(resolver.asked.some(({ question, protocol }) => question.name === "large.example" && protocol === "tcp"));
});

test("dns: a server that cuts every UDP answer is asked by TCP", async () => {
  assert.deepEqual(addresses(await ask(client, server(), "shut.example")), ["192.0.2.1"]);
});

test("dns: a server that fails, or where none listens: SERVFAIL at once", async () => {
  assert.equal((await ask(client, server(), "broken.example")).rcode, RCODE.ServFail);
  const nobody = await ask(client, mesh.pod("web-0").ip(), "unheard.example");
  assert.equal(nobody.rcode, RCODE.ServFail);
  await mesh.node("n").ztunnel.line((line) => line.includes("\tdns\t") && line.includes("forwarding failed"));
});

test("dns: a silent server is asked twice, then SERVFAIL", async () => {
  const watch = new Stopwatch();
  const answer = await ask(client, server(), "silent.example", { timeoutMs: 30_000 });
  const { ms, wallMs } = watch.stop();
  assert.equal(answer.rcode, RCODE.ServFail);
  assert.equal(resolver.times("silent.example"), 2);
  assert.ok(wallMs > 9_500 && ms < 13_000, `${ms} ms`);
});

test("dns: what is no question is answered so", async () => {
  const notImplemented = questionBytes("shop", TYPE.A);
  notImplemented[2] |= 5 << 3;
  assert.equal((await ask(client, server(), "", { raw: notImplemented })).rcode, RCODE.NotImp);
  const answerBytes = questionBytes("shop", TYPE.A);
  answerBytes[2] |= 0x80;
  assert.equal((await ask(client, server(), "", { raw: answerBytes })).rcode, RCODE.FormErr);
  const cutShort = questionBytes("shop", TYPE.A).slice(0, -3);
  assert.equal((await ask(client, server(), "", { raw: cutShort, protocol: "tcp" })).rcode, RCODE.FormErr);
});

test("dns: a service that appears is seen at once, and one that goes is gone", async () => {
  assert.deepEqual(addresses(await ask(client, server(), "new.example")), ["192.0.2.1"]);
  await mesh.apply(
    `${FILE}  - { name: new, namespace: town, hostname: new.example, vips: [10.96.9.7], ports: { 80: 80 } }\n`,
  );
  assert.deepEqual(addresses(await ask(client, server(), "new.example")), ["10.96.9.7"]);
  await mesh.apply(FILE);
  assert.deepEqual(addresses(await ask(client, server(), "new.example")), ["192.0.2.1"]);
});

test("dns: the runtime's own resolver in the pod", async () => {
  const script = `
    const { Resolver } = await import("node:dns/promises");
    const resolver = new Resolver();
    resolver.setServers([${JSON.stringify(server())}]);
    console.log(JSON.stringify([
      await resolver.resolve4("shop.town.svc.cluster.local"),
      await resolver.resolve4("runtime.example"),
      await resolver.resolve4("none.example").catch((error) => error.code),
    ]));`;
  const flags = process.versions.deno === undefined ? ["-e", script] : ["eval", "--no-check", script];
  const output = await mesh.run({ pod: "client", namespace: "town" }, [process.execPath, ...flags]);
  assert.deepEqual(JSON.parse(output), [[mesh.vip("shop")], ["192.0.2.1"], "ENOTFOUND"]);
});

test("dns: questions and their forwarding are counted, and logged for who wants to see", async () => {
  const labels = { request_query_type: "A", request_protocol: "udp", source_canonical_service: "client" };
  await eventually(async () => {
    const samples = await mesh.node("n").metrics();
    const value = (name: string) =>
      samples.find((sample) =>
        sample.name === name && Object.entries(labels).every(([label, text]) => sample.labels[label] === text)
      )?.value ?? 0;
    assert.ok(value("istio_dns_requests_total") >= 10);
    assert.ok(value("istio_dns_upstream_requests_total") >= 5);
    assert.ok(value("istio_dns_upstream_failures_total") >= 2);
    assert.ok(value("istio_dns_upstream_request_duration_seconds_count") >= 5);
  });
  const line = await mesh.node("n").ztunnel.line((text) => text.includes("\tdns\t") && text.includes('"success"'));
  assert.match(
    line,
    /src\.workload="client" src\.namespace="town" query="A" domain="shop\.town\.svc\.cluster\.local\." /,
  );
  assert.match(line, /result="success" endpoints=1$/);
});
