/** Network namespaces of the tests' own, in which the real tools run. */
import assert from "node:assert/strict";
import process from "node:process";
import { createIptablesRedirection } from "../../../src/cni/redirection/iptables.ts";
import { PROGRAMS } from "../../../src/cni/redirection/iptables_tool.ts";
import { createNetnsRunner } from "../../../src/cni/redirection/mod.ts";
import { createNftablesRedirection } from "../../../src/cni/redirection/nftables.ts";
import type { Redirection, RedirectionBackend } from "../../../src/cni/redirection/redirection.ts";
import type { RunInNetns } from "../../../src/cni/redirection/run_in_netns.ts";
import { openScratchNamespace } from "../../../src/platform/scratch_netns.ts";
import { closeDescriptor } from "../../../src/platform/socket.ts";

export const run = createNetnsRunner();

export const BACKENDS: readonly RedirectionBackend[] = ["nftables", "iptables-nft", "iptables-legacy"];

export function redirectionBy(backend: RedirectionBackend, runner: RunInNetns = run): Redirection {
  return backend === "nftables"
    ? createNftablesRedirection(runner)
    : createIptablesRedirection(runner, PROGRAMS[backend]);
}

/** A namespace whose loopback device is up, as in a pod. */
export async function withNetns(body: (netns: string) => Promise<void>): Promise<void> {
  const namespace = openScratchNamespace();
  assert.ok(typeof namespace === "number", "a network namespace takes root");
  const netns = `/proc/${process.pid}/fd/${namespace}`;
  try {
    await output(netns, "ip", "link", "set", "lo", "up");
    await body(netns);
  } finally {
    closeDescriptor(namespace);
  }
}

export async function output(netns: string, ...command: string[]): Promise<string> {
  return await input(netns, "", ...command);
}

export async function input(netns: string, text: string, ...command: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(netns, command, text);
  assert.equal(code, 0, `${command.join(" ")}: ${stderr}`);
  return stdout;
}

/** `nft -j list ruleset inet`, a chain or rule a line, without what differs from run to run: handles, counts, comments and nft's version. */
export async function nftRules(netns: string): Promise<string> {
  const listing = await output(netns, "nft", "-j", "list", "ruleset", "inet");
  const variable: Readonly<Record<string, unknown>> = { handle: undefined, comment: undefined, counter: null };
  const { nftables } = JSON.parse(listing, (key, value) => key in variable ? variable[key] : value) as {
    nftables: Record<string, { table: string; chain?: string; name?: string; family?: string; expr?: unknown }>[];
  };
  return nftables.flatMap(({ chain, rule }) => {
    if (rule !== undefined) return [`${rule.table} ${rule.chain} ${JSON.stringify(rule.expr)}\n`];
    if (chain === undefined) return [];
    const { family: _, table, name, ...entry } = chain;
    return [`${table} ${name} ${JSON.stringify(entry)}\n`];
  }).join("");
}

/** What iptables-save shows of both families, tables in order of their names, without comments, counts and the kernel's own chains. */
export async function iptablesRulesOf(netns: string, variant: "iptables-nft" | "iptables-legacy"): Promise<string> {
  const families = [];
  for (const program of [variant, variant.replace("ip", "ip6")]) {
    const saved = await output(netns, `${program}-save`);
    const tables = saved.split(/^(?=\*)/m).map((table) =>
      table.split("\n").filter((line) => !/^#|^COMMIT|^:\S+ [A-Z]|^$/.test(line)).map((line) =>
        line.replace(/ \[\d+:\d+\]$/, "")
      )
    );
    const lines = tables.filter((table) => table.length > 1).sort(([a = ""], [b = ""]) => a < b ? -1 : 1).flat();
    families.push(lines.map((line) => `${program.startsWith("ip6") ? "6" : "4"} ${line}\n`).join(""));
  }
  return families.join("");
}

/** Rules and routes of both families. */
export async function routing(netns: string): Promise<string> {
  const texts = [];
  for (const family of ["-4", "-6"]) {
    texts.push(await output(netns, "ip", family, "rule", "list"));
    texts.push((await run(netns, ["ip", family, "route", "show", "table", "100"], "")).stdout);
  }
  return texts.join("");
}

/** Old iptables keeps empty tables once it has made them; only their rules and chains are told. */
const EVERYTHING = `
nft list ruleset
for six in "" 6; do
  ip\${six}tables-nft-save
  ip\${six}tables-legacy-save | grep -v '^:[A-Z]* [A-Z]' | grep '^[:-]'
  ip -\${six:-4} rule list
  ip -\${six:-4} route show table 100 2>/dev/null
done
true
`;

/** All that may be changed in a namespace. */
export async function everything(netns: string): Promise<string> {
  const text = await output(netns, "sh", "-c", EVERYTHING);
  return text.replace(/^#.*\n/gm, "").replace(/\[\d+:\d+\]|packets \d+ bytes \d+/g, "");
}
