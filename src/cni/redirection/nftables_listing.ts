/**
 * What `nft -j list ruleset` shows of our tables (libnftables-json(5)), and how it differs from what it should show. Pure.
 */
import { NFT_TABLES, nftChains, ruleComment } from "./nftables_rules.ts";
import type { ProbeAddress, RedirectionSettings } from "./redirection.ts";

export interface NftListing {
  /** By "TABLE CHAIN". */
  readonly chains: ReadonlyMap<string, ListedChain>;
  /** What each rule is known by when it is compared. */
  readonly compares: "contents" | "comments";
}

export interface ListedChain {
  /** Type, hook, priority and policy, or nothing. */
  readonly entry: string;
  readonly rules: readonly ListedRule[];
}

export interface ListedRule {
  readonly contents: string;
  readonly comment: string;
}

/** The parts that are read. */
interface Item {
  readonly table?: { readonly family: string; readonly name: string };
  readonly chain?: {
    readonly family: string;
    readonly table: string;
    readonly name: string;
    readonly type?: string;
    readonly hook?: string;
    readonly prio?: number;
    readonly policy?: string;
  };
  readonly rule?: {
    readonly family: string;
    readonly table: string;
    readonly chain: string;
    readonly comment?: string;
    readonly expr?: unknown;
  };
  readonly metainfo?: unknown;
}

/** @throws Error when the text is no listing. */
export function readListing(text: string): NftListing {
  const chains = new Map<string, { entry: string; rules: ListedRule[] }>();
  for (const { chain, rule, ...other } of itemsOf(text)) {
    if (chain !== undefined && isOurs(chain)) {
      chains.set(`${chain.table} ${chain.name}`, { entry: entryText(chain), rules: [] });
    } else if (rule !== undefined && isOurs(rule)) {
      chains.get(`${rule.table} ${rule.chain}`)?.rules.push({
        // How often a rule was met is not what it is.
        contents: JSON.stringify(rule.expr, (key, value) => key === "packets" || key === "bytes" ? 0 : value),
        comment: rule.comment ?? "",
      });
    } else {
      // Sets, maps and objects: ours have none.
      for (const [kind, item] of Object.entries(other)) {
        const { family, table, name } = (item ?? {}) as { family?: string; table?: string; name?: string };
        if (table !== undefined && isOurs({ family: family ?? "", table })) {
          chains.set(`${table} ${name} (${kind})`, { entry: "", rules: [] });
        }
      }
    }
  }
  return { chains, compares: "contents" };
}

/** What a listing should show, as far as that is known without a kernel. */
export function describeListing(settings: RedirectionSettings, probe: ProbeAddress): NftListing {
  const chains = nftChains(settings, probe).map(({ table, name, hook, rules }) =>
    [`${table} ${name}`, {
      entry: hook === undefined ? "" : entryText({ ...hook, policy: "accept" }),
      rules: rules.map((rule) => ({ contents: "", comment: ruleComment(rule) })),
    }] as const
  );
  return { chains: new Map(chains), compares: "comments" };
}

/** One line each. */
export function listingDifferences(found: NftListing, expected: NftListing): readonly string[] {
  const differences: string[] = [];
  for (const [key, chain] of expected.chains) {
    const other = found.chains.get(key);
    if (other === undefined) differences.push(`nft: chain ${key} is missing`);
    else if (other.entry !== chain.entry) differences.push(`nft: chain ${key} has another hook, priority or policy`);
    else if (!sameRules(other.rules, chain.rules, expected.compares)) {
      differences.push(`nft: chain ${key} has other rules`);
    }
  }
  for (const key of found.chains.keys()) {
    if (!expected.chains.has(key)) differences.push(`nft: chain ${key} does not belong there`);
  }
  return differences;
}

function sameRules(found: readonly ListedRule[], expected: readonly ListedRule[], by: NftListing["compares"]): boolean {
  return found.length === expected.length &&
    found.every(({ contents, comment }, index) =>
      comment === expected[index]!.comment && (by === "comments" || contents === expected[index]!.contents)
    );
}

function itemsOf(text: string): readonly Item[] {
  let listing: { readonly nftables?: readonly Item[] };
  try {
    // nft prints nothing at all when there is nothing.
    listing = text.trim() === "" ? { nftables: [] } : JSON.parse(text);
  } catch (error) {
    throw new Error(`nft -j: the listing is no JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(listing?.nftables)) throw new Error("nft -j: the listing has no list of nftables");
  return listing.nftables.filter((item) => typeof item === "object" && item !== null);
}

function isOurs({ family, table }: { readonly family: string; readonly table: string }): boolean {
  return family === "inet" && (NFT_TABLES as readonly string[]).includes(table);
}

function entryText(
  { type, hook, prio, policy }: NonNullable<Item["chain"]> | {
    type: string;
    hook: string;
    prio: number;
    policy: string;
  },
): string {
  return hook === undefined ? "" : [type, hook, prio, policy].join(" ");
}
