/**
 * Control groups as a kubelet makes them, so that an agent finds out by /proc which pod a process belongs to. A group lies in a
 * hierarchy of the machine that this process may write, below a directory of this run; it limits nothing.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

/** Version 2 first, as most nodes have it; of version 1, the one that holds nothing back. */
const HIERARCHIES = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/freezer", "/sys/fs/cgroup/pids"];
const PREFIX = "ambit-cni-";

export class Cgroups {
  private constructor(readonly directory: string) {}

  /** Makes the run's directory, and removes what ended runs have left. */
  static create(): Cgroups {
    for (const hierarchy of HIERARCHIES) {
      if (!existsSync(join(hierarchy, "cgroup.procs"))) continue;
      try {
        removeLeftOvers(hierarchy);
        const directory = join(hierarchy, `${PREFIX}${process.pid}`);
        mkdirSync(directory, { recursive: true });
        return new Cgroups(directory);
      } catch {
        // Read-only here; the next one.
      }
    }
    throw new Error(`none of ${HIERARCHIES.join(", ")} can be written: pods' processes need control groups`);
  }

  /** Makes the group of a container and returns the file that takes its processes. */
  container(node: string, podUid: string, containerId: string): string {
    const directory = join(this.directory, node, "kubepods/burstable", `pod${podUid}`, containerId);
    mkdirSync(directory, { recursive: true });
    return join(directory, "cgroup.procs");
  }

  /** Its processes must have ended. */
  removePod(node: string, podUid: string): void {
    removeTree(join(this.directory, node, "kubepods/burstable", `pod${podUid}`));
  }

  remove(): void {
    removeTree(this.directory);
  }
}

function removeLeftOvers(hierarchy: string): void {
  for (const name of readdirSync(hierarchy)) {
    const pid = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : "";
    if (pid !== "" && !existsSync(`/proc/${pid}`)) removeTree(join(hierarchy, name));
  }
}

/** Only directories can be removed there. Those still in use stay. */
function removeTree(directory: string): void {
  if (!existsSync(directory)) return;
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (statSync(path).isDirectory()) removeTree(path);
  }
  try {
    rmdirSync(directory);
  } catch {
    // A process is still in it.
  }
}
