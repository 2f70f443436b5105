/** Discovery, cache and reported paths with real processes in real network namespaces. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { createNetnsCache } from "../../../src/cni/netns/cache.ts";
import { PROCESS_FILES, type ProcessFiles } from "../../../src/cni/netns/candidate.ts";
import { findNamespaces, findNamespacesInSlices } from "../../../src/cni/netns/discover.ts";
import { readFibTrie, readIfInet6 } from "../../../src/cni/netns/local_addresses.ts";
import { openReportedNetns } from "../../../src/cni/netns/open.ts";
import { fileIdentity, openNamespace } from "../../../src/platform/netns.ts";
import { pathIdentity } from "../../../src/platform/proc_files.ts";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import { Namespace } from "../support_netns.ts";
import { OTHER_UID, podCgroup, UID } from "./support.ts";

const V4 = "10.99.0.7";
const V6 = "fd00:99::7";

let directory: string;
let pod: Namespace;
let other: Namespace;
/** A second process of the first pod, that is visiting the other one's namespace. */
let visitor: ChildProcess;
before(async () => {
  directory = mkdtempSync(join(tmpdir(), "ambit-netns-"));
  pod = await Namespace.create();
  other = await Namespace.create();
  for (const [ip, address] of [["-4", `${V4}/24`], ["-6", `${V6}/64`]]) {
    pod.run("ip", ip, "address", "add", address, "dev", "lo", ...(ip === "-6" ? ["nodad"] : []));
  }
  // As in a captured pod: everything is local to a table of its own.
  pod.run("ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100");
  visitor = spawn("nsenter", [`--net=${other.path}`, "sleep", "600"]);
  await new Promise((resolve) => visitor.once("spawn", resolve));
  for (let i = 0; pathIdentity(`/proc/${visitor.pid}/ns/net`) !== pathIdentity(other.path) && i < 500; i++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
});
after(() => {
  visitor?.kill("SIGKILL");
  pod?.close();
  other?.close();
  rmSync(directory, { recursive: true });
});

/** The processes of this machine; which pod they belong to is said here, as control groups may not be this test's to make. */
function withCgroups(pods: Readonly<Record<number, string>>): ProcessFiles {
  return {
    ...PROCESS_FILES,
    // The first process of the machine may not be this test's to look at.
    identity: (path) => PROCESS_FILES.identity(path === "/proc/1/ns/net" ? "/proc/self/ns/net" : path),
    read(path) {
      const pid = /^\/proc\/(\d+)\/cgroup$/.exec(path)?.[1];
      if (pid === undefined) return PROCESS_FILES.read(path);
      return pods[Number(pid)] === undefined ? "0::/\n" : podCgroup(pods[Number(pid)]);
    },
  };
}

/** Descriptors of network namespaces that this process has; other kinds come and go with its children. */
function openNamespaces(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith("net:[");
    } catch {
      return false;
    }
  }).length;
}

test("netns: the addresses read of a process are those of its interfaces", () => {
  const listed = JSON.parse(pod.run("ip", "-j", "address")) as { addr_info: { local: string }[] }[];
  const expected = listed.flatMap(({ addr_info }) => addr_info.map(({ local }) => local)).sort();
  const found = readFibTrie(readFileSync(`/proc/${pod.pid}/net/fib_trie`, "utf8"));
  readIfInet6(readFileSync(`/proc/${pod.pid}/net/if_inet6`, "utf8"), found);
  assert.deepEqual([...found].sort(), expected);
  assert.ok(found.has(V4) && found.has(V6));
});

test("netns: a pod is found by either address, not by a process that visits, and nothing is left open", async () => {
  const files = withCgroups({ [pod.pid]: UID, [visitor.pid as number]: UID, [other.pid]: OTHER_UID });
  const before = openNamespaces();
  for (const ip of [V4, V6]) {
    const wanted = new Map([[UID, { ips: [ip] }], [OTHER_UID, { ips: ["10.99.0.8"] }]]);
    const { found, problems } = await findNamespacesInSlices("/proc", wanted, { files });
    assert.deepEqual([...found.keys()], [UID]);
    assert.equal(fileIdentity(found.get(UID) as number), pathIdentity(pod.path));
    closeDescriptor(found.get(UID) as number);
    assert.equal(problems.filter((line) => line.includes("none of the pod's addresses")).length, 2);
  }
  assert.equal(openNamespaces(), before);
});

