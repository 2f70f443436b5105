/**
 * Which pod a process belongs to, by the paths of its cgroups, reference cni.md section 3.7. Pure.
 *
 * The uid of a pod stands in the path of every runtime's cgroups but one: cri-o beside kubeedge names the container only.
 */

/** ASCII punctuation, as POSIX counts it. */
const PUNCTUATION = "!-/:-@\\[-`{-~";
const P = `[${PUNCTUATION}]`;
const HEX = (digits: number) => `[0-9a-fA-F]{${digits}}`;
/** Groups of a uid may be parted by anything or nothing: systemd does not take "-" in a unit's name. */
const UID = [8, 4, 4, 4, 12].map(HEX).join(`${P}?`);

const POD_AND_CONTAINER = new RegExp(`${P}pod(${UID})${P}(?:[^${PUNCTUATION}]+${P})*([^${PUNCTUATION}]+)$`);
const CRIO_CONTAINER = new RegExp(`crio${P}([^${PUNCTUATION}]+)$`);
const ANY_POD = new RegExp(`pod${UID}${P}`);
const EVERY_PUNCTUATION = new RegExp(P, "g");

export interface CgroupOwner {
  /** The pod's uid in Kubernetes' form; "" where the path does not tell. */
  readonly podUid: string;
  readonly containerId: string;
}

/** The content of a process' `cgroup` cannot be what it says. */
export class CgroupFormatError extends Error {
  override readonly name = "CgroupFormatError";
}

/**
 * Reads `/proc/PID/cgroup`, one line for each hierarchy: `ID:controllers:path`. Undefined: no container of a pod.
 * @throws CgroupFormatError for a malformed line, and when lines name different pods or containers
 */
export function readCgroup(text: string): CgroupOwner | undefined {
  let owner: CgroupOwner | undefined;
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const first = line.indexOf(":");
    const second = line.indexOf(":", first + 1);
    if (first < 0 || second < 0) throw new CgroupFormatError(`a line of cgroup has fewer than two colons: ${line}`);
    const found = readPath(line.slice(second + 1));
    if (found === undefined) continue;
    owner ??= found;
    if (owner.containerId !== found.containerId) {
      throw new CgroupFormatError(
        `multiple container IDs found in cgroups (${owner.containerId}, ${found.containerId})`,
      );
    }
    if (owner.podUid !== found.podUid) {
      throw new CgroupFormatError(`multiple pod UIDs found in cgroups (${owner.podUid}, ${found.podUid})`);
    }
  }
  return owner;
}

function readPath(path: string): CgroupOwner | undefined {
  const trimmed = path.endsWith(".scope") ? path.slice(0, -".scope".length) : path;
  const pod = POD_AND_CONTAINER.exec(trimmed);
  if (pod !== null) return { podUid: pod[1].replace(EVERY_PUNCTUATION, "-"), containerId: pod[2] };
  const container = CRIO_CONTAINER.exec(trimmed);
  return container === null || ANY_POD.test(trimmed) ? undefined : { podUid: "", containerId: container[1] };
}
