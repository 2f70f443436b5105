/** The parts of `bench:l7` that decide what its figures are worth: what Envoy is given, which answers count, what the table says. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { envoyBootstrap } from "../../scripts/bench_l7/envoy_bootstrap.ts";
import {
  concat,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  HEADERS,
  Http1Exchange,
  Http2Exchange,
  PREFACE,
  SETTINGS,
} from "../../scripts/bench_l7/exchange.ts";
import { makeTable } from "../../scripts/bench_l7/report.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const FACTS = { path: "/", host: "h", token: "", bodyBytes: 4 };

test("bench:l7: Envoy gets istiod's listeners and clusters with endpoints and secrets inline and nothing of Istio's own", () => {
  const typed = (name: string, type: string) => ({ name, typed_config: { "@type": `type.googleapis.com/${type}` } });
  const listener = {
    "@type": "listener",
    name: "main_internal",
    filters: [
      typed("istio.stats", "stats.PluginConfig"),
      typed("peer", "udpa.type.v1.TypedStruct"),
      typed("rbac", "x.RBAC"),
    ],
    state: { factory_key: "istio.hashable_string" },
    secret: { name: "default", sds_config: { ads: {} } },
  };
  const cluster = { "@type": "cluster", name: "c", type: "EDS", eds_cluster_config: { service_name: "s" } };
  const assignment = { "@type": "eds", cluster_name: "s", endpoints: [{ n: 1 }] };
  const dump = {
    configs: [
      { "@type": "x.ClustersConfigDump", dynamic_active_clusters: [{ cluster }] },
      { "@type": "x.EndpointsConfigDump", dynamic_endpoint_configs: [{ endpoint_config: assignment }] },
      { "@type": "x.ListenersConfigDump", dynamic_listeners: [{ active_state: { listener } }] },
    ],
  };
  const tls = { privateKey: "KEY", chain: ["LEAF", "CA"], roots: ["ROOT"] };
  const { static_resources } = envoyBootstrap(JSON.stringify(dump), tls, 15000);
  assert.deepEqual(static_resources, {
    listeners: [{
      name: "main_internal",
      filters: [typed("rbac", "x.RBAC")],
      state: { factory_key: "envoy.hashable_string" },
      secret: { name: "default" },
    }],
    clusters: [{ name: "c", type: "STATIC", load_assignment: { cluster_name: "s", endpoints: [{ n: 1 }] } }],
    secrets: [
      {
        name: "default",
        tls_certificate: { certificate_chain: { inline_string: "LEAF\nCA" }, private_key: { inline_string: "KEY" } },
      },
      { name: "ROOTCA", validation_context: { trusted_ca: { inline_string: "ROOT" } } },
    ],
  });
});

test("bench:l7: an HTTP/1.1 answer counts once however it is cut, and only with its status and length", () => {
  const answer = bytes("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody");
  for (let cut = 1; cut < answer.length; cut++) {
    const exchange = new Http1Exchange(FACTS);
    exchange.next();
    assert.equal(exchange.receive(answer.subarray(0, cut), cut), false);
    assert.equal(exchange.receive(answer.subarray(cut), answer.length - cut), true);
    assert.equal(exchange.answers, 1);
  }
  const refused = (text: string) => {
    const exchange = new Http1Exchange(FACTS);
    exchange.next();
    assert.throws(() => exchange.receive(bytes(text), text.length), /load: /);
  };
  refused("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nbody");
  refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody");
  refused("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodybody");
});

test("bench:l7: an HTTP/2 answer counts once however it is cut, and only with its status and length", () => {
  const answer = (status: number, body: string) =>
    concat([
      frame(SETTINGS, 0, 0, new Uint8Array(0)),
      frame(HEADERS, END_HEADERS, 1, Uint8Array.from([0x20, status])),
      frame(DATA, END_STREAM, 1, bytes(body)),
    ]);
  const good = answer(0x88, "body");
  for (let cut = 1; cut < good.length; cut++) {
    const exchange = new Http2Exchange(FACTS);
    assert.deepEqual(exchange.next().subarray(0, PREFACE.length), PREFACE);
    assert.equal(exchange.receive(good.subarray(0, cut), cut), false);
    assert.equal(exchange.receive(good.subarray(cut), good.length - cut), true);
    assert.equal(exchange.answers, 1);
    assert.equal(exchange.reply()?.[3], SETTINGS);
  }
  for (const wrong of [answer(0x8d, "body"), answer(0x88, "bod")]) {
    const exchange = new Http2Exchange(FACTS);
    exchange.next();
    assert.throws(() => exchange.receive(wrong, wrong.length), /load: /);
  }
});

test("bench:l7: the table marks what exceeds its limit, memory for the compiled binary alone", () => {
  const of = (cpu: number, rss: number) => ({ "plain.http1.cpu": [cpu, cpu], rssIdle: [rss] });
  const names = ["envoy", "ambit-deno", "ambit-compiled"];
  const well = makeTable({ envoy: of(10, 50), "ambit-deno": of(9, 90), "ambit-compiled": of(10, 50) }, names);
  assert.equal(well.holds, true);
  assert.doesNotMatch(well.text, /over/);
  const slow = makeTable({ envoy: of(10, 50), "ambit-deno": of(11, 90), "ambit-compiled": of(9, 50) }, names);
  assert.equal(slow.holds, false);
  assert.match(slow.text, /CPU per request, plain, HTTP\/1\.1 .*1\.10 \*\*over\*\*/);
  const large = makeTable({ envoy: of(10, 50), "ambit-deno": of(9, 90), "ambit-compiled": of(9, 60) }, names);
  assert.equal(large.holds, false);
  assert.match(large.text, /RSS, idle .*1\.80 .*1\.20 \*\*over\*\*/);
});
