import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatBaggage, parseBaggage } from "../../src/mesh/baggage.ts";
import { pod } from "./builders.ts";

test("baggage: says what is known of the workload, in ztunnel's order", () => {
  const workload = pod("web-1", [], {
    workloadName: "web",
    workloadType: "deployment",
    canonicalName: "shop",
    canonicalRevision: "v1",
    clusterId: "c1",
    locality: { region: "r", zone: "z", subzone: "" },
  });
  assert.equal(
    formatBaggage(workload),
    "k8s.cluster.name=c1,k8s.namespace.name=default,k8s.deployment.name=web,service.name=shop,service.version=v1," +
      "cloud.region=r,cloud.availability_zone=z",
  );
});

test("baggage: leaves out what is not known", () => {
  const workload = pod("web-1", [], { workloadName: "", canonicalName: "" });
  assert.equal(formatBaggage(workload), "k8s.cluster.name=Kubernetes,k8s.namespace.name=default");
});

test("baggage: encodes what would break the header and reads it back", () => {
  const workload = pod("x", [], { canonicalName: 'a,b;c=d e"%41\\ü' });
  const header = formatBaggage(workload);
  assert.match(header, /service\.name=a%2Cb%3Bc=d%20e%22%2541%5C%C3%BC$/);
  assert.equal(parseBaggage(header).serviceName, 'a,b;c=d e"%41\\ü');
});

test("baggage: reads every workload type, properties, spaces and repeated keys", () => {
  for (const type of ["deployment", "cronjob", "pod", "job"]) {
    const read = parseBaggage(`k8s.${type}.name=w`);
    assert.deepEqual([read.workloadType, read.workloadName], [type, "w"]);
  }
  const read = parseBaggage(" service.name = a ; ttl=1 , service.name=b,junk,=,k8s.replicaset.name=x,other=1");
  assert.equal(read.serviceName, "b");
  assert.equal(read.workloadName, undefined);
});

test("baggage: skips what must not become a label and keeps a lone percent sign", () => {
  assert.equal(parseBaggage("service.name=").serviceName, undefined);
  assert.equal(parseBaggage("service.name=a%0Ab").serviceName, undefined);
  assert.equal(parseBaggage(`service.name=${"a".repeat(257)}`).serviceName, undefined);
  assert.equal(parseBaggage("service.name=100%").serviceName, "100%");
  assert.equal(parseBaggage("service.name=%ff").serviceName, "%ff");
});

test("baggage: any workload comes back as it was", () => {
  const name = fc.string({ unit: "grapheme", maxLength: 40 }).map((text) =>
    // deno-lint-ignore no-control-regex
    text.replace(/[\x00-\x1f\x7f]/g, "").trim()
  );
  fc.assert(
    fc.property(name, name, name, fc.constantFrom("pod", "job"), (canonicalName, region, workloadName, type) => {
      const read = parseBaggage(formatBaggage(pod("x", [], {
        canonicalName,
        workloadName,
        workloadType: type,
        locality: { region, zone: "", subzone: "" },
      })));
      assert.equal(read.serviceName, canonicalName || undefined);
      assert.equal(read.workloadName, workloadName || undefined);
      assert.equal(read.region, region || undefined);
      assert.equal(read.zone, undefined);
    }),
  );
});
