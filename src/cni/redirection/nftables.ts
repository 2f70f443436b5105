/**
 * Redirection by native nftables: one atomic transaction for the rules, then the route for replies.
 */
import {
  NFT_TABLES,
  nftApplyScript,
  type NftChain,
  nftChains,
  nftRemoveScript,
  ruleComment,
} from "./nftables_rules.ts";
import type { Redirection, RedirectionSettings } from "./redirection.ts";
import { applyReturnRoute, removeReturnRoute, verifyReturnRoute } from "./return_route.ts";
import { type RunInNetns, runOrThrow } from "./run_in_netns.ts";

/** `run` enters the pod's network namespace; it needs `nft` and `ip` there. The loopback device must be up. */
export function createNftablesRedirection(run: RunInNetns): Redirection {
  return {
    async apply(netns, settings) {
      await runOrThrow(run, netns, ["nft", "-f", "-"], nftApplyScript(settings));
      await applyReturnRoute(run, netns, settings.ipv6);
    },
    async verify(netns, settings) {
      const listing = await runOrThrow(run, netns, ["nft", "-j", "list", "ruleset"]);
      return [...compare(listing, settings), ...await verifyReturnRoute(run, netns, settings.ipv6)];
    },
    async remove(netns) {
      await runOrThrow(run, netns, ["nft", "-f", "-"], nftRemoveScript());
      await removeReturnRoute(run, netns);
    },
  };
}

/** The parts of libnftables' JSON (libnftables-json(5)) that are compared. */
interface Listed {
  readonly chain?: ListedChain;
  readonly rule?: {
    readonly family: string;
    readonly table: string;
    readonly chain: string;
    readonly comment?: string;
  };
}

interface ListedChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly type?: string;
  readonly hook?: string;
  readonly prio?: number;
  readonly policy?: string;
}

function compare(listing: string, settings: RedirectionSettings): readonly string[] {
  const listed = (JSON.parse(listing) as { readonly nftables: readonly Listed[] }).nftables;
  const chains = new Map<string, ListedChain>();
  const comments = new Map<string, string[]>();
  for (const { chain, rule } of listed) {
    if (chain?.family === "inet" && isOurs(chain.table)) {
      chains.set(`${chain.table} ${chain.name}`, chain);
      comments.set(`${chain.table} ${chain.name}`, []);
    }
    if (rule?.family === "inet") comments.get(`${rule.table} ${rule.chain}`)?.push(rule.comment ?? "");
  }

  const differences: string[] = [];
  for (const expected of nftChains(settings)) {
    const key = `${expected.table} ${expected.name}`;
    const found = chains.get(key);
    chains.delete(key);
    if (found === undefined) differences.push(`nft: chain ${key} is missing`);
    else if (!sameHook(expected, found)) differences.push(`nft: chain ${key} has another hook, priority or policy`);
    else if (comments.get(key)?.join() !== expected.rules.map(ruleComment).join()) {
      differences.push(`nft: chain ${key} has other rules`);
    }
  }
  for (const key of chains.keys()) differences.push(`nft: chain ${key} does not belong there`);
  return differences;
}

function isOurs(table: string): boolean {
  return (NFT_TABLES as readonly string[]).includes(table);
}

function sameHook({ hook }: NftChain, found: ListedChain): boolean {
  if (hook === undefined) return found.hook === undefined;
  return found.type === hook.type && found.hook === hook.hook && found.prio === hook.prio && found.policy === "accept";
}