test("netns: processes come and go while the node is looked through", async () => {
  const before = openNamespaces();
  const brief = Array.from({ length: 40 }, () => spawn("unshare", ["--net", "sleep", `${Math.random() / 50}`]));
  const uids: Record<number, string> = { [pod.pid]: UID };
  for (const { pid } of brief) uids[pid as number] = OTHER_UID;
  const wanted = new Map([[UID, { ips: [V4] }], [OTHER_UID, { ips: ["10.99.0.8"] }]]);
  for (let i = 0; i < 20; i++) {
    const { found } = findNamespaces("/proc", wanted, { files: withCgroups(uids) });
    assert.deepEqual([...found.keys()], [UID]);
    closeDescriptor(found.get(UID) as number);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await Promise.all(brief.map((child) => child.exitCode ?? new Promise((resolve) => child.once("close", resolve))));
  assert.equal(openNamespaces(), before);
});

test("netns: a reported path is opened if it is another network namespace; all else is refused untouched", () => {
  const before = openNamespaces();
  const proc = join(directory, "proc");
  mkdirSync(join(proc, "1", "ns"), { recursive: true });
  symlinkSync(other.path, join(proc, "1", "ns", "net"));
  const opened = openReportedNetns(pod.path, "", proc);
  assert.equal(fileIdentity(opened), pathIdentity(pod.path));
  closeDescriptor(opened);
  // Below a root of its own, over a link, as in an agent's container.
  symlinkSync(pod.path, join(directory, "cni-1"));
  closeDescriptor(openReportedNetns("/netns/../cni-1", directory, proc));

  writeFileSync(join(directory, "file"), "");
  const fifo = join(directory, "fifo");
  pod.run("mkfifo", fifo);
  for (
    const [path, reason] of [
      ["relative", /the path is not absolute/],
      [join(directory, "missing"), /no such file or directory/],
      [join(directory, "file"), /it is not a namespace/],
      [fifo, /it is not a namespace/],
      ["/dev/null", /it is not a namespace/],
      ["/proc/self/ns/mnt", /it is a namespace, but not one of networks/],
      [other.path, /it is the namespace of the node itself/],
      ["/proc/self/ns/net", /it is the namespace of the node agent/],
      [`${pod.path}\0`, /zero byte/],
    ] as const
  ) {
    assert.throws(() => openReportedNetns(path, "", proc), (error: Error) => {
      assert.match(error.message, reason);
      assert.ok(error.message.startsWith("cannot use "));
      return true;
    });
  }
  assert.throws(() => openReportedNetns(pod.path, "", directory), /cannot see the network namespace of the node/);
  assert.equal(openNamespaces(), before);
});

test("netns cache: the same namespace keeps its first descriptor, another one replaces it, take hands it over", () => {
  const before = openNamespaces();
  const cache = createNetnsCache();
  const workload = { name: "web", namespace: "town", serviceAccount: "web" };
  cache.ensure(UID, workload);
  assert.deepEqual(cache.entries(), [{ uid: UID, workload, netns: undefined }]);
  const first = cache.upsert(UID, openNamespace(pod.path));
  const same = cache.upsert(UID, openNamespace(pod.path), { ...workload, name: "new" });
  assert.equal(same, first);
  assert.equal(openNamespaces(), before + 1);
  assert.equal(cache.entries()[0].workload?.name, "new");
  cache.ensure(UID);
  assert.equal(cache.get(UID), first, "what is known stays");
  assert.equal(first.path, `/proc/${process.pid}/fd/${first.fd}`);
  assert.equal(pathIdentity(first.path), first.identity);

  // In use while it is replaced.
  assert.ok(first.retain());
  const second = cache.upsert(UID, openNamespace(other.path));
  assert.notEqual(second.identity, first.identity);
  assert.equal(openNamespaces(), before + 2);
  first.release();
  assert.equal(openNamespaces(), before + 1);
  assert.equal(first.retain(), false);
  assert.throws(() => first.release(), /released more often/);

  assert.equal(cache.take(UID), second);
  assert.equal(cache.take(UID), undefined);
  assert.equal(cache.has(UID), false);
  assert.ok(existsSync(second.path), "it is the caller's now");
  second.release();
  assert.throws(() => cache.upsert(UID, 1 << 20), /is not open/);
  cache.upsert(OTHER_UID, openNamespace(pod.path));
  cache.clear();
  assert.deepEqual(cache.uids(), []);
  assert.equal(openNamespaces(), before);
});
