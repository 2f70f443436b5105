/**
 * What does not belong in a pod because another implementation, another version or Istio's own agent made it: found and removed. In
 * the common case nothing is there, and no program is run to see that.
 */
import { NETLINK_NETFILTER } from "../../platform/netlink.ts";
import { describeErrno } from "../../platform/errno.ts";
import {
  deleteNft,
  NFT_INET,
  NFT_IPV4,
  NFT_IPV6,
  type NftChainInfo,
  type NftState,
  type NftTableInfo,
} from "../../platform/nft_tables.ts";
import { type Inside, lookInside, nftState, withNetlink } from "./inside.ts";
import { hasOurRules, iptablesDifferences, planRestore } from "./iptables_plan.ts";
import { CHAIN_PREFIX, type Family } from "./iptables_rules.ts";
import type { SavedTables } from "./iptables_save.ts";
import { hasTables, IPTABLES_TABLES, type IptablesTool } from "./iptables_tool.ts";
import { NFT_TABLES } from "./nftables_rules.ts";
import type { RedirectionBackend } from "./redirection.ts";
import { isMissingTool } from "./run_in_netns.ts";

/** What stays: the rules of this implementation, for these families. */
export interface Kept {
  readonly backend: RedirectionBackend;
  readonly families: readonly Family[];
}

export type Warn = (message: string) => void;

/** The kernel's word that something of the namespace changed meanwhile. */
const ERESTART = 85;
/** A namespace in which somebody changes rules without a pause is not a pod's. */
const TRIES = 20;

const JUMPING_CHAINS: readonly string[] = ["PREROUTING", "OUTPUT"];

const FAMILIES: readonly Family[] = ["ipv4", "ipv6"];

export interface Leftovers {
  /** One line each. */
  find(netns: string, kept: Kept | undefined): Promise<readonly string[]>;
  remove(netns: string, kept: Kept | undefined): Promise<void>;
}

/** `tools` are iptables' two variants, whether or not they are installed. */
export function createLeftovers(tools: readonly IptablesTool[], warn: Warn): Leftovers {
  return {
    async find(netns, kept) {
      const inside = lookInside(netns);
      const found: string[] = kept?.backend === "nftables"
        ? []
        : nativeTables(inside.nft).map(({ name }) => `nft: table ${name} does not belong there`);
      await visit(netns, inside, kept, (tool, family, saved) => {
        found.push(...iptablesDifferences(tool.name(family), saved, []));
        return Promise.resolve();
      });
      return found;
    },
    async remove(netns, kept) {
      const inside = lookInside(netns);
      await visit(netns, inside, kept, (tool, family, saved) => tool.restore(netns, family, planRestore(saved, [])));
      if (kept?.backend !== "nftables" && nativeTables(inside.nft).length > 0) {
        deleteFound(netns, (state) => ({ tables: nativeTables(state), chains: [] }));
      }
    },
  };

  /** Each set of rules of iptables in which something of ours does not belong. */
  async function visit(
    netns: string,
    inside: Inside,
    kept: Kept | undefined,
    body: (tool: IptablesTool, family: Family, saved: SavedTables) => Promise<void>,
  ): Promise<void> {
    for (const tool of tools) {
      for (const family of FAMILIES) {
        if (tool.variant === kept?.backend && kept.families.includes(family)) continue;
        if (!mayHoldOurs(tool, family, inside)) continue;
        try {
          const saved = await tool.read(netns, family, inside);
          if (hasOurRules(saved)) await body(tool, family, saved);
        } catch (error) {
          // The rules of that variant, if there are any, are not of a kind that this image can have made.
          if (!isMissingTool(error)) throw error;
          warn(
            `${netns} has tables of ${tool.variant} (${family}), which may hold older rules: ${
              (error as Error).message
            }`,
          );
        }
      }
    }
  }
}

/** Takes out what iptables-nft made for our rules and in which nothing is left, tables and chains, as if it had never run. */
export function deleteEmptyTables(netns: string): void {
  deleteFound(netns, (state) => {
    const tables = emptyTables(state);
    const isInTable = (chain: NftChainInfo) =>
      tables.some(({ family, name }) => chain.family === family && chain.table === name);
    return { tables, chains: state.chains.filter((chain) => isEmptyChain(chain) && !isInTable(chain)) };
  });
}

/** Our tables of nftables proper. */
export function nativeTables({ tables }: NftState): readonly NftTableInfo[] {
  const names: readonly string[] = NFT_TABLES;
  return tables.filter(({ family, name }) => family === NFT_INET && names.includes(name));
}

/** Old iptables shows only that it has tables; chains of the other variant tell by their names whether they are ours. */
function mayHoldOurs(tool: IptablesTool, family: Family, inside: Inside): boolean {
  if (!hasTables(tool.variant, family, inside)) return false;
  if (tool.variant === "iptables-legacy") return true;
  const number = family === "ipv4" ? NFT_IPV4 : NFT_IPV6;
  return inside.nft.chains.some((chain) => chain.family === number && chain.name.startsWith(CHAIN_PREFIX)) ||
    // Where a guard would be.
    inside.nft.tables.some((table) => table.family === number && table.name === "filter");
}

function emptyTables({ tables, chains }: NftState): readonly NftTableInfo[] {
  return tables.filter(({ family, name, use }) => {
    if (!isIptablesFamily(family) || !IPTABLES_TABLES.includes(name)) return false;
    const own = chains.filter((chain) => chain.family === family && chain.table === name);
    return use === own.length && own.every((chain) => chain.use === 0 && chain.base?.accepts === true);
  });
}

/** One that our jumps were in. iptables-nft makes it again when it has a rule for it. */
function isEmptyChain({ family, table, name, use, base }: NftChainInfo): boolean {
  return isIptablesFamily(family) && IPTABLES_TABLES.includes(table) && JUMPING_CHAINS.includes(name) && use === 0 &&
    base?.accepts === true;
}

function isIptablesFamily(family: number): boolean {
  return family === NFT_IPV4 || family === NFT_IPV6;
}

/** Nothing is removed that was not seen: when the namespace changes in between, look again. */
function deleteFound(
  netns: string,
  choose: (state: NftState) => { readonly tables: readonly NftTableInfo[]; readonly chains: readonly NftChainInfo[] },
): void {
  withNetlink(netns, NETLINK_NETFILTER, (fd) => {
    for (let tries = 1;; tries++) {
      const state = nftState(fd, netns);
      const { tables, chains } = choose(state);
      if (tables.length + chains.length === 0) return;
      const code = deleteNft(fd, state.generation, tables, chains);
      if (code === 0) return;
      if (code === -ERESTART && tries < TRIES) continue;
      const names = [...tables.map(({ name }) => name), ...chains.map(({ table, name }) => `${table} ${name}`)];
      throw new Error(`cannot delete nftables (${names.join(", ")}) in ${netns}: ${describeErrno(-code)}`);
    }
  });
}
