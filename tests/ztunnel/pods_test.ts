import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { createPolicy, identityOf, type MeshResources, MeshStore, type Workload } from "../../src/mesh/mod.ts";
import type { TlsMaterial } from "../../src/platform/tls_context.ts";
import type { ToWorker } from "../../src/ztunnel/messages.ts";
import type { PodListeners } from "../../src/ztunnel/pod_listeners.ts";
import { type PodInfo, Pods } from "../../src/ztunnel/pods.ts";
import { pod } from "../mesh/builders.ts";
import { VirtualTime } from "./virtual_time.ts";

const NODE = "node-a";
const WEB = pod("web", ["10.0.0.2"], { node: NODE });
const INFO: PodInfo = {
  uid: "uid-1",
  netns: { kind: "path", path: "/proc/1/ns/net" },
  name: "web",
  namespace: "default",
  serviceAccount: "web",
};

class TestListeners implements PodListeners {
  readonly namespaceFd = 5;
  readonly namespaceIdentity = "0:4:1";
  fds: PodListeners["fds"] = { outbound: 6, inboundPlaintext: 7, inboundHbone: 8 };
  readonly mark = 1337;
  readonly originalSource = true;
  open = true;
  waiting: number[] = [];
  constructor(readonly info: PodInfo, readonly shared: boolean) {}
  stopListening(take: Parameters<PodListeners["stopListening"]>[0]): void {
    for (const fd of take === undefined ? [] : this.waiting.splice(0)) take?.("outbound", fd);
    this.fds = {};
  }
  close(): void {
    this.open = false;
  }
}

let time: VirtualTime;
let store: MeshStore;
let pods: Pods;
/** All but `waits`. */
let sent: ToWorker[];
/** Pods whose connections are to be held back. */
let waits: Extract<ToWorker, { type: "pod_wait" }>[];
let opened: TestListeners[];
/** Users of each identity, as the certificate store counts them. */
let users: Map<string, number>;
let warnings: string[];
let refuseListeners: string | undefined;
/** Another process watches the sockets too. */
let shared: boolean;
let refuseCertificate: string | undefined;
let metrics: { started: number; stopped: number };

function setMesh(workloads: readonly Workload[], policies: MeshResources["policies"] = []): void {
  store.replaceAll({ workloads, services: [], policies });
  pods.meshChanged();
}

beforeEach(() => {
  time = new VirtualTime();
  store = new MeshStore();
  sent = [];
  waits = [];
  opened = [];
  users = new Map();
  warnings = [];
  refuseListeners = refuseCertificate = undefined;
  shared = false;
  metrics = { started: 0, stopped: 0 };
  pods = new Pods({
    store,
    nodeName: NODE,
    openListeners: (info) => {
      if (refuseListeners !== undefined) return Promise.reject(new Error(refuseListeners));
      const listeners = new TestListeners(info, shared);
      opened.push(listeners);
      return Promise.resolve(listeners);
    },
    acquireCertificate: (identity) => {
      users.set(identity, (users.get(identity) ?? 0) + 1);
      return refuseCertificate === undefined
        ? Promise.resolve(material(identity))
        : Promise.reject(new Error(refuseCertificate));
    },
    releaseCertificate: (identity) => users.set(identity, (users.get(identity) ?? 0) - 1),
    broadcast: (message) => void (message.type === "pod_wait" ? waits.push(message) : sent.push(message)),
    settle: () => Promise.resolve(),
    schedule: time.schedule,
    started: () => metrics.started++,
    stopped: () => metrics.stopped++,
    changed: () => {},
    log: (level, message, _info, error) => {
      if (level === "warn") warnings.push(error ?? message);
    },
  });
  store.replaceAll({ workloads: [WEB], services: [], policies: [] });
});

function material(identity: string): TlsMaterial {
  return { privateKey: identity, chain: [], roots: [] };
}

function types(): string[] {
  return sent.map(({ type }) => type);
}

