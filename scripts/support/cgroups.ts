/**
 * Cgroups (v1) for a node of Kubernetes: in each hierarchy a child of the caller's own cgroup, which becomes the root of the node's
 * cgroup namespace. What an interrupted run has left is taken away by the next.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

const NAME = "ambit-cluster-";
const NEEDED = ["cpu", "cpuset", "memory", "pids"];

export function hasCgroups(): boolean {
  const mounted = hierarchies().map(({ controller }) => controller);
  return NEEDED.every((controller) => mounted.includes(controller));
}

/** Resolves with the directories. */
export function createCgroups(): readonly string[] {
  return hierarchies().map(({ controller, own }) => {
    for (const name of readdirSync(own)) {
      if (name.startsWith(NAME) && !existsSync(`/proc/${name.slice(NAME.length)}`)) removeTree(join(own, name));
    }
    const path = join(own, `${NAME}${process.pid}`);
    mkdirSync(path);
    // A new cpuset has no processors, and takes nobody in.
    if (controller === "cpuset") {
      for (const name of ["cpuset.cpus", "cpuset.mems"]) writeFileSync(join(path, name), readFileSync(join(own, name)));
    }
    return path;
  });
}

export function removeCgroups(paths: readonly string[]): void {
  for (const path of paths) removeTree(path);
}

function hierarchies(): { readonly controller: string; readonly own: string }[] {
  return readFileSync("/proc/self/cgroup", "utf8").split("\n").flatMap((line) => {
    const [, name = "", path = ""] = line.split(":");
    const controller = name.replace(/^name=/, "");
    const own = join("/sys/fs/cgroup", controller, path);
    return controller !== "" && existsSync(own) ? [{ controller, own }] : [];
  });
}

/** The kernel needs a moment after the last process before it gives a cgroup up. */
const ATTEMPTS = 50;
const moment = new Int32Array(new SharedArrayBuffer(4));

function removeTree(path: string): void {
  for (let attempt = 0; attempt < ATTEMPTS && existsSync(path); attempt++) {
    if (attempt > 0) Atomics.wait(moment, 0, 0, 100);
    for (const directory of [...directoriesBelow(path), path]) {
      try {
        rmdirSync(directory);
      } catch {
        // Busy: once more.
      }
    }
  }
}

/** Deepest first. */
function directoriesBelow(path: string): string[] {
  try {
    return readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name))
      .sort((a, b) => b.length - a.length);
  } catch {
    return [];
  }
}
