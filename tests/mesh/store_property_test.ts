import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import { keyOfService, type MeshChange, MeshStore } from "../../src/mesh/mod.ts";
import { hostnames, ips, namespaces, resources, service, workload } from "./random_mesh.ts";

const change: fc.Arbitrary<MeshChange> = fc.record({
  upsert: fc.record({
    workloads: fc.array(workload, { maxLength: 3 }),
    services: fc.array(service, { maxLength: 3 }),
    policies: fc.constant([]),
  }),
  remove: fc.record({
    workloads: fc.array(workload.map((found) => found.uid), { maxLength: 2 }),
    services: fc.array(service.map(keyOfService), { maxLength: 2 }),
  }),
});

/** Everything that lookups say about ips and hostnames. */
function answers(store: MeshStore): unknown {
  const found: unknown[] = [store.configDump()];
  for (const namespace of [undefined, "a", "b", "c"]) {
    for (const network of ["", "far"]) {
      for (const ip of ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.9.9.9", "2001:db8::1", "2001:db8::9"]) {
        found.push(store.lookupAddress(network, ip, namespace), store.findService(network, ip, namespace));
      }
    }
    for (const hostname of ["one", "two", "three"]) {
      found.push(store.serviceByHostname(hostname, namespace), store.workloadsByHostname(hostname));
    }
  }
  for (const serviceAccount of ["s1", "s2"]) {
    for (const name of ["w1", "w2"]) found.push(store.localWorkload({ namespace: "a", serviceAccount, name }));
  }
  return found;
}

test("store: after any changes it answers as one that is made afresh of what it holds, in any order", () => {
  fc.assert(
    fc.property(resources, fc.array(change, { maxLength: 6 }), (first, changes) => {
      const store = MeshStore.fromResources(first);
      for (const next of changes) {
        store.apply(next);
        // Asked in between, so that what is kept for later is made and must be dropped again.
        answers(store);
      }
      const { workloads, services, policies } = store.resources();
      const fresh = MeshStore.fromResources({
        workloads: [...workloads].reverse(),
        services: [...services].reverse(),
        policies,
      });
      assert.deepEqual(answers(store), answers(fresh));
    }),
    { numRuns: 300 },
  );
});

test("store: replacing all by a mesh gives that mesh, whatever was there before, and again changes nothing", () => {
  fc.assert(
    fc.property(resources, resources, (before, after) => {
      const store = MeshStore.fromResources(before);
      store.replaceAll(after);
      assert.deepEqual(answers(store), answers(MeshStore.fromResources(after)));
      assert.equal(store.replaceAll(structuredClone(after)).tokens.size, 0);
    }),
    { numRuns: 300 },
  );
});

test("store: a lookup whose answer changes has a token in the change", () => {
  fc.assert(
    fc.property(resources, change, ips, hostnames, namespaces, (whole, next, ip, hostname, namespace) => {
      const store = MeshStore.fromResources(whole);
      const exact = () => [store.findWorkload("", ip), store.findServiceByVip("", ip, namespace)];
      const range = () => store.findService("", ip, namespace);
      const named = () => [store.servicesByHostname(hostname), store.workloadsByHostname(hostname)];
      const before = { exact: exact(), range: range(), named: named() };
      const { tokens } = store.apply(next);
      if (!tokens.has(`a:/${ip}`)) {
        assert.deepEqual(exact(), before.exact);
        if (!tokens.has("cidr")) assert.deepEqual(range(), before.range);
      }
      if (!tokens.has(`h:${hostname}`)) assert.deepEqual(named(), before.named);
    }),
    { numRuns: 1000 },
  );
});
