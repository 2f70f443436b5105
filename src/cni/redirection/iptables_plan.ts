/**
 * What has to be done so that a pod's iptables rules are as wanted: one text for `iptables-restore --noflush`. Pure.
 *
 * The text is one transaction a table: until it commits the old rules of the table act, from then on the new ones, and there is
 * nothing in between. Rules that capture come first and old ones in other tables are taken out after, so that at every
 * point, also when nobody finishes the work, a captured pod is captured by the old rules, by the new ones or by both.
 * Rules and chains of others are left alone.
 */
import { CHAIN_PREFIX, type TableRules } from "./iptables_rules.ts";
import { canonicalRule, type SavedRule, type SavedTable, type SavedTables, targetOf } from "./iptables_save.ts";

/** Where the rules that capture are, then the others; in `mangle` an older version captured too (section 4.5). */
const REPLACE_ORDER = ["nat", "raw", "mangle"];

/**
 * The guard that istio-cni puts up while it changes rules (section 4.4), and that stays when it dies: nothing goes in or out. Ambit needs
 * none, for it has the new rules in before the old ones go.
 */
const GUARDED_CHAINS = ["INPUT", "FORWARD", "OUTPUT"];
const GUARD_RULES = ["-p tcp -j DROP", "-p udp -j DROP"];

const NO_TABLE: SavedTable = { userChains: [], rules: [] };

/** The text, empty when all is as wanted. With nothing wanted it takes out all of ours, and leaves no chain behind. */
export function planRestore(found: SavedTables, wanted: readonly TableRules[]): string {
  const sections: string[] = [];
  for (const table of tableOrder(found, wanted)) {
    const lines = tableLines(found.get(table) ?? NO_TABLE, wanted.find((rules) => rules.table === table));
    if (table === "filter") lines.push(...guardLines(found));
    if (lines.length > 0) sections.push(`*${table}`, ...lines, "COMMIT");
  }
  return sections.map((line) => `${line}\n`).join("");
}

/** What differs from the wanted rules, one line each, `tool` in front. */
export function iptablesDifferences(
  tool: string,
  found: SavedTables,
  wanted: readonly TableRules[],
): readonly string[] {
  const differences: string[] = [];
  for (const table of tableOrder(found, wanted)) {
    const present = ourPart(found.get(table) ?? NO_TABLE);
    const rules = wanted.find((candidate) => candidate.table === table);
    const chains = new Set([...present.chains, ...present.jumps.keys(), ...wantedChains(rules)]);
    for (const chain of chains) {
      const problem = chainProblem(chain, present, rules);
      if (problem !== undefined) differences.push(`${tool}: table ${table}: chain ${chain} ${problem}`);
    }
  }
  if (guardLines(found).length > 0) differences.push(`${tool}: a guard of istio-cni drops all packets`);
  return differences;
}

/** Whether anything there is ours, or a guard. */
export function hasOurRules(found: SavedTables): boolean {
  return planRestore(found, []) !== "";
}

interface OurPart {
  readonly chains: readonly string[];
  /** The rules in our chains, as printed. */
  readonly inside: ReadonlyMap<string, readonly string[]>;
  /** The jumps to our chains from others, as printed. */
  readonly jumps: ReadonlyMap<string, readonly string[]>;
}

function ourPart({ userChains, rules }: SavedTable): OurPart {
  const jumps = rules.filter(({ chain, text }) => !isOurs(chain) && isOurs(targetOf(text) ?? ""));
  return {
    chains: userChains.filter(isOurs),
    inside: byChain(rules.filter(({ chain }) => isOurs(chain))),
    jumps: byChain(jumps),
  };
}

function tableOrder(found: SavedTables, wanted: readonly TableRules[]): readonly string[] {
  const names = new Set([...wanted.map(({ table }) => table), ...found.keys()]);
  const isFresh = [...found.values()].every(({ userChains }) => !userChains.some(isOurs));
  if (isFresh) return [...names];
  return [
    ...REPLACE_ORDER.filter((name) => names.has(name)),
    ...[...names].filter((name) => !REPLACE_ORDER.includes(name)),
  ];
}

function tableLines(found: SavedTable, wanted: TableRules | undefined): string[] {
  const present = ourPart(found);
  const chains = wantedChains(wanted);
  const touched = new Set([...present.chains, ...present.jumps.keys(), ...chains]);
  if ([...touched].every((chain) => chainProblem(chain, present, wanted) === undefined)) return [];

  const stale = present.chains.filter((chain) => !chains.has(chain));
  // To name one of our chains empties it.
  const lines = [...(wanted?.chains ?? []).map((chain) => `:${chain} - [0:0]`), ...stale.map((chain) => `-F ${chain}`)];
  const kept = new Set<string>();
  for (const [chain, texts] of present.jumps) {
    // A jump that is right stays where it is among the rules of others.
    if (chainProblem(chain, present, wanted) === undefined) kept.add(chain);
    else lines.push(...texts.map((text) => text.replace(/^-A/, "-D")));
  }
  lines.push(...stale.map((chain) => `-X ${chain}`));
  lines.push(...(wanted?.rules ?? []).filter((rule) => !kept.has(chainOf(rule))));
  return lines;
}

/** The chains that have rules in the wanted set, and those that are to exist. */
function wantedChains(wanted: TableRules | undefined): ReadonlySet<string> {
  return new Set([...(wanted?.chains ?? []), ...(wanted?.rules ?? []).map(chainOf)]);
}

function chainProblem(chain: string, present: OurPart, wanted: TableRules | undefined): string | undefined {
  const expected = (wanted?.rules ?? []).filter((rule) => chainOf(rule) === chain);
  if (!isOurs(chain)) {
    const jumps = present.jumps.get(chain) ?? [];
    if (sameRules(jumps, expected)) return undefined;
    return expected.length > jumps.length ? "does not jump to ours" : "has jumps that do not belong there";
  }
  if (wanted?.chains.includes(chain) !== true) return "does not belong there";
  if (!present.chains.includes(chain)) return "is missing";
  return sameRules(present.inside.get(chain) ?? [], expected) ? undefined : "has other rules";
}

function sameRules(found: readonly string[], expected: readonly string[]): boolean {
  return found.length === expected.length &&
    found.every((rule, index) => rule === expected[index] || canonicalRule(rule) === canonicalRule(expected[index]!));
}

/** Only the whole guard is taken for one, at the head of each chain: single rules may be somebody's. */
function guardLines(found: SavedTables): readonly string[] {
  const rules = found.get("filter")?.rules ?? [];
  const isGuarded = GUARDED_CHAINS.every((chain) => {
    const head = rules.filter((rule) => rule.chain === chain).slice(0, GUARD_RULES.length);
    const wanted = GUARD_RULES.map((rule) => canonicalRule(`-A ${chain} ${rule}`)).sort();
    return head.map(({ text }) => canonicalRule(text)).sort().join() === wanted.join();
  });
  if (!isGuarded) return [];
  return GUARDED_CHAINS.flatMap((chain) => GUARD_RULES.map((rule) => `-D ${chain} ${rule}`));
}

function byChain(rules: readonly SavedRule[]): ReadonlyMap<string, readonly string[]> {
  const chains = new Map<string, string[]>();
  for (const { chain, text } of rules) {
    const texts = chains.get(chain) ?? [];
    texts.push(text);
    chains.set(chain, texts);
  }
  return chains;
}

function chainOf(rule: string): string {
  return rule.split(" ", 2)[1] ?? "";
}

function isOurs(chain: string): boolean {
  return chain.startsWith(CHAIN_PREFIX);
}
