/**
 * The route that brings an application's replies back to ztunnel, reference cni.md section 4.2: packets with the return
 * mark look up table 100, where every address is local. iptables and nftables redirection share it.
 */
import { MARK_MASK, RETURN_MARK } from "./redirection.ts";
import { type RunInNetns, runOrThrow } from "./run_in_netns.ts";

const TABLE = "100";
const PREFERENCE = "32764";
const MARK = `0x${RETURN_MARK.toString(16)}/0x${MARK_MASK.toString(16)}`;
const RULE = ["fwmark", MARK, "pref", PREFERENCE, "lookup", TABLE] as const;

type Family = "-4" | "-6";
const EVERYTHING: Readonly<Record<Family, string>> = { "-4": "0.0.0.0/0", "-6": "::/0" };

/** Adds route and rule of each family, or leaves them as they are. */
export async function applyReturnRoute(run: RunInNetns, netns: string, ipv6: boolean): Promise<void> {
  for (const family of families(ipv6)) {
    await runOrThrow(run, netns, [
      ...["ip", family, "route", "replace", "local", EVERYTHING[family]],
      ...["dev", "lo", "table", TABLE, "scope", "host"],
    ]);
    if (!(await hasRule(run, netns, family))) await runOrThrow(run, netns, ["ip", family, "rule", "add", ...RULE]);
  }
}

/** What is missing, one line each. */
export async function verifyReturnRoute(run: RunInNetns, netns: string, ipv6: boolean): Promise<readonly string[]> {
  const missing: string[] = [];
  for (const family of families(ipv6)) {
    if (!(await hasRule(run, netns, family))) missing.push(`ip ${family} rule: ${RULE.join(" ")} is missing`);
    if (!(await hasRoute(run, netns, family))) {
      missing.push(`ip ${family} route: local ${EVERYTHING[family]} dev lo table ${TABLE} is missing`);
    }
  }
  return missing;
}

/** Removes rules and routes of both families. */
export async function removeReturnRoute(run: RunInNetns, netns: string): Promise<void> {
  for (const family of families(true)) {
    while (await hasRule(run, netns, family)) await runOrThrow(run, netns, ["ip", family, "rule", "del", ...RULE]);
    if (await hasRoute(run, netns, family)) {
      await runOrThrow(run, netns, [
        "ip",
        family,
        "route",
        "del",
        "local",
        EVERYTHING[family],
        "dev",
        "lo",
        "table",
        TABLE,
      ]);
    }
  }
}

function families(ipv6: boolean): readonly Family[] {
  return ipv6 ? ["-4", "-6"] : ["-4"];
}

async function hasRule(run: RunInNetns, netns: string, family: Family): Promise<boolean> {
  const rules = await runOrThrow(run, netns, ["ip", family, "rule", "list", "pref", PREFERENCE]);
  return rules.split("\n").some((line) => line.includes(`fwmark ${MARK} lookup ${TABLE}`));
}

/** A table that nothing was ever added to does not exist for the kernel: the listing then fails, or is empty. */
async function hasRoute(run: RunInNetns, netns: string, family: Family): Promise<boolean> {
  const { code, stdout } = await run(netns, ["ip", family, "route", "show", "table", TABLE], "");
  return code === 0 && stdout.split("\n").some((line) => line.startsWith("local default dev lo"));
}
