import fc from "fast-check";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, createMeshSink } from "../../../../src/control/xds/intake/mod.ts";
import type { Rejection } from "../../../../src/control/xds/push.ts";
import {
  keyOfService,
  type MeshResources,
  MeshStore,
  policyKey,
  type Service,
  type Workload,
} from "../../../../src/mesh/mod.ts";
import { pod, policy, service } from "../../../mesh/builders.ts";
import { resources as randomResources } from "../../../mesh/random_mesh.ts";
import { encodeService, encodeWorkload } from "./encode.ts";
import { concat, envelope, field, policyBytes } from "./messages.ts";
import { TestTarget } from "./target.ts";

const address = (name: string, value: Uint8Array, version?: string) => envelope(name, ADDRESS_TYPE, value, version);
const workloadResource = (workload: Workload) => address(workload.uid, encodeWorkload(workload));
const serviceResource = (found: Service) => address(keyOfService(found), encodeService(found));
const deny = (name: string, fields = {}) => policyBytes({ name, namespace: "default", scope: 2, action: 1, ...fields });
const policyResource = (name: string, fields = {}) =>
  envelope(`default/${name}`, AUTHORIZATION_TYPE, deny(name, fields));
/** A string match without a form. */
const UNREADABLE = { rules: [{ clauses: [{ matches: [{ principals: [{}] }] }] }] };

/** A clock that goes on by a step each time it is read. */
function clock(stepMs: number): () => number {
  let now = 0;
  return () => now += stepMs;
}

async function push(
  target: TestTarget,
  typeUrl: string,
  resources: readonly Uint8Array[],
  removed: readonly string[] = [],
): Promise<{ readonly rejections: readonly Rejection[]; readonly accepted: string[] }> {
  const accepted: string[] = [];
  const sink = createMeshSink(target);
  const rejections = await sink.apply(
    { typeUrl, resources, removed },
    (name, version) => accepted.push(`${name}@${version}`),
  );
  return { rejections, accepted };
}

const names = (store: MeshStore) => store.resources().workloads.map(({ name }) => name).sort();

