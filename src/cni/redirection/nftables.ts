/**
 * Redirection by native nftables: one atomic transaction for the rules, then the route for replies. One program a pod.
 */
import type { NftChainInfo, NftState } from "../../platform/nft_tables.ts";
import { lookInside } from "./inside.ts";
import { toolsOf } from "./iptables.ts";
import { createLeftovers, deleteEmptyTables, nativeTables, type Warn } from "./leftovers.ts";
import { describeListing, listingDifferences, type NftListing, readListing } from "./nftables_listing.ts";
import { nftApplyScript, type NftChain, type NftTable, type PresentTables } from "./nftables_rules.ts";
import { PROBE_ADDRESS, type ProbeAddress, type Redirection, type RedirectionSettings } from "./redirection.ts";
import { applyReturnRoute, removeReturnRoute, verifyReturnRoute } from "./return_route.ts";
import { type RunInNetns, runOrThrow } from "./run_in_netns.ts";
import { withScratchNamespace } from "./scratch.ts";
import { inTurns } from "./turns.ts";

const LIST = ["nft", "-j", "list", "ruleset", "inet"];

export interface NftablesRedirectionOptions {
  readonly probe?: ProbeAddress;
  readonly warn?: Warn;
}

/** `run` enters the pod's network namespace; it needs `nft` there. The loopback device must be up. */
export function createNftablesRedirection(
  run: RunInNetns,
  { warn = () => {}, probe = PROBE_ADDRESS }: NftablesRedirectionOptions = {},
): Redirection {
  const leftovers = createLeftovers(toolsOf(run, undefined, {}), warn);
  const kept = { backend: "nftables", families: [] } as const;

  /** What this nft and this kernel show of the rules once they are applied, per settings: the only words to compare with. */
  const references = new Map<string, Promise<NftListing>>();
  const reference = (settings: RedirectionSettings): Promise<NftListing> => {
    const key = nftApplyScript(settings, new Map(), probe);
    let listing = references.get(key);
    if (listing === undefined) {
      if (references.size >= MAX_REFERENCES) references.clear();
      listing = learn(run, key).then((learned) => learned ?? describeListing(settings, probe));
      listing.catch(() => references.delete(key));
      references.set(key, listing);
    }
    return listing;
  };

  return inTurns({
    describe: () => "nftables",
    async apply(netns, settings) {
      const script = nftApplyScript(settings, presentTables(lookInside(netns).nft), probe);
      await runOrThrow(run, netns, ["nft", "-f", "-"], script);
      applyReturnRoute(netns, settings.ipv6);
      await leftovers.remove(netns, kept);
      if (!settings.ipv6) removeReturnRoute(netns, "ipv6");
    },
    async verify(netns, settings) {
      const listing = readListing(await runOrThrow(run, netns, LIST));
      return [
        ...listingDifferences(listing, await reference(settings)),
        ...await leftovers.find(netns, kept),
        ...verifyReturnRoute(netns, settings.ipv6),
      ];
    },
    async remove(netns) {
      await leftovers.remove(netns, undefined);
      deleteEmptyTables(netns);
      removeReturnRoute(netns);
    },
  });
}

/** Pods of one node have few different settings; who sets many gets slower answers. */
const MAX_REFERENCES = 64;

/** Lists the rules as a namespace of nobody has them; undefined where that cannot be had, and their comments must do. */
function learn(run: RunInNetns, script: string): Promise<NftListing | undefined> {
  return withScratchNamespace(async (netns) => {
    await runOrThrow(run, netns, ["nft", "-f", "-"], script);
    return readListing(await runOrThrow(run, netns, LIST));
  });
}

/** Of a chain's hook, in the family inet (linux/netfilter.h). */
const HOOKS: Readonly<Record<number, string>> = {
  0: "prerouting",
  1: "input",
  2: "forward",
  3: "output",
  4: "postrouting",
};

function presentTables(state: NftState): PresentTables {
  return new Map(
    nativeTables(state).map(({ family, name, use }) => {
      const chains = state.chains.filter((chain) => chain.family === family && chain.table === name);
      return [name as NftTable, { chains: chains.map(chainOf), holdsMore: use > chains.length }];
    }),
  );
}

function chainOf({ name, base }: NftChainInfo): Pick<NftChain, "name" | "hook"> {
  if (base === undefined) return { name };
  return { name, hook: { type: base.type, hook: HOOKS[base.hook] ?? "", prio: base.priority } };
}
