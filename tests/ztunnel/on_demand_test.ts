import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { MeshStore } from "../../src/mesh/mod.ts";
import { type DemandResult, OnDemandMesh } from "../../src/ztunnel/on_demand.ts";
import { endpointOf, gateway, pod, service } from "../mesh/builders.ts";
import { VirtualTime } from "./virtual_time.ts";

const OUTBOUND = { kind: "address", network: "", ip: "10.1.0.1", namespace: "default" } as const;
const SOURCE = { kind: "address", network: "", ip: "10.1.0.1", namespace: undefined } as const;
const WAYPOINT = "default/waypoint.default.svc";

let store: MeshStore;
let time: VirtualTime;
let asked: { readonly name: string; readonly timeoutMs: number; readonly answer: (result: DemandResult) => void }[];
let limited: number;
let mesh: OnDemandMesh;

beforeEach(() => {
  store = new MeshStore();
  time = new VirtualTime();
  asked = [];
  limited = 0;
  mesh = new OnDemandMesh({
    store,
    demand: (name, timeoutMs) => new Promise((answer) => asked.push({ name, timeoutMs, answer })),
    limits: { reached: () => void limited++ },
    schedule: time.schedule,
  });
});

async function turn(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

/** What became of a question so far. */
function watch(question: Promise<boolean> | undefined): { result: boolean | undefined } {
  assert.ok(question !== undefined);
  const state: { result: boolean | undefined } = { result: undefined };
  void question.then((result) => state.result = result);
  return state;
}

test("on_demand: what is there is not waited for", () => {
  store.apply({ upsert: { workloads: [], services: [service("one", ["10.1.0.1"])], policies: [] } });
  assert.equal(mesh.complete(OUTBOUND), undefined);
  assert.deepEqual(asked, []);
});

test("on_demand: the address, then what it refers to", async () => {
  const question = watch(mesh.complete(OUTBOUND));
  assert.deepEqual(asked.map(({ name }) => name), ["/10.1.0.1"]);
  const one = service("one", ["10.1.0.1"], { waypoint: gateway(WAYPOINT) });
  store.apply({ upsert: { workloads: [], services: [one], policies: [] } });
  asked[0].answer("arrived");
  await turn();
  assert.deepEqual(asked.map(({ name }) => name), ["/10.1.0.1", WAYPOINT]);
  assert.equal(question.result, undefined);
  asked[1].answer("absent");
  await turn();
  assert.equal(question.result, true);
});

test("on_demand: an address that the control plane does not have is none of the mesh's", async () => {
  const question = watch(mesh.complete(OUTBOUND));
  asked[0].answer("absent");
  await turn();
  assert.equal(question.result, true);
});

test("on_demand: silence is not taken for absence: the question stays open and is asked again", async () => {
  const question = watch(mesh.complete(OUTBOUND));
  asked[0].answer("timeout");
  await turn();
  assert.equal(asked.length, 2);
  asked[1].answer("timeout");
  await turn();
  assert.equal(question.result, undefined);
  asked[2].answer("absent");
  await turn();
  assert.equal(question.result, true);
});

test("on_demand: what only names a client is waited for shortly", async () => {
  const question = watch(mesh.complete(SOURCE));
  assert.ok(asked[0].timeoutMs < 5_000, "a worker gives up after 5 s");
  asked[0].answer("timeout");
  await turn();
  assert.equal(question.result, true);
});

test("on_demand: too many names: counted, and tried again after a rest", async () => {
  const question = watch(mesh.complete(OUTBOUND));
  asked[0].answer("overloaded");
  await turn();
  assert.equal(limited, 1);
  assert.equal(asked.length, 1);
  time.advanceToNext();
  await turn();
  assert.equal(asked.length, 2);
  asked[1].answer("absent");
  await turn();
  assert.equal(question.result, true);
});

test("on_demand: a client that is closed answers nothing any more", async () => {
  const question = watch(mesh.complete(OUTBOUND));
  asked[0].answer("closed");
  await turn();
  assert.equal(question.result, false);
});

test("on_demand: services of the own workload, for requests by name and for labels", async () => {
  const web = pod("web", ["10.0.0.1"], endpointOf("one"));
  store.apply({ upsert: { workloads: [web], services: [], policies: [] } });
  for (
    const query of [{ kind: "workload", uid: web.uid }, { kind: "hostname", hostname: "x", uid: web.uid }] as const
  ) {
    const question = watch(mesh.complete(query));
    assert.equal(asked.at(-1)?.name, "default/one.default.svc");
    asked.at(-1)?.answer("absent");
    await turn();
    assert.equal(question.result, true);
  }
});