describe("mesh sink", () => {
  test("sink: takes workloads, services and policies, and names each with its version", async () => {
    const target = new TestTarget();
    const web = pod("web", ["10.0.0.1"]);
    const shop = service("shop", ["10.96.0.1"]);
    const { accepted, rejections } = await push(target, ADDRESS_TYPE, [serviceResource(shop), workloadResource(web)]);
    assert.deepEqual(rejections, []);
    assert.deepEqual(accepted, [`${web.uid}@v1`, "default/shop.default.svc@v1"]);
    assert.deepEqual(target.store.findWorkload("", "10.0.0.1"), { ...web, workloadType: "deployment" });
    assert.deepEqual(target.store.findService("", "10.96.0.1"), shop);
    const second = await push(target, AUTHORIZATION_TYPE, [policyResource("p")]);
    assert.deepEqual(second.accepted, ["default/p@v1"]);
    assert.equal(target.store.policy(policyKey("default", "p"))?.action, "Deny");
  });

  test("sink: a bad resource is refused by name, and everything else is taken", async () => {
    const target = new TestTarget();
    const bad = [
      address("Kubernetes//Pod/default/bad", field(1, concat(field(20, "Kubernetes//Pod/default/bad"), [5 << 3, 2]))),
      address("other", encodeWorkload(pod("mismatch", []))),
      address("default/x", encodeService(service("shop", []))),
      envelope("typed", "type.googleapis.com/else", new Uint8Array(0)),
      concat(field(1, "v1"), field(3, "empty")),
      new Uint8Array([0xff]),
      address("neither", new Uint8Array(0)),
    ];
    const good = pod("good", ["10.0.0.2"]);
    const { accepted, rejections } = await push(target, ADDRESS_TYPE, [...bad, workloadResource(good)]);
    assert.deepEqual(accepted, [`${good.uid}@v1`]);
    assert.deepEqual(names(target.store), ["good"]);
    const reasons = new Map(rejections.map(({ name, reason }) => [name, reason]));
    assert.equal(rejections.length, bad.length);
    assert.match(reasons.get("Kubernetes//Pod/default/bad")!, /LEGACY_ISTIO_MTLS/);
    assert.match(reasons.get("other")!, /its uid is "Kubernetes\/\/Pod\/default\/mismatch", which is not its name/);
    assert.match(reasons.get("default/x")!, /which is not its name/);
    assert.match(reasons.get("typed")!, /its type is "type.googleapis.com\/else"/);
    assert.match(reasons.get("empty")!, /empty/);
    assert.match(reasons.get("resource 5")!, /malformed/);
    assert.match(reasons.get("neither")!, /neither a workload nor a service/);
  });

  test("sink: a refused version leaves the last good one in force", async () => {
    const target = new TestTarget();
    const web = pod("web", ["10.0.0.1"]);
    await push(target, ADDRESS_TYPE, [workloadResource(web)]);
    await push(target, AUTHORIZATION_TYPE, [policyResource("p")]);
    const before = target.store.resources();
    const badWeb = address(web.uid, field(1, concat(field(20, web.uid), field(3, new Uint8Array(3)))));
    assert.equal((await push(target, ADDRESS_TYPE, [badWeb])).rejections.length, 1);
    assert.equal((await push(target, AUTHORIZATION_TYPE, [policyResource("p", UNREADABLE)])).rejections.length, 1);
    assert.deepEqual(target.store.resources(), before);
    assert.deepEqual(target.store.policiesFor(web).missing, []);
  });

  test("sink: a policy that was never readable counts as missing where it would apply, until it can be read or is gone", async () => {
    const target = new TestTarget();
    const here = pod("here", []);
    const elsewhere = pod("else", [], { namespace: "other" });
    const missing = (workload: Workload) => [...target.store.policiesFor(workload).missing];
    const cases = [
      { scope: 0, here: ["default/p"], elsewhere: ["default/p"] },
      { scope: 1, here: ["default/p"], elsewhere: [] },
      { scope: 2, here: [], elsewhere: [] },
      { scope: 7, here: ["default/p"], elsewhere: [] },
    ];
    for (const expected of cases) {
      const fields = { ...UNREADABLE, scope: expected.scope };
      await push(target, AUTHORIZATION_TYPE, [policyResource("p", fields)]);
      assert.deepEqual([missing(here), missing(elsewhere)], [expected.here, expected.elsewhere]);
      await push(target, AUTHORIZATION_TYPE, [], ["default/p"]);
      assert.deepEqual([missing(here), missing(elsewhere)], [[], []]);
    }
    await push(target, AUTHORIZATION_TYPE, [policyResource("p", { ...UNREADABLE, scope: 0 })]);
    await push(target, AUTHORIZATION_TYPE, [policyResource("p", { scope: 0 })]);
    assert.deepEqual(missing(here), []);
    assert.equal(target.store.policiesFor(here).policies.length, 1);
    await push(target, AUTHORIZATION_TYPE, [policyResource("dry", { ...UNREADABLE, scope: 0, dryRun: true })]);
    assert.deepEqual(missing(here), [], "a dry run is never enforced");
  });

  test("sink: removes a workload by uid, else a service, and ignores what it does not know", async () => {
    const target = new TestTarget();
    const web = pod("web", ["10.0.0.1"], { uid: "default/same" as never });
    const same = service("same", ["10.96.0.1"], { hostname: "same" });
    await push(target, ADDRESS_TYPE, [workloadResource(web), serviceResource(same)]);
    const gone = ["nothing", "a/b/c", "", "__proto__", "\u0000/\u0000", "x".repeat(10_000)];
    await push(target, ADDRESS_TYPE, [], [...gone, "default/same"]);
    assert.deepEqual([target.store.size.workloads, target.store.size.services], [0, 1]);
    await push(target, ADDRESS_TYPE, [], ["default/same"]);
    assert.equal(target.store.size.services, 0);
  });

  test("sink: updates come before removals, workloads before services", async () => {
    const target = new TestTarget();
    const web = pod("web", ["10.0.0.1"]);
    const shop = service("shop", []);
    await push(target, ADDRESS_TYPE, [serviceResource(shop), workloadResource(web)], [web.uid]);
    const kinds = target.changes.map(({ upsert, remove }) => Object.keys({ ...upsert, ...(remove && { remove }) })[0]);
    assert.deepEqual(kinds, ["workloads", "services", "remove"]);
    assert.deepEqual(names(target.store), []);
  });

  test("sink: hostile names are only names", async () => {
    const target = new TestTarget();
    const hostile = [
      "__proto__",
      "constructor",
      "a\nb",
      "\u001b[31m",
      "ü/日本",
      "-".repeat(5000),
      "%00",
      "a|b",
      "'; drop",
    ];
    const resources = hostile.map((uid) =>
      workloadResource(pod("x", [], { uid: uid as never, name: uid, hostname: uid }))
    );
    const { accepted, rejections } = await push(target, ADDRESS_TYPE, resources);
    assert.deepEqual(rejections, []);
    assert.deepEqual(accepted, hostile.map((name) => `${name}@v1`));
    assert.deepEqual(names(target.store), [...hostile].sort());
    await push(target, ADDRESS_TYPE, [], hostile);
    assert.equal(target.store.size.workloads, 0);
    assert.deepEqual(
      (await push(target, AUTHORIZATION_TYPE, [
        envelope("no-slash", AUTHORIZATION_TYPE, deny("p", UNREADABLE)),
        envelope("/x", AUTHORIZATION_TYPE, deny("p", UNREADABLE)),
      ])).rejections.map(({ name }) => name),
      ["no-slash", "/x"],
    );
  });

  test("sink: a large push is taken in slices, and others run between them", async () => {
    const target = new TestTarget();
    let turns = 0;
    let flushed = 0;
    const sink = createMeshSink(target, {
      // Each look at the clock is half a millisecond later: three batches make a slice.
      nowMs: clock(0.5),
      yieldTurn: async () => {
        turns++;
        assert.deepEqual(target.events.slice(-2), ["flush", "attend"], "nothing is kept from the workers over a turn");
        assert.ok(target.store.size.workloads <= 8 * 4 * turns);
      },
    });
    target.flushed = () => flushed++;
    const pods = Array.from({ length: 240 }, (_, i) => pod(`p${i}`, [`10.0.${i >> 8}.${i & 255}`]));
    await sink.apply({ typeUrl: ADDRESS_TYPE, resources: pods.map(workloadResource), removed: [] }, () => {});
    assert.ok(turns >= 8, `${turns} turns`);
    assert.equal(flushed, turns + 1);
    assert.equal(target.store.size.workloads, 240);
  });

  test("sink: asks for confirmation once, after the last part, and resolves with it", async () => {
    const target = new TestTarget();
    let confirm = () => {};
    target.settled = new Promise((resolve) => confirm = resolve);
    const sink = createMeshSink(target, { nowMs: clock(5), yieldTurn: () => Promise.resolve() });
    const pods = Array.from({ length: 50 }, (_, i) => pod(`p${i}`, []));
    let done = false;
    const applied = sink.apply({ typeUrl: ADDRESS_TYPE, resources: pods.map(workloadResource), removed: [] }, () => {})
      .then(() => done = true);
    for (let i = 0; i < 100; i++) await Promise.resolve();
    assert.equal(target.events.filter((event) => event === "settle").length, 1);
    assert.equal(target.events[target.events.length - 1], "settle");
    assert.equal(done, false);
    confirm();
    await applied;
    assert.equal(done, true);
  });

  test("sink: a push waits until the one before it is taken in", async () => {
    const target = new TestTarget();
    const sink = createMeshSink(target, { nowMs: clock(5), yieldTurn: () => Promise.resolve() });
    const web = pod("web", []);
    const many = Array.from({ length: 30 }, (_, i) => workloadResource(pod(`p${i}`, [])));
    await Promise.all([
      sink.apply({ typeUrl: ADDRESS_TYPE, resources: [...many, workloadResource(web)], removed: [] }, () => {}),
      sink.apply({ typeUrl: ADDRESS_TYPE, resources: [], removed: [web.uid] }, () => {}),
    ]);
    assert.equal(target.store.workloadByUid(web.uid), undefined);
  });

  test("sink: a type it does not know changes nothing", async () => {
    const target = new TestTarget();
    const result = await push(target, "type.googleapis.com/else", [workloadResource(pod("web", []))], ["x"]);
    assert.deepEqual([result.rejections, result.accepted, target.changes], [[], [], []]);
  });

  test("sink: what a file says comes back when istiod removes its own version", async () => {
    const ofFile: MeshResources = {
      workloads: [pod("web", ["10.0.0.1"])],
      services: [service("shop", ["10.96.0.1"])],
      policies: [policy({ name: "p", namespace: "default", scope: "Global", action: "Allow" })],
    };
    const target = new TestTarget(ofFile);
    await push(target, ADDRESS_TYPE, [
      workloadResource(pod("web", ["10.0.0.9"])),
      serviceResource(service("shop", ["10.96.0.9"])),
      workloadResource(pod("new", [])),
    ]);
    await push(target, AUTHORIZATION_TYPE, [policyResource("p")]);
    assert.equal(target.store.findWorkload("", "10.0.0.9")?.name, "web");
    assert.equal(target.store.findService("", "10.96.0.9")?.name, "shop");
    await push(target, ADDRESS_TYPE, [], [ofFile.workloads[0].uid, "default/shop.default.svc", pod("new", []).uid]);
    await push(target, AUTHORIZATION_TYPE, [], ["default/p"]);
    assert.deepEqual(target.store.resources(), ofFile);
  });
});

