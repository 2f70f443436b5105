/** Pods that are announced, renamed and removed while their certificate is still on its way. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MeshStore } from "../../src/mesh/mod.ts";
import type { TlsMaterial } from "../../src/platform/tls_context.ts";
import { type PodInfo, Pods } from "../../src/ztunnel/pods.ts";
import type { ToWorker } from "../../src/ztunnel/messages.ts";
import { pod } from "../mesh/builders.ts";

const INFO: PodInfo = {
  uid: "uid-1",
  netns: { kind: "path", path: "/proc/1/ns/net" },
  name: "web",
  namespace: "default",
  serviceAccount: "web",
};
const MATERIAL: TlsMaterial = { privateKey: "", chain: [], roots: [] };

class Subject {
  readonly store = new MeshStore();
  readonly messages: ToWorker[] = [];
  /** Listening sockets opened and closed. */
  opened = 0;
  closed = 0;
  readonly users = new Map<string, number>();
  readonly pods: Pods;
  #answers: ((material: TlsMaterial) => void)[] = [];

  constructor() {
    this.setTrustDomain("cluster.local");
    this.pods = new Pods({
      store: this.store,
      nodeName: undefined,
      openListeners: () => {
        this.opened++;
        return Promise.resolve({
          namespaceFd: -1,
          namespaceIdentity: "",
          fds: { outbound: -1, inboundPlaintext: -1, inboundHbone: -1 },
          mark: undefined,
          originalSource: true,
          shared: false,
          stopListening: () => {},
          close: () => void this.closed++,
        });
      },
      acquireCertificate: (identity) => {
        this.users.set(identity, (this.users.get(identity) ?? 0) + 1);
        return new Promise((resolve) => this.#answers.push(resolve));
      },
      releaseCertificate: (identity) => this.users.set(identity, (this.users.get(identity) ?? 0) - 1),
      broadcast: (message) => void (message.type === "pod_wait" ? 0 : this.messages.push(message)),
      settle: () => Promise.resolve(),
      schedule: () => () => {},
      started: () => {},
      stopped: () => {},
      changed: () => {},
      log: () => {},
    });
  }

  setTrustDomain(trustDomain: string): void {
    const workloads = [pod("web", ["10.0.0.1"], { trustDomain })];
    this.store.replaceAll({ workloads, services: [], policies: [] });
  }

  async asked(): Promise<void> {
    while (this.#answers.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }

  /** Waits until somebody asked for a certificate, then answers all who did. */
  async sign(): Promise<void> {
    await this.asked();
    for (const answer of this.#answers.splice(0)) answer(MATERIAL);
  }

  held(): number[] {
    return [...this.users.values()].filter((count) => count !== 0);
  }
}

test("pods: a pod announced again while its certificate is fetched is brought up once", async () => {
  const subject = new Subject();
  const first = subject.pods.add(INFO);
  const second = subject.pods.add({ ...INFO });
  await subject.sign();
  await Promise.all([first, second]);
  assert.equal(subject.opened, 1);
  assert.equal(subject.closed, 0, "the workers watch these sockets");
  assert.deepEqual(subject.messages.map((message) => message.type), ["pod_up"]);
  await subject.pods.remove(INFO.uid);
  assert.equal(subject.closed, 1);
  assert.deepEqual(subject.held(), []);
});

test("pods: a pod whose identity changes while its certificate is fetched is served with the new one only", async () => {
  const subject = new Subject();
  const added = subject.pods.add(INFO);
  await subject.asked();
  subject.setTrustDomain("other.example");
  subject.pods.meshChanged();
  await subject.sign();
  await added;
  assert.equal(subject.opened, 1);
  const [message] = subject.messages;
  assert.ok(message.type === "pod_up");
  assert.equal(message.state.identity, "spiffe://other.example/ns/default/sa/web");
  assert.deepEqual(subject.held(), [1], "the certificate that was asked for first is released");
});

test("pods: a pod removed while its certificate is fetched leaves nothing behind", async () => {
  const subject = new Subject();
  const added = subject.pods.add(INFO);
  await subject.asked();
  const removed = subject.pods.remove(INFO.uid);
  await subject.sign();
  await Promise.all([added, removed]);
  assert.equal(subject.opened, subject.closed);
  assert.deepEqual(subject.held(), []);
  assert.deepEqual(subject.messages.map((message) => message.type), ["pod_down"]);
});

test("pods: a pod removed before its listeners are open leaves nothing behind", async () => {
  const subject = new Subject();
  const added = subject.pods.add(INFO);
  const removed = subject.pods.remove(INFO.uid);
  await Promise.all([added, removed]);
  assert.equal(subject.opened, subject.closed);
  assert.deepEqual(subject.held(), []);
});