/** What follows from promises that are settled already. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** No listener is open and no certificate is held. */
function assertNothingHeld(): void {
  assert.deepEqual(opened.filter(({ open }) => open), []);
  assert.ok([...users.values()].every((count) => count === 0), JSON.stringify([...users]));
}

describe("pods: serving", () => {
  test("pods: a pod is told to the workers with listeners, state and certificate", async () => {
    await pods.add(INFO);
    assert.equal(sent.length, 1);
    const [message] = sent;
    assert.ok(message.type === "pod_up");
    assert.deepEqual(message.pod, {
      uid: "uid-1",
      name: "web",
      namespace: "default",
      serviceAccount: "web",
      namespaceFd: 5,
      listeners: opened[0].fds,
      mark: 1337,
      originalSource: true,
    });
    assert.equal(message.state.workload.uid, WEB.uid);
    assert.equal(message.state.identity, identityOf(WEB));
    assert.deepEqual(message.tls, material(identityOf(WEB)));
    assert.deepEqual([pods.active, pods.pending], [1, 0]);
    assert.deepEqual(pods.views(), [{ info: INFO, up: true, phase: "up" }]);
    assert.deepEqual(pods.replay(), sent, "a new worker is told the same");
    assert.equal(metrics.started, 1);
  });

  test("pods: the same pod again is nothing new", async () => {
    await pods.add(INFO);
    await pods.add({ ...INFO });
    assert.equal(opened.length, 1);
    assert.equal(sent.length, 1);
    assert.equal(users.get(identityOf(WEB)), 1);
  });

  test("pods: the same pod in another namespace replaces the first", async () => {
    await pods.add(INFO);
    await pods.add({ ...INFO, netns: { kind: "path", path: "/proc/2/ns/net" } });
    assert.deepEqual(types(), ["pod_up", "pod_down", "pod_up"]);
    assert.deepEqual(opened.map(({ open }) => open), [false, true]);
    assert.deepEqual(opened[1].info.netns, { kind: "path", path: "/proc/2/ns/net" });
    assert.equal(users.get(identityOf(WEB)), 1);
    assert.deepEqual(pods.uids(), ["uid-1"]);
  });

  test("pods: a removed pod is cut first, then its listeners and certificate go", async () => {
    await pods.add(INFO);
    const removed = pods.remove("uid-1");
    assert.deepEqual(types(), ["pod_up", "pod_down"]);
    assert.equal(opened[0].open, true, "the workers still watch it");
    await removed;
    assertNothingHeld();
    assert.deepEqual([pods.active, pods.pending, metrics.stopped], [0, 0, 1]);
    assert.deepEqual(pods.replay(), []);
    await pods.remove("uid-1");
    await pods.remove("nobody");
    assert.equal(sent.length, 2);
  });

  test("pods: pods of one identity share its certificate, and each counts", async () => {
    setMesh([WEB, pod("web2", ["10.0.0.3"], { node: NODE, serviceAccount: "web" })]);
    await pods.add(INFO);
    await pods.add({ ...INFO, uid: "uid-2", name: "web2" });
    assert.equal(users.get(identityOf(WEB)), 2);
    await pods.remove("uid-1");
    assert.equal(users.get(identityOf(WEB)), 1);
  });
});

