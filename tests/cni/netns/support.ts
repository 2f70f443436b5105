/** A tree like /proc, of plain files: what stands for a namespace is a file, and links to it are of the same device and inode. */
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const UID = "863b91d4-4b68-4efa-917f-4b560e3e86aa";
export const OTHER_UID = "2c48913c-b29f-11e7-9350-020968147796";

export interface FakeProcess {
  readonly netns: string;
  /** The content of `cgroup`; undefined: the file is missing. */
  readonly cgroup?: string;
  readonly startTime?: number;
  /** Addresses of the interfaces in its namespace. */
  readonly ips?: readonly string[];
  readonly comm?: string;
  readonly cmdline?: readonly string[];
  readonly user?: number;
}

export function podCgroup(uid: string, container = "a".repeat(64)): string {
  return `0::/kubepods.slice/kubepods-pod${uid.replaceAll("-", "_")}.slice/cri-containerd-${container}.scope\n`;
}

export function statLine(pid: number, startTime: number, name = "server"): string {
  const fields = ["S", "1", ...Array.from({ length: 17 }, (_, i) => String(i)), String(startTime), "4096", "12"];
  return `${pid} (${name}) ${fields.join(" ")}\n`;
}

export function fibTrie(ips: readonly string[]): string {
  const leaves = ips.filter((ip) => !ip.includes(":")).map((ip) => `        |-- ${ip}\n           /32 host LOCAL\n`);
  const route = "     |-- 10.0.0.0\n        /24 link UNICAST\n";
  return `Main:\n  +-- 0.0.0.0/0 3 0 5\n${route}Local:\n  +-- 0.0.0.0/0 3 0 5\n${leaves.join("")}`;
}

export class FakeProc {
  readonly root = mkdtempSync(join(tmpdir(), "ambit-proc-"));
  readonly #netns = new Set<string>();

  constructor() {
    mkdirSync(join(this.root, "self"));
    mkdirSync(join(this.root, "sys"));
    writeFileSync(join(this.root, "uptime"), "1 1\n");
    this.add(1, { netns: "host", startTime: 1 });
  }

  add(
    pid: number,
    { netns, cgroup, startTime = 100, ips = [], comm = "server", cmdline = ["server"], user = 0 }: FakeProcess,
  ) {
    const directory = join(this.root, String(pid));
    const file = join(this.root, `netns-${netns}`);
    if (!this.#netns.has(netns)) writeFileSync(file, "");
    this.#netns.add(netns);
    mkdirSync(join(directory, "ns"), { recursive: true });
    mkdirSync(join(directory, "net"), { recursive: true });
    linkSync(file, join(directory, "ns", "net"));
    if (cgroup !== undefined) writeFileSync(join(directory, "cgroup"), cgroup);
    writeFileSync(join(directory, "stat"), statLine(pid, startTime, comm));
    writeFileSync(join(directory, "comm"), `${comm}\n`);
    writeFileSync(join(directory, "cmdline"), cmdline.map((word) => `${word}\0`).join(""));
    writeFileSync(
      join(directory, "status"),
      `Name:\t${comm}\nUmask:\t0022\nUid:\t${user}\t${user}\t${user}\t${user}\n`,
    );
    writeFileSync(join(directory, "net", "fib_trie"), fibTrie(ips));
    writeFileSync(join(directory, "net", "if_inet6"), ips.filter((ip) => ip.includes(":")).map(inet6Line).join(""));
  }

  remove(): void {
    rmSync(this.root, { recursive: true });
  }
}

/** Of a full-length address with all its zeros. */
function inet6Line(ip: string): string {
  return `${ip.split(":").map((group) => group.padStart(4, "0")).join("")} 02 40 00 80     eth0\n`;
}