const batch = fc.record({
  resources: randomResources,
  order: fc.array(fc.nat(), { minLength: 20, maxLength: 20 }),
  cuts: fc.array(fc.nat(13), { maxLength: 3 }),
});

test("sink: any sequence of pushes, in any order and slicing, gives the mesh that they say", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(batch, { minLength: 1, maxLength: 3 }), fc.nat(4), async (batches, stepMs) => {
      const target = new TestTarget();
      const sink = createMeshSink(target, { nowMs: clock(stepMs), yieldTurn: () => Promise.resolve() });
      let before: { readonly name: string }[] = [];
      for (const { resources, order, cuts } of batches) {
        const named = [
          ...resources.workloads.map((workload) => ({
            name: workload.uid as string,
            bytes: workloadResource(workload),
          })),
          ...resources.services.map((found) => ({
            name: keyOfService(found) as string,
            bytes: serviceResource(found),
          })),
        ].map((entry, i) => ({ ...entry, at: order[i] })).sort((a, b) => a.at - b.at);
        const removed = before.filter(({ name }) => !named.some((entry) => entry.name === name)).map(({ name }) =>
          name
        );
        const edges = [0, ...cuts.map((cut) => Math.min(cut, named.length)).sort((a, b) => a - b), named.length];
        for (let i = 1; i < edges.length; i++) {
          const part = named.slice(edges[i - 1], edges[i]).map(({ bytes }) => bytes);
          const rejections = await sink.apply(
            { typeUrl: ADDRESS_TYPE, resources: part, removed: i === edges.length - 1 ? removed : [] },
            () => {},
          );
          assert.deepEqual(rejections, []);
        }
        before = named;
        const expected = new MeshStore();
        const workloads = resources.workloads.map((workload) => ({ ...workload, workloadType: "deployment" }));
        expected.replaceAll({ ...resources, workloads });
        assert.deepEqual(structuredClone(target.store.configDump()), structuredClone(expected.configDump()));
      }
    }),
    { numRuns: 150 },
  );
});