describe("pods: failures", () => {
  test("pods: a pod whose listeners cannot be opened is undone, and tried again every 5 s", async () => {
    refuseListeners = "cannot listen on port 15008: address already in use";
    await assert.rejects(pods.add(INFO), /failure to start proxy : cannot listen on port 15008/);
    assertNothingHeld();
    assert.deepEqual(sent, []);
    assert.deepEqual([pods.active, pods.pending], [0, 1]);
    assert.deepEqual(warnings, [refuseListeners]);
    time.advance(5_000);
    await turn();
    assert.equal(warnings.length, 2);
    refuseListeners = undefined;
    time.advance(4_999);
    await turn();
    assert.equal(opened.length, 0);
    time.advance(1);
    await turn();
    assert.deepEqual(types(), ["pod_up"]);
    assert.equal(users.get(identityOf(WEB)), 1);
    assert.equal(time.pending, 0);
  });

  test("pods: a pod without a certificate listens, is not served, and is when the certificate comes", async () => {
    refuseCertificate = "the CA is down";
    await assert.rejects(pods.add(INFO), /failure to start proxy : the CA is down/);
    assert.deepEqual(opened.map(({ open }) => open), [true]);
    assert.deepEqual(types(), []);
    assert.equal(waits.at(-1)?.reason, "the CA is down", "what connects is told why");
    assert.equal(users.get(identityOf(WEB)), 1, "the store goes on trying");
    assert.deepEqual([pods.active, pods.pending], [1, 0]);
    pods.certificateChanged("spiffe://somebody/else", material("x"));
    assert.deepEqual(types(), ["certificate"]);
    pods.certificateChanged(identityOf(WEB), material("late"));
    assert.deepEqual(types(), ["certificate", "certificate", "pod_up"]);
    const [message] = pods.replay();
    assert.ok(message.type === "pod_up");
    assert.deepEqual(message.tls, material("late"));
    assert.equal(users.get(identityOf(WEB)), 1);
  });

  test("pods: a pod whose record has not come listens, fails after 5 s in words that help, and is served when it comes", async () => {
    setMesh([]);
    const added = pods.add(INFO);
    await turn();
    assert.deepEqual(opened.map(({ open }) => open), [true]);
    assert.match(waits[0].reason, /^failed to fetch information about local workload: web\.default \(web\): /);
    assert.deepEqual(waits[0].pod.listeners, opened[0].fds);
    time.advance(4_999);
    assert.equal(warnings.length, 0);
    time.advance(1);
    await assert.rejects(
      added,
      /timed out waiting for workload: no record of default\/web with service account web on this node came within 5 s/,
    );
    assert.deepEqual(pods.replay(), waits.slice(-1), "a new worker holds back connections too");
    setMesh([WEB]);
    await turn();
    assert.deepEqual(types(), ["pod_up"]);
    assert.equal(opened.length, 1);
  });

  test("pods: an announced pod is acknowledged when it listens, before anything of it is known", async () => {
    setMesh([]);
    await pods.announce(INFO);
    assert.equal(waits.length, 1);
    assert.deepEqual([pods.active, pods.pending, metrics.started], [1, 0, 1]);
  });

  test("pods: what connects to sockets that another process watches too is not held back, up to 5 s", async () => {
    setMesh([]);
    shared = true;
    await pods.announce(INFO);
    time.advance(4_999);
    assert.deepEqual(waits, []);
    assert.deepEqual(pods.replay(), []);
    time.advance(1);
    assert.equal(waits.length, 1);
    setMesh([WEB]);
    await turn();
    assert.deepEqual(types(), ["pod_up"]);
  });

  test("pods: a pod waits for its record, and for its own record only", async () => {
    setMesh([]);
    const added = pods.add(INFO);
    setMesh([
      pod("web", ["10.0.0.9"], { node: "node-b" }),
      pod("other", ["10.0.0.8"], { node: NODE }),
      pod("web", ["10.0.0.7"], { node: NODE, namespace: "elsewhere" }),
    ]);
    await turn();
    assert.deepEqual(sent, []);
    setMesh([WEB]);
    await added;
    assert.deepEqual(types(), ["pod_up"]);
    assert.equal(time.pending, 0);
  });

  test("pods: a pod that fails harms no other", async () => {
    setMesh([WEB, pod("other", ["10.0.0.3"], { node: NODE })]);
    await pods.add(INFO);
    refuseListeners = "no";
    await assert.rejects(pods.add({ ...INFO, uid: "uid-2", name: "other", serviceAccount: "other" }));
    assert.equal(opened[0].open, true);
    assert.deepEqual([pods.active, pods.pending], [1, 1]);
  });

  test("pods: a pod removed while it waits for its next try is not tried again", async () => {
    refuseListeners = "no";
    await assert.rejects(pods.add(INFO));
    await pods.remove("uid-1");
    assert.equal(time.pending, 0);
    refuseListeners = undefined;
    time.advance(60_000);
    await turn();
    assert.equal(opened.length, 0);
    assertNothingHeld();
  });

  test("pods: a pod removed while it waits for its record is never served", async () => {
    setMesh([]);
    const added = pods.add(INFO).catch(() => {});
    await pods.remove("uid-1");
    setMesh([WEB]);
    await turn();
    time.advance(60_000);
    await added;
    await turn();
    assert.equal(pods.active, 0);
    assert.ok(!types().includes("pod_up"));
    assertNothingHeld();
  });

  test("pods: a pod announced again while it waits for its next try is tried at once", async () => {
    refuseListeners = "no";
    await assert.rejects(pods.add(INFO));
    refuseListeners = undefined;
    await pods.add(INFO);
    assert.equal(pods.active, 1);
    assert.equal(time.pending, 0, "the earlier try is cancelled");
  });
});

