/** Discovery in a tree of plain files that looks like /proc, as every state of a node can be made in it. */
import assert from "node:assert/strict";
import { readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { PROCESS_FILES, type ProcessFiles } from "../../../src/cni/netns/candidate.ts";
import { findNamespaces, findNamespacesInSlices, type WantedPod } from "../../../src/cni/netns/discover.ts";
import { createNamespaceFinder } from "../../../src/cni/netns/finder.ts";
import { EACCES } from "../../../src/platform/errno.ts";
import { fileIdentity } from "../../../src/platform/netns.ts";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import { FakeProc, OTHER_UID, podCgroup, statLine, UID } from "./support.ts";

const IPS = ["10.0.0.7"];
const WANTED = new Map<string, WantedPod>([[UID, { ips: IPS }]]);

let proc: FakeProc;
let files: number;
beforeEach(() => {
  proc = new FakeProc();
  files = openFiles();
});
afterEach(() => {
  proc.remove();
  assert.equal(openFiles(), files, "a descriptor was left open");
});

function openFiles(): number {
  return readdirSync("/proc/self/fd").length;
}

/** The name of the fake namespace behind a descriptor, which is closed. */
function nameOf(fd: number | undefined): string | undefined {
  if (fd === undefined) return undefined;
  const identity = fileIdentity(fd);
  closeDescriptor(fd);
  return readdirSync(proc.root).filter((name) => name.startsWith("netns-")).find((name) => {
    const { ino } = statSync(join(proc.root, name));
    return identity?.endsWith(`:${ino}`);
  })?.slice("netns-".length);
}

function find(wanted = WANTED, options: { files?: ProcessFiles } = {}) {
  const { found, problems } = findNamespaces(proc.root, wanted, options);
  const names = Object.fromEntries([...found].map(([uid, fd]) => [uid, nameOf(fd)]));
  return { names, problems };
}

test("discover: finds a pod's namespace by its process, and only those of pods that are wanted", () => {
  proc.add(100, { netns: "pod", cgroup: podCgroup(UID), ips: ["127.0.0.1", ...IPS] });
  proc.add(200, { netns: "other", cgroup: podCgroup(OTHER_UID), ips: ["10.0.0.8"] });
  proc.add(300, { netns: "shell", cgroup: "0::/user.slice\n", ips: IPS });
  assert.deepEqual(find(), { names: { [UID]: "pod" }, problems: [] });
  const both = new Map([...WANTED, [OTHER_UID, { ips: ["10.0.0.8"] }]]);
  assert.deepEqual(find(both).names, { [UID]: "pod", [OTHER_UID]: "other" });
});

test("discover: the node's own namespace is no pod's, whatever its process says", () => {
  proc.add(100, { netns: "host", cgroup: podCgroup(UID), ips: IPS });
  assert.deepEqual(find(), { names: {}, problems: [] });
});

test("discover: of several namespaces that have the pod's address, that of the oldest process counts", () => {
  proc.add(100, { netns: "young", cgroup: podCgroup(UID), startTime: 900, ips: IPS });
  proc.add(200, { netns: "old", cgroup: podCgroup(UID), startTime: 30, ips: IPS });
  proc.add(300, { netns: "middle", cgroup: podCgroup(UID), startTime: 500, ips: IPS });
  const { names, problems } = find();
  assert.deepEqual(names, { [UID]: "old" });
  assert.equal(problems.length, 2);
  assert.match(problems[0], /processes 100 and 200 are in different network namespaces/);
});

test("discover: a process that visits another pod's namespace does not make it its own pod's, nor hide it from its owner", () => {
  proc.add(100, { netns: "other", cgroup: podCgroup(UID), startTime: 1, ips: ["10.0.0.8"] });
  proc.add(200, { netns: "other", cgroup: podCgroup(OTHER_UID), ips: ["10.0.0.8"] });
  proc.add(300, { netns: "pod", cgroup: podCgroup(UID), startTime: 500, ips: IPS });
  const both = new Map([...WANTED, [OTHER_UID, { ips: ["10.0.0.8"] }]]);
  const { names, problems } = find(both);
  assert.deepEqual(names, { [UID]: "pod", [OTHER_UID]: "other" });
  assert.match(problems[0], /process 100: its network namespace has none of the pod's addresses/);
});

test("discover: any of the pod's addresses will do, in either family and any form", () => {
  proc.add(100, { netns: "pod", cgroup: podCgroup(UID), ips: ["fd00:0:0:0:0:0:0:7"] });
  for (const ips of [["10.9.9.9", "fd00::7"], ["FD00::0007"]]) {
    assert.deepEqual(find(new Map([[UID, { ips }]])).names, { [UID]: "pod" });
  }
  proc.add(200, { netns: "second", cgroup: podCgroup(OTHER_UID), ips: ["10.0.0.8"] });
  assert.deepEqual(find(new Map([[OTHER_UID, { ips: ["::ffff:10.0.0.8"] }]])).names, { [OTHER_UID]: "second" });
});

test("discover: a pod without an address is not guessed", () => {
  proc.add(100, { netns: "pod", cgroup: podCgroup(UID), ips: IPS });
  for (const ips of [[], ["nonsense"]]) {
    const { names, problems } = find(new Map([[UID, { ips }]]));
    assert.deepEqual(names, {});
    assert.match(problems[0], /has no address yet/);
  }
});

test("discover: processes of which a file is missing, cut or odd are passed over", () => {
  for (const [pid, file] of [[100, "cgroup"], [101, "stat"], [102, "ns/net"]] as const) {
    proc.add(pid, { netns: "pod", cgroup: podCgroup(UID), ips: IPS });
    rmSync(join(proc.root, String(pid), file));
  }
  proc.add(103, { netns: "pod", cgroup: "no colons\n", ips: IPS });
  proc.add(104, { netns: "pod", cgroup: podCgroup(UID) + podCgroup(OTHER_UID), ips: IPS });
  proc.add(105, { netns: "pod", cgroup: podCgroup(UID), ips: IPS });
  writeFileSync(join(proc.root, "105", "stat"), "105 (x) S");
  assert.deepEqual(find().names, {});
  proc.add(106, { netns: "pod", cgroup: podCgroup(UID), ips: IPS });
  assert.deepEqual(find().names, { [UID]: "pod" });
});

/** Does something when a file of a process is asked for. */
function interfere(on: (what: "identity" | "read" | "open", path: string, times: number) => void): ProcessFiles {
  const times = new Map<string, number>();
  const count = (what: "identity" | "read" | "open", path: string) => {
    const key = `${what} ${path}`;
    times.set(key, (times.get(key) ?? 0) + 1);
    on(what, path.slice(proc.root.length + 1), times.get(key)!);
  };
  return {
    ...PROCESS_FILES,
    identity: (path) => (count("identity", path), PROCESS_FILES.identity(path)),
    read: (path) => (count("read", path), PROCESS_FILES.read(path)),
    open: (path) => (count("open", path), PROCESS_FILES.open(path)),
  };
}

test("discover: a process that exits at any step is passed over, and nothing is left open", () => {
  const steps: string[] = [];
  proc.add(100, { netns: "pod", cgroup: podCgroup(UID), ips: IPS });
  find(WANTED, { files: interfere((what, path) => void (path.startsWith("100/") && steps.push(`${what} ${path}`))) });
  assert.ok(steps.length >= 8, steps.join("\n"));
  // After the last step nothing is asked any more.
  for (let step = 0; step < steps.length; step++) {
    rmSync(join(proc.root, "100"), { recursive: true, force: true });
    proc.add(100, { netns: "pod", cgroup: podCgroup(UID), ips: IPS });
    let done = 0;
    const { names } = find(WANTED, {
      files: interfere((_, path) => {
        if (path.startsWith("100/") && done++ === step) rmSync(join(proc.root, "100"), { recursive: true });
      }),
    });
    assert.deepEqual(names, {}, `gone before ${steps[step]}`);
  }
});

test("discover: a number that is given out again meanwhile, or a process that moves on, is not mixed up", () => {
  proc.add(100, { netns: "pod", cgroup: podCgroup(UID), ips: IPS });
  const reused = find(WANTED, {
    files: interfere((what, path, times) => {
      if (what === "read" && path === "100/stat" && times === 2) {
        writeFileSync(join(proc.root, "100", "stat"), statLine(100, 101));
      }
    }),
  });
  assert.deepEqual(reused.names, {});
  assert.match(reused.problems[0], /it exited/);
  for (const at of ["open 100/ns/net 1", "identity 100/ns/net 2"]) {
    rmSync(join(proc.root, "100"), { recursive: true, force: true });
    proc.add(100, { netns: "pod", cgroup: podCgroup(UID), ips: IPS });
    const moved = find(WANTED, {
      files: interfere((what, path, times) => {
        if (`${what} ${path} ${times}` !== at) return;
        rmSync(join(proc.root, "100"), { recursive: true });
        proc.add(100, { netns: "elsewhere", cgroup: podCgroup(UID), ips: IPS });
      }),
    });
    assert.deepEqual(moved.names, {}, at);
    assert.match(moved.problems[0], /changed its network namespace meanwhile/);
  }
});

test("discover: without the right to look it says which is missing", () => {
  rmSync(join(proc.root, "1", "ns", "net"));
  assert.throws(() => find(), /cannot see the network namespace of the node.*SYS_PTRACE.*hidepid/);
});

test("discover: in slices it finds the same, and lets others work in between; what it holds is closed if that fails", async () => {
  proc.add(100, { netns: "pod", cgroup: podCgroup(UID), ips: IPS });
  for (let pid = 200; pid < 260; pid++) proc.add(pid, { netns: "host", cgroup: "0::/\n" });
  let clock = 0;
  let pauses = 0;
  const nowMs = () => clock += 1;
  const { found, processes } = await findNamespacesInSlices(proc.root, WANTED, {
    nowMs,
    pause: () => Promise.resolve(void pauses++),
  });
  assert.equal(nameOf(found.get(UID)), "pod");
  assert.equal(processes, 62);
  assert.ok(pauses > 20, `${pauses}`);
  await assert.rejects(
    findNamespacesInSlices(proc.root, WANTED, {
      nowMs,
      pause: () => pauses++ > 60 ? Promise.reject(new Error("stopped")) : Promise.resolve(),
    }),
    /stopped/,
  );
});

test("finder: who asks during a look shares the next one; what a look has seen answers without another", async () => {
  proc.add(100, { netns: "pod", cgroup: podCgroup(UID), ips: IPS });
  proc.add(200, { netns: "other", cgroup: podCgroup(OTHER_UID), ips: ["10.0.0.8"] });
  let listings = 0;
  const counted = interfere((what, path) => void (what === "identity" && path === "1/ns/net" && listings++));
  const finder = createNamespaceFinder(proc.root, { files: counted });
  const other = new Map([[OTHER_UID, { ips: ["10.0.0.8"] }]]);
  const absent = new Map([["nobody", { ips: ["10.0.0.9"] }]]);
  const answers = await Promise.all([
    finder.find(WANTED),
    finder.find(other),
    finder.find(WANTED),
    finder.find(absent),
  ]);
  assert.deepEqual(answers.map(({ found }) => found.size), [1, 1, 1, 0]);
  assert.ok(answers.every(({ processes }) => processes === 3));
  for (const { found } of answers) for (const fd of found.values()) closeDescriptor(fd);

  const again = await finder.find(other);
  assert.equal(again.processes, 1, "one process was looked at");
  assert.equal(nameOf(again.found.get(OTHER_UID)), "other");
  // It is not there any more: everything is looked at anew.
  rmSync(join(proc.root, "200"), { recursive: true });
  proc.add(300, { netns: "third", cgroup: podCgroup(OTHER_UID), ips: ["10.0.0.8"] });
  const moved = await finder.find(other);
  assert.equal(nameOf(moved.found.get(OTHER_UID)), "third");
  assert.equal(moved.processes, 3);
  assert.ok(listings > 0);

  rmSync(join(proc.root, "1"), { recursive: true });
  const known = finder.find(new Map([...other, ...absent]));
  await assert.rejects(known, /cannot see the network namespace of the node/);
});

test("discover: processes that may not be looked at are counted", () => {
  proc.add(100, { netns: "pod", cgroup: podCgroup(UID), ips: IPS });
  const denied: ProcessFiles = {
    ...PROCESS_FILES,
    identity: (path) => path.includes("/100/") ? undefined : PROCESS_FILES.identity(path),
    errno: () => EACCES,
  };
  assert.deepEqual(find(WANTED, { files: denied }), {
    names: {},
    problems: ["1 processes could not be looked at: permission denied; SYS_PTRACE is needed"],
  });
});
