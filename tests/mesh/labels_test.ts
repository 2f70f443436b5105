import assert from "node:assert/strict";
import { test } from "node:test";
import {
  parseBaggage,
  peerLabels,
  peerLabelsOfBaggage,
  peerNames,
  peerNamesOfBaggage,
  serviceLabels,
} from "../../src/mesh/mod.ts";
import { pod, service } from "./builders.ts";

const web = pod("web-1", [], {
  workloadName: "web",
  canonicalName: "shop",
  canonicalRevision: "v1",
  locality: { region: "r", zone: "z", subzone: "" },
});

test("labels: a workload shows its identity only where it was proved", () => {
  assert.deepEqual(peerLabels(web, true), {
    workload: "web",
    canonicalService: "shop",
    canonicalRevision: "v1",
    namespace: "default",
    principal: "spiffe://cluster.local/ns/default/sa/web-1",
    app: "shop",
    version: "v1",
    cluster: "Kubernetes",
    region: "r",
    zone: "z",
    owner: "default/web",
  });
  assert.equal(peerLabels(web, false).principal, undefined);
  assert.equal(peerNames(web, false).identity, undefined);
  assert.equal(peerNames(web, true).identity, "spiffe://cluster.local/ns/default/sa/web-1");
});

test("labels: what a workload does not have is unknown, not empty", () => {
  const bare = pod("", [], { workloadName: "", canonicalName: "" });
  assert.equal(peerLabels(bare, false).workload, undefined);
  assert.equal(peerLabels(bare, false).canonicalService, undefined);
  assert.equal(peerLabels(bare, false).region, undefined);
  assert.equal(peerLabels(bare, false).owner, undefined);
});

test("labels: one object per workload, so that what is made from it can be kept", () => {
  assert.equal(peerLabels(web, true), peerLabels(web, true));
  assert.equal(peerNames(web, true), peerNames(web, true));
  const one = service("one", []);
  assert.equal(serviceLabels(one), serviceLabels(one));
  assert.deepEqual(serviceLabels(one), { hostname: "one.default.svc", namespace: "default", name: "one" });
});

test("labels: an access log names the pod, else its canonical service", () => {
  assert.equal(peerNames(web, false).workload, "web-1");
  assert.equal(peerNames(pod("", [], { canonicalName: "shop" }), false).workload, "shop");
});

test("labels: from baggage the app is the workload's name, and the principal is only what mTLS proved", () => {
  const baggage = parseBaggage("k8s.namespace.name=ns,k8s.deployment.name=web,service.name=shop,service.version=v2");
  const labels = peerLabelsOfBaggage(baggage, "spiffe://td/ns/ns/sa/x");
  assert.deepEqual([labels.app, labels.canonicalService, labels.version], ["web", "shop", "v2"]);
  assert.deepEqual([labels.principal, labels.owner, labels.cluster], ["spiffe://td/ns/ns/sa/x", "ns/web", undefined]);
  assert.deepEqual(peerNamesOfBaggage(baggage, undefined), {
    workload: "web",
    namespace: "ns",
    identity: undefined,
    cluster: undefined,
  });
});
