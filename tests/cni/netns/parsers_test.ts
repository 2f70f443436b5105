/** What is read of a process: its cgroups, its start, the addresses in its network namespace. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readCgroup } from "../../../src/cni/netns/cgroup.ts";
import { readFibTrie, readIfInet6 } from "../../../src/cni/netns/local_addresses.ts";
import { readStartTime } from "../../../src/cni/netns/proc_stat.ts";

const UID = "2c48913c-b29f-11e7-9350-020968147796";
const ID = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961";
const OTHER_ID = "a55d9ac3b312d8a2627824b6d6dd8af66fbec439bf4e0ec22d6d9945ad337a38";
const DOCKER = "8d461fa5765781bcf5f7eb192f101bc3103d4b932e26236f43feecfa20664f96";

const PATHS: Readonly<Record<string, readonly [path: string, podUid: string | undefined]>> = {
  "cgroupfs": [`/kubepods/burstable/pod${UID}/${ID}`, UID],
  "cgroupfs, guaranteed": [`/kubepods/pod${UID}/${ID}`, UID],
  "a node that is a container": [`/docker/${DOCKER}/kubepods/besteffort/pod${UID}/${ID}`, UID],
  "systemd, docker": [
    `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID}.slice/docker-${ID}.scope`,
    UID,
  ],
  "systemd, uid with underscores": [
    `/kubepods.slice/kubepods-pod${UID.replaceAll("-", "_")}.slice/cri-containerd-${ID}.scope`,
    UID,
  ],
  "systemd, cri-containerd without a scope": [
    `/kubepods-besteffort-pod${UID.replaceAll("-", "_")}.slice:cri-containerd:${ID}`,
    UID,
  ],
  "as seen from another cgroup namespace": [`/../../pod${UID}/${ID}`, UID],
  "cri-o": [`/kubepods.slice/kubepods-pod${UID.replaceAll("-", "_")}.slice/crio-${ID}.scope`, UID],
  "cri-o, with a group below": [
    `/kubepods.slice/kubepods-pod${UID.replaceAll("-", "_")}.slice/crio-${ID}.scope/container`,
    UID,
  ],
  "cri-o, the monitor of a container": [
    `/kubepods.slice/kubepods-pod${UID.replaceAll("-", "_")}.slice/crio-conmon-${ID}.scope`,
    UID,
  ],
  "cri-o beside kubeedge": [`/../crio-${ID}.scope`, ""],
  "uid without punctuation": [`/kubepods/pod${UID.replaceAll("-", "")}/${ID}`, UID.replaceAll("-", "")],
  "no container": ["/user.slice", undefined],
  "the pod's group itself": [`/kubepods/pod${UID}`, undefined],
  "the pod's group itself, with a slash": [`/kubepods/pod${UID}/`, undefined],
  "half a uid": [`/kubepods/pod${UID.slice(0, 20)}/${ID}`, undefined],
  "a container of no pod": [`/docker/${DOCKER}`, undefined],
  "the root": ["/", undefined],
  "no path": ["", undefined],
};

for (const [name, [path, podUid]] of Object.entries(PATHS)) {
  test(`cgroup, ${name}: ${podUid === undefined ? "no container of a pod" : "the pod is told"}`, () => {
    assert.equal(readCgroup(`0::${path}\n`)?.podUid, podUid);
    // Version 1: a line for each hierarchy, of which some may be elsewhere.
    const v1 = `12:cpuset:${path}\n11:memory,cpu:${path}\n2:name=systemd:/user.slice\n1:misc:/\n`;
    assert.equal(readCgroup(v1)?.podUid, podUid);
  });
}

test("cgroup: the container is told", () => {
  assert.equal(readCgroup(`0::/kubepods/pod${UID}/${ID}\n`)?.containerId, ID);
  assert.equal(readCgroup(`0::/../crio-${ID}.scope\n`)?.containerId, ID);
});

test("cgroup: nothing is no pod; a line without two colons, two containers, two pods are errors", () => {
  assert.equal(readCgroup(""), undefined);
  assert.throws(() => readCgroup("0:/\n"), /fewer than two colons: 0:\//);
  const line = (uid: string, id: string) => `1:a:/kubepods/pod${uid}/${id}\n`;
  const other = UID.replace("2", "3");
  assert.throws(() => readCgroup(line(UID, ID) + line(UID, OTHER_ID)), /multiple container IDs/);
  assert.throws(() => readCgroup(line(UID, ID) + line(other, ID)), /multiple pod UIDs/);
  // What only looks like another one does not count.
  assert.equal(readCgroup(line(UID, ID) + "0::/init.scope\n")?.podUid, UID);
});

test("cgroup: a path made to take long does not", () => {
  const began = performance.now();
  for (const path of ["crio-".repeat(10_000), `-pod${UID}-`.repeat(1_000) + "-", "a/".repeat(20_000) + "crio"]) {
    readCgroup(`0::/${path}\n`);
  }
  assert.ok(performance.now() - began < 1_000);
});

test("proc stat: the start is the 20th field after the name, whatever the name holds", () => {
  const rest = `S 1 ${Array.from({ length: 17 }, (_, i) => i).join(" ")} 70298968 4096 12\n`;
  for (const name of ["server", "a b", ") 1 2 3 (", "S (x) 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22"]) {
    assert.equal(readStartTime(`4711 (${name}) ${rest}`), 70298968, name);
  }
  for (const text of ["", "4711 (x", "4711 (x) S 1 2", `4711 (x) ${rest.replace("70298968", "soon")}`]) {
    assert.equal(readStartTime(text), undefined, text);
  }
});

const TRIE = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.244.0.0/24 2 0 2
        |-- 10.244.0.0
           /24 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 host LOCAL
     +-- 10.244.0.0/24 2 0 2
        |-- 10.244.0.0
           /24 link UNICAST
        |-- 10.244.0.7
           /32 host LOCAL
        |-- 10.244.0.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
`;

test("fib_trie: addresses of interfaces, not routes, broadcast addresses, or a whole range that is local", () => {
  assert.deepEqual([...readFibTrie(TRIE)], ["10.244.0.7", "127.0.0.1"]);
  assert.deepEqual([...readFibTrie("")], []);
  assert.deepEqual([...readFibTrie("     /32 host LOCAL\n  |-- nonsense\n     /32 host LOCAL\n")], []);
  // A line that belongs to no leaf.
  assert.deepEqual([...readFibTrie("  |-- 10.0.0.1\nLocal:\n     /32 host LOCAL\n")], []);
});

test("if_inet6: addresses in canonical form, v4-mapped ones as what they are", () => {
  const text = "fd000000000000000000000000000007 02 40 00 80     eth0\n" +
    "00000000000000000000000000000001 01 80 10 80       lo\n" +
    "00000000000000000000ffff0a000001 03 60 00 80     eth1\nnot a line\n";
  assert.deepEqual([...readIfInet6(text)], ["fd00::7", "::1", "10.0.0.1"]);
});
