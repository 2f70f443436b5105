/** A worker's questions about names: asked of the main thread once, and again as soon as the answer may be another. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { createService, type MeshStore, type NetworkAddress, type Service } from "../../../src/mesh/mod.ts";
import { MeshStore as Store } from "../../../src/mesh/mod.ts";
import { DNS_KEY, MeshCache } from "../../../src/ztunnel/mesh_cache.ts";
import { MeshService } from "../../../src/ztunnel/mesh_service.ts";
import type { MeshQuery } from "../../../src/ztunnel/messages.ts";
import { Loop } from "./support.ts";

const SCOPE = { namespace: "town", clusterDomain: "cluster.local", search: undefined, preferredNamespace: undefined };
const NOBODY = { meshAnswered() {} };

let store: MeshStore;
let service: MeshService;
let cache: MeshCache;
let asked: string[];
let forgotten: string[];

beforeEach(() => {
  store = Store.fromResources({ workloads: [], services: [], policies: [] });
  service = new MeshService(store);
  asked = [];
  forgotten = [];
  cache = new MeshCache({
    reactor: new Loop().reactor,
    ask: (key, query) => {
      asked.push(key);
      cache.answer(key, service.answer(0, key, query).resources);
    },
    forget: (keys) => void forgotten.push(...keys),
    maxEntries: 16,
  });
});

function external(hostname: string, fields: Partial<Service> = {}): Service {
  return createService({
    name: hostname,
    namespace: "town",
    hostname,
    vips: ["/10.96.0.1" as NetworkAddress],
    ...fields,
  });
}

function query(name: string, scope: Partial<typeof SCOPE> = {}): MeshQuery {
  return { kind: "dns", name, scope: { ...SCOPE, ...scope } };
}

/** Applies a change as the control plane does. */
function change(delta: Parameters<MeshStore["apply"]>[0]): void {
  for (const keys of service.changed(store.apply(delta)).values()) cache.invalidate(keys);
}

function services(name: string): number {
  return cache.lookup(query(name), NOBODY)!.size.services;
}

test("dns query: that nothing has a name is remembered until something has it", () => {
  assert.equal(services("new.example"), 0);
  assert.equal(services("new.example"), 0);
  assert.equal(asked.length, 1);
  assert.ok(asked[0].startsWith(DNS_KEY));
  change({ upsert: { services: [external("other.example")] } });
  assert.equal(services("new.example"), 0);
  assert.equal(asked.length, 1);
  change({ upsert: { services: [external("new.example")] } });
  assert.equal(services("new.example"), 1);
  change({ upsert: { services: [external("new.example", { vips: ["/10.96.0.2" as NetworkAddress] })] } });
  assert.equal(services("new.example"), 1);
  assert.equal(asked.length, 3);
});

test("dns query: a wildcard that appears concerns every name that was not found exactly", () => {
  services("a.example");
  services("b.example");
  change({ upsert: { services: [external("*.example")] } });
  assert.deepEqual([services("a.example"), services("b.example")], [1, 1]);
  change({ upsert: { services: [external("a.example")] } });
  assert.equal(cache.lookup(query("a.example"), NOBODY)!.servicesByHostname("a.example").length, 1);
});

test("dns query: names that the mesh does not know share one empty answer", () => {
  assert.equal(cache.lookup(query("x.example"), NOBODY), cache.lookup(query("y.example"), NOBODY));
});

test("dns query: the client's namespace and search domains are part of the question", () => {
  cache.lookup(query("shop"), NOBODY);
  cache.lookup(query("shop", { namespace: "city" }), NOBODY);
  assert.equal(new Set(asked).size, 2);
});

test("dns query: bounded; the main thread is told what was dropped", () => {
  for (let i = 0; i < 40; i++) services(`n${i}.example`);
  assert.ok(cache.size <= 16);
  assert.equal(service.size - forgotten.length, cache.size);
});
