/**
 * Reads what iptables-save prints, and tells whether two rules are the same whatever the version of iptables that
 * prints them. Pure.
 */

/** A rule as printed. */
export interface SavedRule {
  readonly chain: string;
  /** `-A CHAIN ...` */
  readonly text: string;
}

export interface SavedTable {
  /** Chains that somebody made: those of the kernel have a policy. */
  readonly userChains: readonly string[];
  readonly rules: readonly SavedRule[];
}

/** By name of the table. */
export type SavedTables = ReadonlyMap<string, SavedTable>;

/** @throws Error when iptables-nft says that somebody else's nftables rules in one of its tables are beyond it. */
export function parseSave(text: string): SavedTables {
  const tables = new Map<string, { userChains: string[]; rules: SavedRule[] }>();
  let table: { userChains: string[]; rules: SavedRule[] } | undefined;
  for (const printed of text.split("\n")) {
    const line = printed.trim();
    if (/^# Table .* is incompatible/.test(line)) throw new Error(`iptables-save: ${line.slice(2)}`);
    if (line.startsWith("*")) {
      table = { userChains: [], rules: [] };
      tables.set(line.slice(1), table);
    } else if (line.startsWith(":")) {
      const [chain = "", policy] = line.slice(1).split(" ");
      if (policy === "-") table?.userChains.push(chain);
    } else {
      // With -c the counters stand in front.
      const rule = line.replace(/^\[\d+:\d+\] /, "");
      const chain = /^-A (\S+)/.exec(rule)?.[1];
      if (chain !== undefined) table?.rules.push({ chain, text: rule });
    }
  }
  return tables;
}

/** Where a rule jumps to; undefined when it does not. */
export function targetOf(text: string): string | undefined {
  const words = splitWords(text);
  const at = words.findIndex((word) => word === "-j" || word === "-g" || word === "--jump" || word === "--goto");
  return at < 0 ? undefined : words[at + 1];
}

/**
 * The conditions and the target of a rule in one order and spelling. Versions of iptables differ in the order of options, in
 * whether they name the match of a protocol (`-m tcp`), and in whether one address gets its prefix length.
 */
export function canonicalRule(text: string): string {
  const words = splitWords(text);
  const [, chain = ""] = words;
  const items: string[] = [];
  let owner = "";
  let item = "";
  let negated = false;
  const finish = () => {
    if (item !== "" && !/^-m (?:tcp|udp)$/.test(item)) items.push(item);
    item = "";
  };
  for (const word of words.slice(2)) {
    if (word === "!") {
      finish();
      negated = true;
    } else if (/^--?[a-z]/.test(word)) {
      finish();
      const isPort = /^--(?:[sd]port|source-port|destination-port)$/.test(word);
      // What an option means depends on the match or target before it.
      const place = word.startsWith("--") && !isPort ? owner : "";
      item = `${place}${negated ? "! " : ""}${LONG_NAMES[word] ?? word}`;
      negated = false;
    } else {
      if (item === "-m" || item === "-j" || item === "-g") owner = `${word} `;
      item += ` ${withPrefix(item, word)}`;
    }
  }
  finish();
  return [chain, ...items.sort()].join("; ");
}

const LONG_NAMES: Readonly<Record<string, string>> = {
  "--source-port": "--sport",
  "--destination-port": "--dport",
};

function withPrefix(item: string, value: string): string {
  if (!/-[sd]$/.test(item) || value.includes("/")) return value;
  return value.includes(":") ? `${value}/128` : `${value}/32`;
}

/** As a shell would: quotes hold words together, a backslash takes the next character as it is. */
function splitWords(text: string): string[] {
  const words: string[] = [];
  for (const [word] of text.matchAll(/(?:"(?:\\.|[^"\\])*"?|\\.|[^\s"\\]|\\$)+/g)) words.push(word);
  return words;
}
