/** Whose connections are probes: kubelet's user, found among the processes of the node. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { createKubeletFinder } from "../../../src/cni/host/kubelet.ts";
import { FakeProc, type FakeProcess, podCgroup, UID } from "../netns/support.ts";

let proc: FakeProc;
beforeEach(() => {
  proc = new FakeProc();
});
afterEach(() => proc.remove());

const KUBELET: FakeProcess = {
  netns: "host",
  cgroup: "0::/system.slice/kubelet.service\n",
  comm: "kubelet",
  cmdline: ["/usr/bin/kubelet", "--config=/var/lib/kubelet/config.yaml"],
  user: 7,
};
const find = () => createKubeletFinder(proc.root)();

for (
  const [name, process] of Object.entries<Partial<FakeProcess>>({
    "kubelet": {},
    "microk8s": { comm: "kubelite", cmdline: ["/snap/microk8s/kubelite", "--kubelet-args-file=/var/snap/kubelet"] },
    "k3s": { comm: "k3s", cmdline: ["/usr/local/bin/k3s", "server"] },
    "k3s, by what it does": { comm: "k3s-server", cmdline: ["/usr/local/bin/k3s server"] },
  })
) {
  test(`kubelet user: ${name}`, async () => {
    proc.add(40, { netns: "host", cgroup: "0::/\n", comm: "systemd", user: 0 });
    proc.add(50, { ...KUBELET, ...process });
    assert.equal(await find(), 7);
  });
}

test("kubelet user: none is an error that says what was looked for", async () => {
  proc.add(50, { ...KUBELET, comm: "kubelite", cmdline: ["kubelite", "--apiserver-args-file=x"] });
  await assert.rejects(find(), /there is no kubelet among the processes in .*\(kubelet, kubelite or k3s\)/);
});

test("kubelet user: several of one user are one, of different users an error", async () => {
  proc.add(50, KUBELET);
  proc.add(51, { ...KUBELET, startTime: 900 });
  assert.equal(await find(), 7);
  proc.add(52, { ...KUBELET, user: 8 });
  await assert.rejects(find(), /process 50 of user 7, process 51 of user 7, process 52 of user 8/);
});

test("kubelet user: a process of a pod, or of another network, is not kubelet", async () => {
  proc.add(50, { ...KUBELET, cgroup: podCgroup(UID), user: 1000 });
  proc.add(51, { ...KUBELET, netns: "pod", user: 1001 });
  proc.add(52, KUBELET);
  assert.equal(await find(), 7);
  // A node that is itself a pod.
  rmSync(join(proc.root, "52"), { recursive: true });
  assert.equal(await find(), 1000);
});

test("kubelet user: it is remembered while that process lives, and looked for again when it was started anew", async () => {
  proc.add(50, KUBELET);
  const finder = createKubeletFinder(proc.root);
  assert.equal(await finder(), 7);
  proc.add(49, { ...KUBELET, user: 8, netns: "pod" });
  assert.equal(await finder(), 7);
  rmSync(join(proc.root, "50"), { recursive: true });
  proc.add(50, { ...KUBELET, user: 9, startTime: 5_000 });
  assert.equal(await finder(), 9);
});
