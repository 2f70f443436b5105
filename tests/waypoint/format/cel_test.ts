import assert from "node:assert/strict";
import { test } from "node:test";
import { CelEngine } from "../../../src/waypoint/format/cel_engine.ts";
import { CLIENT, ENVIRONMENT, factsOf, finishedRequest } from "./support.ts";

function engine() {
  const invalid: string[] = [];
  let wanted = 0;
  const cel = new CelEngine({
    context: { node: { id: "waypoint~1", metadata: { NAMESPACE: "demo" } }, peers: ENVIRONMENT.peers },
    invalid: (expression) => void invalid.push(expression),
    wanted: () => void wanted++,
  });
  return { cel, invalid, wanted: () => wanted };
}

test("cel: nothing is loaded before there is an expression, and until then there is nothing to say", async () => {
  const { cel, wanted } = engine();
  assert.equal(wanted(), 0);
  const [value, passes] = [cel.value("response.code"), cel.test("response.code == 201")];
  assert.equal(wanted(), 1);
  const facts = factsOf(finishedRequest());
  assert.equal(value(facts), undefined);
  assert.equal(passes(facts), false);
  await cel.load();
  assert.equal(value(facts), 201);
  assert.equal(passes(facts), true);
});

for (
  const [expression, value] of [
    ["request.method + ' ' + request.url_path + ' ' + request.query", "POST /a b=c"],
    ["request.headers['user-agent']", "curl/8"],
    ["request.useragent.startsWith('curl')", true],
    ["has(request.referer)", false],
    ["request.host", "b.demo"],
    ["request.size", 5],
    ["request.duration > duration('10ms') && request.duration < duration('1s')", true],
    ["request.time < timestamp('2024-01-01T00:00:00Z')", true],
    ["response.code >= 400 || connection.mtls", true],
    ["response.headers['x-b']", "2"],
    ["response.code_details", "via_upstream"],
    ["response.flags", ""],
    ["source.address", "10.0.1.5:40000"],
    ["source.principal.matches('^spiffe://.*/sa/client$')", true],
    ["destination.port", 80],
    ["connection.uri_san_peer_certificate", "spiffe://cluster.local/ns/a/sa/client"],
    ["upstream.address", "10.0.3.1:8080"],
    ["upstream.port", 8080],
    ["node.metadata['NAMESPACE']", "demo"],
    ["metadata.filter_metadata['f']['a']", "x"],
    ["filter_state['io.istio.peer_principal']", "spiffe://cluster.local/ns/a/sa/client"],
    ["xds.cluster_name", "outbound|80||b.demo"],
    ["xds.route_name", "default"],
    ["downstream_peer.workload", "client"],
    ["upstream_peer.app + '/' + upstream_peer.version", "b-app/v2"],
    ["[request.method, 'x']", ["POST", "x"]],
    // What is not there is an error, which is nothing.
    ["request.headers['x-none']", undefined],
    ["upstream.nothing", undefined],
    ["response.code / 0", undefined],
  ] as const
) {
  test(`cel: ${expression} is ${JSON.stringify(value)}`, async () => {
    const { cel, invalid } = engine();
    const evaluate = cel.value(expression);
    await cel.load();
    const context = finishedRequest();
    context.metadata.set("f", { a: "x" });
    const found = evaluate(factsOf(context));
    if (value === false && found === undefined) assert.fail("an error");
    assert.deepEqual(found, value);
    assert.deepEqual(invalid, []);
  });
}

test("cel: what is no expression is told once, and has no value", async () => {
  const { cel, invalid } = engine();
  await cel.load();
  const [first, second] = [cel.test("request.method =="), cel.text("request.method ==")];
  assert.deepEqual(invalid, ["request.method =="]);
  const facts = factsOf(finishedRequest());
  assert.equal(first(facts), false);
  assert.equal(second(facts), undefined);
});

test("cel: an unknown peer is an error, not an empty one", async () => {
  const { cel } = engine();
  const evaluate = cel.test("downstream_peer.workload != 'client'");
  await cel.load();
  const context = finishedRequest();
  assert.equal(evaluate(factsOf(context)), false);
  const other = { ...context.connection, downstreamPeer: { ...CLIENT, workloadName: "other" } };
  assert.equal(evaluate(factsOf(context, { connection: other })), true);
  assert.equal(evaluate(factsOf(context, { connection: { ...other, downstreamPeer: undefined } })), false);
});
