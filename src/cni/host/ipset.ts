/** Sets of addresses with a comment on each, by the tool `ipset`; what iptables' rules refer to. */
import { canonicalIp } from "../../mesh/ip.ts";
import { type RunInNetns, runOrThrow } from "../redirection/run_in_netns.ts";
import { type Changes, type Entries, type Family, ofFamily, PROBE_SETS } from "./backend.ts";

/** Whether either set is there, as when a node agent with iptables has run since the node was started. */
export async function hasProbeSets(run: RunInNetns, netns: string): Promise<boolean> {
  const names = (await runOrThrow(run, netns, ["ipset", "list", "-name"])).split("\n");
  return names.includes(PROBE_SETS.ipv4) || names.includes(PROBE_SETS.ipv6);
}

export interface FoundSet {
  /** It holds addresses of the right family, and comments. */
  readonly usable: boolean;
  readonly entries: Entries;
}

/** Undefined: there is no such set. */
export async function readSet(run: RunInNetns, netns: string, family: Family): Promise<FoundSet | undefined> {
  const command = ["ipset", "save", family.set];
  const { code, stdout, stderr } = await run(netns, command, "");
  if (code !== 0) {
    if (/does not exist/.test(stderr)) return undefined;
    throw new Error(`"${command.join(" ")}" in ${netns} failed (${code ?? "killed"}): ${stderr.trim()}`);
  }
  return parseSave(stdout, family);
}

const ADD = /^add \S+ (\S+)(?: .*?comment "([^"]*)")?/;

/** Reads what `ipset save` prints. */
export function parseSave(text: string, { ipv6, set }: Family): FoundSet {
  const entries = new Map<string, string>();
  let usable = false;
  for (const line of text.split("\n")) {
    if (line.startsWith(`create ${set} `)) {
      const words = line.split(" ");
      usable = words[2] === "hash:ip" && words[words.indexOf("family") + 1] === (ipv6 ? "inet6" : "inet") &&
        words.includes("comment");
      continue;
    }
    const [, ip, comment = ""] = ADD.exec(line) ?? [];
    const address = ip === undefined ? undefined : canonicalIp(ip);
    if (address !== undefined) entries.set(address, comment);
  }
  return { usable, entries };
}

export function createLine({ ipv6, set }: Family): string {
  return `create ${set} hash:ip family ${ipv6 ? "inet6" : "inet"} comment`;
}

/** For `ipset restore -exist`: adding again changes the comment, deleting what is not there is no error. */
export function changeLines({ add, remove }: Changes, family: Family): string[] {
  const gone = ofFamily(new Map(remove.map((ip) => [ip, ""])), family);
  return [
    ...gone.map(([ip]) => `del ${family.set} ${ip}`),
    ...ofFamily(add, family).map(([ip, uid]) => `add ${family.set} ${ip} comment "${uid}"`),
  ];
}

export async function restore(run: RunInNetns, netns: string, lines: readonly string[]): Promise<void> {
  if (lines.length > 0) await runOrThrow(run, netns, ["ipset", "restore", "-exist"], lines.join("\n") + "\n");
}

/** Empties and removes the set. One that is not there is no error. */
export async function destroySet(run: RunInNetns, netns: string, family: Family): Promise<void> {
  if (await readSet(run, netns, family) === undefined) return;
  await runOrThrow(run, netns, ["ipset", "flush", family.set]);
  await runOrThrow(run, netns, ["ipset", "destroy", family.set]);
}
