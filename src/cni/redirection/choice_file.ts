/**
 * The variant of iptables that was chosen, kept over restarts of the agent: rules that appear on the node meanwhile must not move pods
 * from one to the other. It holds until the node is started again, when all pods are new.
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { IptablesVariant } from "./iptables_tool.ts";

const NAME = "redirection.json";
const BOOT_ID = "/proc/sys/kernel/random/boot_id";

/** Undefined when there is none, when it is of an earlier start of the node, and when it cannot be read. */
export async function readChoice(directory: string): Promise<IptablesVariant | undefined> {
  try {
    const { boot, iptables } = JSON.parse(await readFile(join(directory, NAME), "utf8"));
    if (boot !== await bootId()) return undefined;
    return iptables === "iptables-nft" || iptables === "iptables-legacy" ? iptables : undefined;
  } catch {
    return undefined;
  }
}

/** Rejects when the directory cannot be written to. */
export async function writeChoice(directory: string, iptables: IptablesVariant): Promise<void> {
  const path = join(directory, NAME);
  await writeFile(`${path}.new`, JSON.stringify({ boot: await bootId(), iptables }) + "\n", { mode: 0o600 });
  await rename(`${path}.new`, path);
}

async function bootId(): Promise<string> {
  return (await readFile(BOOT_ID, "utf8")).trim();
}
