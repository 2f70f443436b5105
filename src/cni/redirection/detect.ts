/**
 * Which means of redirection this node has, reference cni.md sections 4.6 and 4.7. Looking changes nothing on the node: what has to be
 * tried is tried in a network namespace of nobody, so that no look is fooled by the one before it.
 */
import { hasProbeSets } from "../host/ipset.ts";
import { kernelHasIpv6 } from "./inside.ts";
import { CHAIN_PREFIX, type Family } from "./iptables_rules.ts";
import { parseSave, targetOf } from "./iptables_save.ts";
import { type IptablesPrograms, type IptablesVariant, PROGRAMS } from "./iptables_tool.ts";
import { isMissingTool, type RunInNetns, runOrThrow } from "./run_in_netns.ts";
import { withScratchNamespace } from "./scratch.ts";

export type DetectLog = (level: "warn" | "info" | "debug", message: string) => void;

export interface DetectOptions {
  readonly run: RunInNetns;
  /** The node's network namespace. */
  readonly hostNetns: string;
  /** Whether IPv6 is captured too: without it a missing ip6tables is no matter. */
  readonly ipv6: boolean;
  /** FORCE_IPTABLES_BINARY. */
  readonly force: "legacy" | "nft" | "";
  /** What was chosen before on this node since it was started. */
  readonly remembered: IptablesVariant | undefined;
  readonly log: DetectLog;
}

export interface IptablesChoice {
  readonly programs: IptablesPrograms;
  readonly reason: string;
}

/** By the name that a distribution gives to the one it chose. */
const PLAIN = { ipv4: "iptables", ipv6: "ip6tables" };

/** @throws Error when no iptables is usable, with what is wrong with each. */
export async function detectIptables(options: DetectOptions): Promise<IptablesChoice> {
  const { force, remembered, log } = options;
  const problems: string[] = [];
  const isUsable = async (programs: IptablesPrograms) => {
    const found = await usabilityProblems(options, programs);
    problems.push(...found);
    return found.length === 0;
  };

  if (force !== "") {
    const programs = PROGRAMS[force === "legacy" ? "iptables-legacy" : "iptables-nft"];
    if (await isUsable(programs)) return { programs, reason: `FORCE_IPTABLES_BINARY is ${force}` };
    throw new Error(`FORCE_IPTABLES_BINARY is ${force}, but ${problems.join("; ")}`);
  }
  if (remembered !== undefined) {
    if (await isUsable(PROGRAMS[remembered])) {
      return { programs: PROGRAMS[remembered], reason: "it was chosen before, since the node was started" };
    }
    log("warn", `${remembered} was chosen before and is not usable any more: ${problems.join("; ")}`);
  }
  if (await legacyIsInUse(options) && await isUsable(PROGRAMS["iptables-legacy"])) {
    return { programs: PROGRAMS["iptables-legacy"], reason: "the node has rules of legacy iptables" };
  }
  if (await isUsable(PROGRAMS["iptables-nft"])) {
    return { programs: PROGRAMS["iptables-nft"], reason: "the node has no rules of legacy iptables" };
  }
  const plain = await plainPrograms(options, problems);
  if (plain !== undefined && await isUsable(plain)) {
    return { programs: plain, reason: "the node has no other iptables" };
  }
  throw new Error(`no iptables is usable: ${problems.join("; ")}`);
}

