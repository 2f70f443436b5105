/** Fuzz targets of the admin servers: Accept headers, and questions to explain. */
import assert from "node:assert/strict";
import { chooseCoding, namesMediaType, parseWeightedList } from "../../src/admin/negotiation.ts";

import { explainConnection } from "../../src/mesh/explain.ts";
import { findClient, findTarget } from "../../src/mesh/find_client.ts";
import { createPolicy, MeshStore } from "../../src/mesh/mod.ts";
import { formatExplanation } from "../../src/roles/explain_text.ts";
import { endpointOf, gateway, pod, service } from "../mesh/builders.ts";

const decoder = new TextDecoder();

function fuzzAccept(bytes: Uint8Array): void {
  const header = decoder.decode(bytes);
  const items = parseWeightedList(header);
  assert.ok(items.length <= 64);
  for (const { value, quality } of items) {
    assert.ok(quality >= 0 && quality <= 1, String(quality));
    assert.ok(value !== "" && value === value.trim() && !/[,;]/.test(value), JSON.stringify(value));
  }
  const coding = chooseCoding(header);
  if (coding !== undefined) {
    // It was asked for, by name or by the wildcard, and not refused.
    assert.ok(items.some(({ value, quality }) => (value === coding || value === "*") && quality > 0));
    assert.notEqual(items.find(({ value }) => value === coding)?.quality, 0);
  }
  if (namesMediaType(header, "application/openmetrics-text")) assert.match(header, /application\/openmetrics-text/i);
}

const CLIENT = pod("client", ["10.0.0.1"]);
const STORE = MeshStore.fromResources({
  workloads: [CLIENT, pod("web", ["10.0.0.2", "2001:db8::2"], endpointOf("shop"))],
  services: [service("shop", ["10.1.0.1"]), service("far", ["10.1.0.2"], { waypoint: gateway("/10.0.0.9") })],
  policies: [createPolicy({ name: "p", namespace: "default", scope: "Global", action: "Allow", rules: [[]] })],
});

/** `from`, a line feed, `to`. */
function fuzzExplain(bytes: Uint8Array): void {
  const [from, to = ""] = decoder.decode(bytes).split("\n", 2);
  const client = findClient(STORE, STORE.resources().workloads, "", undefined, from);
  const workload = "problem" in client ? CLIENT : client.workload;
  const target = findTarget(STORE, workload, "", to);
  if ("problem" in target) {
    assert.ok(target.problem.length < 500);
    return;
  }
  const explanation = explainConnection(STORE, {
    client: workload,
    clientIp: "problem" in client ? "10.0.0.1" : client.ip,
    target,
    network: "",
    nodeName: undefined,
    ipv6Enabled: true,
    illegalPorts: [15_008],
  });
  assert.deepEqual(JSON.parse(JSON.stringify(explanation)).outcome, explanation.outcome);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(formatExplanation(explanation), /[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
}

export const targets = [
  { name: "accept header", corpusDir: "tests/corpus/accept", target: fuzzAccept, maxBytes: 1024 },
  { name: "explain question", corpusDir: "tests/corpus/explain", target: fuzzExplain, maxBytes: 512 },
];
