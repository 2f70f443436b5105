import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import type { MeshResources, MeshStore, Workload, WorkloadUid } from "../../src/mesh/mod.ts";
import { MeshService } from "../../src/ztunnel/mesh_service.ts";
import type { MeshQuery } from "../../src/ztunnel/messages.ts";
import { endpointOf, mesh, pod, service } from "../mesh/builders.ts";

const WEB = pod("web", ["10.0.0.2"], endpointOf("shop"));
const OTHER = pod("other", ["10.0.0.3"]);
const SHOP = service("shop", ["10.96.0.1"]);

let store: MeshStore;
let subject: MeshService;

beforeEach(() => {
  store = mesh([WEB, OTHER], [SHOP]);
  subject = new MeshService(store);
});

function address(ip: string): MeshQuery {
  return { kind: "address", network: "", ip, namespace: "default" };
}

/** Replaces the mesh and tells whom that concerns. */
function replace(workloads: readonly Workload[], services: MeshResources["services"] = [SHOP]): Map<number, string[]> {
  return subject.changed(store.replaceAll({ workloads, services, policies: [] }));
}

describe("mesh_service", () => {
  test("mesh_service: answers with the part of the mesh that a question needs", () => {
    const vip = subject.answer(0, "vip", address("10.96.0.1")).resources;
    assert.deepEqual(vip.services.map(({ name }) => name), ["shop"]);
    assert.deepEqual(vip.workloads.map(({ name }) => name), ["web"]);
    const own = subject.answer(0, "own", { kind: "workload", uid: WEB.uid }).resources;
    assert.ok(own.workloads.some(({ name }) => name === "web"));
    const named =
      subject.answer(0, "named", { kind: "hostname", hostname: "shop.default.svc", uid: WEB.uid }).resources;
    assert.deepEqual(named.services.map(({ hostname }) => hostname), ["shop.default.svc"]);
    assert.deepEqual(subject.answer(0, "none", address("192.0.2.1")).resources, {
      workloads: [],
      services: [],
      policies: [],
    });
    assert.equal(subject.size, 4);
  });

  test("mesh_service: a change concerns those alone who asked for it, once", () => {
    subject.answer(0, "vip", address("10.96.0.1"));
    subject.answer(1, "vip", address("10.96.0.1"));
    subject.answer(0, "other", address("10.0.0.3"));
    const changed = { ...WEB, capacity: 7 };
    assert.deepEqual(replace([changed, OTHER]), new Map([[0, ["vip"]], [1, ["vip"]]]));
    assert.equal(subject.size, 1);
    assert.deepEqual(replace([WEB, OTHER]), new Map(), "a subscription ends with the change that it reports");
    subject.answer(1, "vip", address("10.96.0.1"));
    assert.deepEqual(replace([changed, OTHER]), new Map([[1, ["vip"]]]));
  });

  test("mesh_service: of a large service it answers with some endpoints, and tells of any change of any of them", () => {
    const many = Array.from(
      { length: 1000 },
      (_, i) => pod(`p${i}`, [`10.2.${i >> 8}.${i & 255}`], endpointOf("shop")),
    );
    store.apply({ upsert: { workloads: many } });
    subject = new MeshService(store, { nodeName: "node-a", random: Math.random });
    const { resources, sampled } = subject.answer(0, "vip", address("10.96.0.1"));
    assert.equal(sampled, true);
    assert.ok(resources.workloads.length < 300);
    const absent = many.find(({ uid }) => !resources.workloads.some((found) => found.uid === uid))!;
    const changes = store.apply({ upsert: { workloads: [{ ...absent, status: "Unhealthy" }] } });
    assert.deepEqual(subject.changed(changes), new Map([[0, ["vip"]]]));
    assert.equal(new MeshService(store).answer(0, "vip", address("10.96.0.1")).sampled, undefined);
  });

  test("mesh_service: what was not there when it was asked for is reported when it comes", () => {
    subject.answer(0, "address", address("10.0.0.77"));
    subject.answer(0, "workload", { kind: "workload", uid: pod("late", []).uid });
    subject.answer(0, "hostname", { kind: "hostname", hostname: "late.default.svc", uid: WEB.uid });
    const late = pod("late", ["10.0.0.77"]);
    const affected = replace([WEB, OTHER, late], [SHOP, service("late", ["10.96.0.9"])]);
    assert.deepEqual(affected.get(0)?.sort(), ["address", "hostname", "workload"]);
  });

  test("mesh_service: what goes is reported", () => {
    subject.answer(0, "vip", address("10.96.0.1"));
    subject.answer(0, "pod", address("10.0.0.2"));
    assert.deepEqual(replace([OTHER], []).get(0)?.sort(), ["pod", "vip"]);
  });

  test("mesh_service: the same question again replaces the first subscription", () => {
    subject.answer(0, "key", address("10.0.0.3"));
    subject.answer(0, "key", address("10.96.0.1"));
    assert.equal(subject.size, 1);
    assert.deepEqual(replace([WEB]), new Map(), "the old answer's reason does not count any more");
    assert.deepEqual(replace([{ ...WEB, capacity: 3 }]), new Map([[0, ["key"]]]));
  });

  test("mesh_service: forgotten answers and forgotten workers are told nothing", () => {
    subject.answer(0, "a", address("10.96.0.1"));
    subject.answer(0, "b", address("10.96.0.1"));
    subject.answer(1, "a", address("10.96.0.1"));
    subject.answer(2, "a", address("10.96.0.1"));
    subject.forget(0, ["a", "no such key"]);
    subject.forgetWorker(1);
    subject.forgetWorker(9);
    assert.equal(subject.size, 2);
    assert.deepEqual(replace([{ ...WEB, capacity: 3 }, OTHER]), new Map([[0, ["b"]], [2, ["a"]]]));
    assert.equal(subject.size, 0);
  });

  test("mesh_service: every change of a random life is reported to whom it concerns", () => {
    // What a subscriber holds must equal what it would be answered now, unless it was told.
    const uids: WorkloadUid[] = [WEB.uid, OTHER.uid];
    let seed = 1;
    const random = (n: number) => (seed = (seed * 1_103_515_245 + 12_345) & 0x7fff_ffff) % n;
    const held = new Map<string, { readonly query: MeshQuery; readonly text: string }>();
    for (let round = 0; round < 300; round++) {
      const queries: MeshQuery[] = [
        address(`10.0.0.${random(5)}`),
        address("10.96.0.1"),
        { kind: "workload", uid: uids[random(2)] },
        { kind: "hostname", hostname: "shop.default.svc", uid: uids[random(2)] },
      ];
      const query = queries[random(queries.length)];
      const key = JSON.stringify(query);
      held.set(key, { query, text: JSON.stringify(subject.answer(0, key, query)) });
      const workloads = [
        {
          ...WEB,
          workloadIps: [`10.0.0.${random(5)}`],
          capacity: random(3),
          services: random(3) === 0 ? {} : WEB.services,
        },
        ...(random(4) === 0 ? [] : [{ ...OTHER, capacity: random(2) }]),
      ];
      const told = replace(workloads, random(5) === 0 ? [] : [{ ...SHOP, vips: random(6) === 0 ? [] : SHOP.vips }]);
      for (const key of told.get(0) ?? []) held.delete(key);
      for (const { query, text } of held.values()) {
        const fresh = new MeshService(store).answer(0, "fresh", query);
        assert.equal(JSON.stringify(fresh), text, `round ${round}: ${JSON.stringify(query)} changed in silence`);
      }
    }
  });
});