/** Whether nftables proper is to be used; the answer is for a person. */
export async function detectNativeNftables(
  { run, hostNetns, log }: Pick<DetectOptions, "run" | "hostNetns" | "log">,
): Promise<{ readonly isUsable: boolean; readonly reason: string }> {
  try {
    if (await hasProbeSets(run, hostNetns)) {
      return {
        isUsable: false,
        reason: "the node has the sets of an agent that used iptables; it takes effect when the node is started again",
      };
    }
  } catch (error) {
    // Without the tool, or without the kernel's part of it, there was no agent that used it.
    if (!isMissingTool(error)) {
      log("debug", `cannot look for sets of an agent that used iptables: ${(error as Error).message}`);
    }
  }
  try {
    const { code, stdout, stderr } = await run(hostNetns, ["nft", "--json", "list", "tables"], "");
    const words = `${stdout}\n${stderr}`;
    if (/JSON support not compiled-in/i.test(words)) return { isUsable: false, reason: "nft is built without JSON" };
    if (code !== 0) {
      log(
        "warn",
        `nft --json list tables failed (${code ?? "killed"}): ${stderr.trim()}; nftables is used all the same`,
      );
    }
  } catch (error) {
    log("warn", `nft --json list tables failed: ${(error as Error).message}; nftables is used all the same`);
  }
  return { isUsable: true, reason: "NATIVE_NFTABLES is set" };
}

/** Rules of others that somebody added: tables that are just there say nothing, and neither do rules of ours. */
async function legacyIsInUse({ run, hostNetns, log }: DetectOptions): Promise<boolean> {
  for (const family of ["ipv4", "ipv6"] as const) {
    const program = `${PROGRAMS["iptables-legacy"][family]}-save`;
    try {
      const tables = parseSave(await runOrThrow(run, hostNetns, [program]));
      const isOurs = (chain: string | undefined) => chain?.startsWith(CHAIN_PREFIX) === true;
      for (const { rules } of tables.values()) {
        if (rules.some(({ chain, text }) => !isOurs(chain) && !isOurs(targetOf(text)))) return true;
      }
    } catch (error) {
      if (!isMissingTool(error)) log("debug", `cannot list rules of legacy iptables: ${(error as Error).message}`);
    }
  }
  return false;
}

/** What keeps these programs from being used, one line each. */
async function usabilityProblems({ run, ipv6 }: DetectOptions, programs: IptablesPrograms): Promise<readonly string[]> {
  const families: readonly Family[] = ipv6 && kernelHasIpv6() ? ["ipv4", "ipv6"] : ["ipv4"];
  const problems: string[] = [];
  const tried = await withScratchNamespace(async (netns) => {
    for (const family of families) {
      const problem = await probe(run, netns, programs[family]);
      if (problem !== undefined) problems.push(problem);
    }
    return true;
  });
  return tried === undefined
    ? [
      `${programs.variant} cannot be tried: a new network namespace cannot be made, which takes the capability SYS_ADMIN`,
    ]
    : problems;
}

/** A rule that no packet can meet. */
const PROBE_RULE = "-A INPUT -p 255 -j RETURN";

async function probe(run: RunInNetns, netns: string, program: string): Promise<string | undefined> {
  try {
    await runOrThrow(run, netns, [`${program}-restore`, "--noflush"], `*nat\n${PROBE_RULE}\nCOMMIT\n`);
    const saved = parseSave(await runOrThrow(run, netns, [`${program}-save`]));
    if (saved.get("nat")?.rules.some(({ text }) => /^-A INPUT -p \S+ -j RETURN$/.test(text)) === true) return undefined;
    return `${program}-save does not show a rule that ${program}-restore has made`;
  } catch (error) {
    return (error as Error).message;
  }
}

/** `iptables v1.8.9 (nf_tables)`, `(legacy)`, or before 1.8 nothing in brackets, which is the old one. */
async function plainPrograms(
  { run, hostNetns }: DetectOptions,
  problems: string[],
): Promise<IptablesPrograms | undefined> {
  try {
    const version = await runOrThrow(run, hostNetns, [`${PLAIN.ipv4}-save`, "--version"]);
    return { ...PLAIN, variant: version.includes("nf_tables") ? "iptables-nft" : "iptables-legacy" };
  } catch (error) {
    // Versions before 1.8 do not know the option.
    if (!isMissingTool(error)) return { ...PLAIN, variant: "iptables-legacy" };
    problems.push((error as Error).message);
    return undefined;
  }
}
