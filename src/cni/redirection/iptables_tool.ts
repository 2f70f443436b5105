/** The programs of iptables in one of their two variants: read a namespace's rules, and change them. */
import type { Inside } from "./inside.ts";
import { type Family } from "./iptables_rules.ts";
import { parseSave, type SavedTables } from "./iptables_save.ts";
import { NFT_IPV4, NFT_IPV6 } from "../../platform/nft_tables.ts";
import { type RunInNetns, runOrThrow } from "./run_in_netns.ts";

export type IptablesVariant = "iptables-nft" | "iptables-legacy";

/** Which programs to run, `-save` and `-restore` to be added. Distributions call the one that they chose just `iptables`. */
export interface IptablesPrograms {
  readonly variant: IptablesVariant;
  readonly ipv4: string;
  readonly ipv6: string;
}

export const PROGRAMS: Readonly<Record<IptablesVariant, IptablesPrograms>> = {
  "iptables-nft": { variant: "iptables-nft", ipv4: "iptables-nft", ipv6: "ip6tables-nft" },
  "iptables-legacy": { variant: "iptables-legacy", ipv4: "iptables-legacy", ipv6: "ip6tables-legacy" },
};

/** The tables of iptables that rules of ours were ever in. */
export const IPTABLES_TABLES: readonly string[] = ["nat", "mangle", "raw", "filter"];

/** The old variant takes a lock for all namespaces of the machine unless told otherwise; the namespace itself serves as well, and is its own. */
const LEGACY_LOCK = { XTABLES_LOCKFILE: "/proc/self/ns/net" };
/** For whoever else has the lock; in seconds. */
const LEGACY_WAIT = "--wait=30";

export interface IptablesTool {
  readonly variant: IptablesVariant;
  /** What `inside` shows of this family's tables; no program runs when there are none. */
  read(netns: string, family: Family, inside: Inside): Promise<SavedTables>;
  /** One transaction a table. */
  restore(netns: string, family: Family, text: string): Promise<void>;
  /** "ip6tables-nft" */
  name(family: Family): string;
}

export interface IptablesToolOptions {
  /** A lock per namespace instead of one for the machine (AMBIENT_USE_SCOPED_XTABLES_LOCKING). */
  readonly scopedLock?: boolean;
}

export function createIptablesTool(
  run: RunInNetns,
  programs: IptablesPrograms,
  { scopedLock = true }: IptablesToolOptions = {},
): IptablesTool {
  const isLegacy = programs.variant === "iptables-legacy";
  const env = isLegacy && scopedLock ? LEGACY_LOCK : {};
  const wait = isLegacy ? [LEGACY_WAIT] : [];
  return {
    variant: programs.variant,
    name: (family) => programs[family],
    async read(netns, family, inside) {
      if (!hasTables(programs.variant, family, inside)) return new Map();
      return parseSave(await runOrThrow(run, netns, [`${programs[family]}-save`], "", env));
    },
    async restore(netns, family, text) {
      await runOrThrow(run, netns, [`${programs[family]}-restore`, "--noflush", ...wait], text, env);
    },
  };
}

export function hasTables(variant: IptablesVariant, family: Family, { nft, legacy }: Inside): boolean {
  if (variant === "iptables-legacy") return legacy[family].length > 0;
  const number = family === "ipv4" ? NFT_IPV4 : NFT_IPV6;
  return nft.tables.some((table) => table.family === number && IPTABLES_TABLES.includes(table.name));
}