describe("pods: changes", () => {
  test("pods: a change of the workload or its policies is told, and nothing else is", async () => {
    await pods.add(INFO);
    setMesh([WEB, pod("other", ["10.0.0.3"])]);
    assert.deepEqual(types(), ["pod_up"]);
    const changed = { ...WEB, canonicalRevision: "v2" };
    setMesh([changed]);
    assert.deepEqual(types(), ["pod_up", "pod_state"]);
    const deny = createPolicy({ name: "deny", namespace: "default", scope: "Namespace", action: "Deny", rules: [] });
    setMesh([changed], [deny]);
    const last = sent[sent.length - 1];
    assert.ok(last.type === "pod_state");
    assert.deepEqual(last.state.policies.map(({ name }) => name), ["deny"]);
    const [replayed] = pods.replay();
    assert.ok(replayed.type === "pod_up");
    assert.deepEqual(replayed.state, last.state, "a new worker is told the present state");
  });

  test("pods: a record that goes away leaves the pod its last known policies", async () => {
    await pods.add(INFO);
    setMesh([]);
    assert.deepEqual(types(), ["pod_up"]);
    assert.equal(pods.active, 1);
  });

  test("pods: a changed identity means a new certificate and everything anew", async () => {
    await pods.add(INFO);
    const moved = { ...WEB, trustDomain: "other.domain" };
    setMesh([moved]);
    await turn();
    await turn();
    assert.deepEqual(types(), ["pod_up", "pod_down", "pod_up"]);
    assert.equal(users.get(identityOf(WEB)), 0);
    assert.equal(users.get(identityOf(moved)), 1);
    assert.deepEqual(opened.map(({ open }) => open), [false, true]);
  });

  test("pods: a renewed certificate is told, and kept for workers to come", async () => {
    await pods.add(INFO);
    const renewed = material("renewed");
    pods.certificateChanged(identityOf(WEB), renewed);
    assert.deepEqual(sent[1], { type: "certificate", identity: identityOf(WEB), tls: renewed });
    const [replayed] = pods.replay();
    assert.ok(replayed.type === "pod_up");
    assert.equal(replayed.tls, renewed);
    pods.certificateChanged("spiffe://somebody/else", material("x"));
    const [again] = pods.replay();
    assert.ok(again.type === "pod_up");
    assert.equal(again.tls, renewed);
  });

  test("pods: a drain ends the listening, rescues what waited, and keeps the namespace; the end lets go of it", async () => {
    await pods.add(INFO);
    opened[0].waiting = [41, 42];
    const rescued: [string, string, number][] = [];
    pods.stopListening((uid, kind, fd) => rescued.push([uid, kind, fd]));
    assert.deepEqual(rescued, [["uid-1", "outbound", 41], ["uid-1", "outbound", 42]]);
    assert.equal(opened[0].open, true, "what was accepted connects from this namespace");
    pods.closeListeners();
    assert.equal(opened[0].open, false);
    pods.closeListeners();
  });
});
