import assert from "node:assert/strict";
import { test } from "node:test";
import { formatSpiffeId, identityOf, parseSpiffeId } from "../../src/mesh/spiffe.ts";
import { pod } from "./builders.ts";

test("spiffe: reads and writes Istio's form", () => {
  const text = "spiffe://cluster.local/ns/default/sa/web";
  const parts = parseSpiffeId(text);
  assert.deepEqual(parts, { trustDomain: "cluster.local", namespace: "default", serviceAccount: "web" });
  assert.equal(formatSpiffeId(parts!), text);
});

for (
  const text of [
    "",
    "spiffe://",
    "SPIFFE://cluster.local/ns/a/sa/b",
    "spiffe://cluster.local/ns/a/sa",
    "spiffe://cluster.local/ns/a/sa/b/c",
    "spiffe://cluster.local/ns/a/sa/b/",
    "spiffe://cluster.local/sa/a/ns/b",
    "spiffe://cluster.local/NS/a/sa/b",
    "spiffe:///ns/a/sa/b",
    "spiffe://td/ns//sa/b",
    "spiffe://td/ns/a/sa/",
    "spiffe://td/ns/a/sa/b?x",
    "spiffe://td/ns/a/sa/b#x",
    "spiffe://td/ns/a%2Fb/sa/b",
    "spiffe://td/ns/a b/sa/b",
    "spiffe://td/ns/a\0/sa/b",
    `spiffe://td/ns/${"a".repeat(2048)}/sa/b`,
    "https://td/ns/a/sa/b",
  ]
) {
  test(`spiffe: refuses ${JSON.stringify(text.slice(0, 50))}`, () => assert.equal(parseSpiffeId(text), undefined));
}

test("spiffe: a workload's identity is of its trust domain, namespace and service account", () => {
  const workload = pod("a", [], { trustDomain: "td", namespace: "ns1", serviceAccount: "sa1" });
  assert.equal(identityOf(workload), "spiffe://td/ns/ns1/sa/sa1");
});
