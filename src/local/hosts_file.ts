/**
 * Names for the pods: a hosts file with every service, mounted over /etc/hosts inside the sandbox only.
 */
import { readFile, writeFile } from "node:fs/promises";
import { tool } from "./run_tool.ts";

export interface HostLine {
  readonly address: string;
  readonly names: readonly string[];
}

/** What may stand in a hosts file; other names (wildcards) have no place there. */
const HOST_NAME = /^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$/;

/** The file's text: the machine's own lines, then one line for each address. */
export function renderHosts(machineHosts: string, hosts: readonly HostLine[]): string {
  const lines = hosts
    .map(({ address, names }) => ({ address, names: names.filter((name) => HOST_NAME.test(name)) }))
    .filter(({ names }) => names.length > 0)
    .map(({ address, names }) => `${address}\t${names.join(" ")}\n`);
  return `${machineHosts.trimEnd()}\n${lines.join("")}`;
}

/**
 * The function it resolves with puts a file of the run's own over /etc/hosts, with these services.
 *
 * A new file is mounted over the one before, in one step: who read a file that is just being written would not find a service
 * that was there all the time.
 */
export async function mountHosts(path: string): Promise<(hosts: readonly HostLine[]) => Promise<void>> {
  const machineHosts = await readFile("/etc/hosts", "utf8");
  let mounted = "";
  let version = 0;
  return async (hosts) => {
    const text = renderHosts(machineHosts, hosts);
    if (text === mounted) return;
    const file = `${path}.${++version}`;
    await writeFile(file, text);
    await tool(["mount", "--bind", file, "/etc/hosts"]);
    mounted = text;
  };
}
