import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { identityOf, MeshStore, type PolicyKey, type Workload } from "../../src/mesh/mod.ts";
import { MeshService } from "../../src/ztunnel/mesh_service.ts";
import { concernsPod, MeshUpdates, type PodsConcerned, withStatic } from "../../src/ztunnel/mesh_updates.ts";
import type { ToWorker } from "../../src/ztunnel/messages.ts";
import { pod, policy, service } from "../mesh/builders.ts";

const NODE = "node-a";
const here = (name: string, fields: Partial<Workload> = {}) => pod(name, [], { node: NODE, ...fields });

let store: MeshStore;
let service_: MeshService;
let updates: MeshUpdates;
let sent: string[];
let concerned: PodsConcerned[];

beforeEach(() => {
  store = new MeshStore(NODE);
  service_ = new MeshService(store);
  sent = [];
  concerned = [];
  const tell = (message: ToWorker) => {
    if (message.type === "evict") sent.push(`evict ${message.owners.join(" ")}`);
    if (message.type === "invalidate") sent.push(`invalidate ${message.keys.join(" ")}`);
  };
  updates = new MeshUpdates({
    store,
    service: service_,
    nodeName: NODE,
    send: (_, message) => tell(message),
    broadcast: tell,
    podsConcerned: (change) => concerned.push(change),
    identityNeeded: (identity) => sent.push(`need ${identity}`),
    identityUnused: (identity) => sent.push(`unused ${identity}`),
  });
});

function put(...workloads: Workload[]): void {
  updates.apply({ upsert: { workloads } });
}

function remove(...workloads: Workload[]): void {
  updates.apply({ remove: { workloads: workloads.map(({ uid }) => uid) } });
}

describe("mesh_updates", () => {
  test("mesh_updates: tells nobody before the flush, and then everybody once", () => {
    service_.answer(0, "key", { kind: "address", network: "", ip: "10.0.0.1", namespace: undefined });
    put(pod("web", ["10.0.0.1"]));
    put(pod("web", ["10.0.0.1"], { capacity: 2 }));
    assert.deepEqual(sent, []);
    assert.equal(updates.flush(), true);
    assert.deepEqual(sent, ["invalidate key"]);
    assert.equal(updates.flush(), false, "nothing is left to tell");
    put(pod("web", ["10.0.0.1"], { capacity: 2 }));
    assert.equal(updates.flush(), false, "the same again changes nothing");
  });

  test("mesh_updates: asks for a certificate with an identity's first local workload, and gives it up with the last", () => {
    const identity = identityOf(here("a", { serviceAccount: "one" }));
    const a = here("a", { serviceAccount: "one" });
    const b = here("b", { serviceAccount: "one" });
    put(a, b);
    updates.flush();
    remove(a);
    updates.flush();
    assert.deepEqual(sent, [`need ${identity}`, "evict default/a"]);
    sent = [];
    // One goes and another comes at once: no gap.
    remove(b);
    put(a);
    updates.flush();
    assert.deepEqual(sent.filter((line) => !line.startsWith("evict")), []);
    remove(a);
    updates.flush();
    assert.deepEqual(sent.filter((line) => !line.startsWith("evict")), [`unused ${identity}`]);
  });

  test("mesh_updates: certificates are for local workloads that tunnel or speak HBONE themselves", () => {
    put(
      pod("else", [], { node: "node-b" }),
      here("plain", { protocol: "TCP" }),
      here("native", { protocol: "TCP", nativeTunnel: true }),
    );
    updates.flush();
    assert.deepEqual(sent, [`need ${identityOf(here("native"))}`]);
    sent = [];
    put(here("plain", { protocol: "HBONE" }), here("native", { protocol: "TCP" }));
    updates.flush();
    assert.deepEqual(sent.sort(), [`need ${identityOf(here("plain"))}`, `unused ${identityOf(here("native"))}`]);
  });

  test("mesh_updates: an owner's metrics end with its last workload, wherever that runs", () => {
    const [a, b] = [pod("a", [], { workloadName: "web" }), pod("b", [], { workloadName: "web" })];
    put(a, b, pod("c", [], { workloadName: "" }));
    updates.flush();
    remove(a);
    updates.flush();
    assert.deepEqual(sent, []);
    put({ ...b, capacity: 9 });
    updates.flush();
    assert.deepEqual(sent, [], "a changed workload keeps its owner");
    remove(b);
    updates.flush();
    assert.deepEqual(sent, ["evict default/web"]);
  });

  test("mesh_updates: pods hear of records of their node and of policies, and of nothing else", () => {
    put(pod("far", ["10.0.0.1"], { node: "node-b" }));
    updates.apply({ upsert: { services: [service("shop", [])] } });
    updates.flush();
    assert.equal(concerned.length, 0);
    put(here("near"));
    updates.flush();
    assert.deepEqual([...concerned[0].names], ["default/near"]);
    updates.apply({
      upsert: { policies: [policy({ name: "p", namespace: "x", scope: "Namespace", action: "Allow" })] },
    });
    updates.flush();
    assert.deepEqual(concerned[1].policies, [{ key: "x/p" as PolicyKey, namespace: "x", scope: "Namespace" }]);
  });

  test("mesh_updates: a policy concerns the pods it applies to, applied to, or was missing for", () => {
    const change = (scope: "Global" | "Namespace" | "WorkloadSelector", namespace = "default") => ({
      names: new Set<string>(),
      policies: [{ key: `${namespace}/p` as PolicyKey, namespace, scope }],
    });
    const web = pod("web", []);
    const named = pod("web", [], { authorizationPolicies: ["default/p" as PolicyKey] });
    assert.equal(concernsPod(change("Global", "x"), web, web), true);
    assert.equal(concernsPod(change("Namespace"), web, web), true);
    assert.equal(concernsPod(change("Namespace", "x"), web, web), false);
    assert.equal(concernsPod(change("WorkloadSelector"), web, web), false);
    assert.equal(concernsPod(change("WorkloadSelector"), named, named), true);
    assert.equal(concernsPod(change("Global"), web, undefined), false);
    assert.equal(concernsPod({ names: new Set(["default/web"]), policies: [] }, web, undefined), true);
    // What it was counts as much as what it is.
    updates.apply({
      upsert: { policies: [policy({ name: "p", namespace: "default", scope: "Namespace", action: "Deny" })] },
    });
    updates.flush();
    updates.apply({
      upsert: { policies: [policy({ name: "p", namespace: "default", scope: "WorkloadSelector", action: "Deny" })] },
    });
    updates.flush();
    assert.equal(concernsPod(concerned[1], web, web), true);
  });

  test("mesh_updates: of a resource in the mesh and in a file the mesh's counts", () => {
    const mesh = { workloads: [pod("web", ["10.0.0.1"])], services: [service("shop", [])], policies: [] };
    const file = {
      workloads: [pod("web", ["10.0.0.9"]), pod("db", [])],
      services: [service("shop", ["10.96.0.9"]), service("bank", [])],
      policies: [policy({ name: "p", namespace: "x", scope: "Global", action: "Allow" })],
    };
    const both = withStatic(mesh, file);
    assert.deepEqual(both.workloads, [mesh.workloads[0], file.workloads[1]]);
    assert.deepEqual(both.services, [mesh.services[0], file.services[1]]);
    assert.deepEqual(both.policies, file.policies);
    assert.equal(withStatic(mesh, undefined), mesh);
  });
});
