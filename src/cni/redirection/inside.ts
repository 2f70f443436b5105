/** What a pod's network namespace holds, seen without running a program: so that a fresh pod costs no look by one. */
import { existsSync } from "node:fs";
import { describeErrno, EINVAL, EOPNOTSUPP } from "../../platform/errno.ts";
import { NETLINK_NETFILTER, openNetlink } from "../../platform/netlink.ts";
import { fileIdentity, openNamespace } from "../../platform/netns.ts";
import { readInsideNamespace } from "../../platform/netns_file.ts";
import { type NftState, readNftState } from "../../platform/nft_tables.ts";
import { closeDescriptor } from "../../platform/socket.ts";
import type { Family } from "./iptables_rules.ts";

const EPROTONOSUPPORT = 93;
const EAFNOSUPPORT = 97;
/** How a kernel says that it was built without something. */
const NOT_BUILT_IN: ReadonlySet<number> = new Set([EINVAL, EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT]);

const NO_SOCKET = -1;

/** Tables that exist in a namespace. */
export interface Inside {
  /** Those of nftables, where iptables-nft has its tables too. */
  readonly nft: NftState;
  /** Names of those of old iptables. */
  readonly legacy: Readonly<Record<Family, readonly string[]>>;
}

/** Runs `body`, which must not wait, with a descriptor of the namespace. @throws Error when it cannot be opened. */
export function withNamespace<T>(netns: string, body: (namespace: number) => T): T {
  const namespace = openNamespace(netns);
  if (namespace < 0) throw new Error(`cannot open the network namespace ${netns}: ${describeErrno(-namespace)}`);
  try {
    return body(namespace);
  } finally {
    closeDescriptor(namespace);
  }
}

/** Runs `body`, which must not wait, with a netlink socket of the namespace. @throws Error when there is none to be had. */
export function withNetlink<T>(netns: string, protocol: number, body: (fd: number, namespace: number) => T): T {
  return withNamespace(netns, (namespace) => {
    const fd = openNetlink(namespace, protocol);
    // A kernel that has no netfilter by netlink at all has no nftables either: every question gets that answer.
    if (fd === -EPROTONOSUPPORT && protocol === NETLINK_NETFILTER) return body(NO_SOCKET, namespace);
    if (fd < 0) throw new Error(`cannot open a netlink socket in ${netns}: ${describeErrno(-fd)}`);
    try {
      return body(fd, namespace);
    } finally {
      closeDescriptor(fd);
    }
  });
}

/** @throws Error when the kernel does not tell. */
export function lookInside(netns: string): Inside {
  return withNetlink(netns, NETLINK_NETFILTER, (fd, namespace) => ({
    nft: nftState(fd, netns),
    legacy: { ipv4: legacyTables(namespace, "ip_tables_names"), ipv6: legacyTables(namespace, "ip6_tables_names") },
  }));
}

/** What tells this namespace from every other that is alive. */
export function namespaceIdentity(netns: string): string {
  return withNamespace(netns, (namespace) => fileIdentity(namespace) ?? netns);
}

/** A kernel that was started without IPv6 has no packets of it to capture. */
export function kernelHasIpv6(): boolean {
  return existsSync("/proc/net/if_inet6");
}

/** Nothing, for a kernel without nftables. @throws Error when the kernel does not tell. */
export function nftState(fd: number, netns: string): NftState {
  const state = fd === NO_SOCKET ? -EPROTONOSUPPORT : readNftState(fd);
  if (typeof state !== "number") return state;
  if (NOT_BUILT_IN.has(-state)) return { generation: 0, tables: [], chains: [] };
  throw new Error(`cannot list the nftables of ${netns}: ${describeErrno(-state)}`);
}

/** A kernel without old iptables has no such file. */
function legacyTables(namespace: number, file: string): readonly string[] {
  const names = readInsideNamespace(namespace, `/proc/thread-self/net/${file}`);
  return typeof names === "number" ? [] : names.split("\n").filter((name) => name !== "");
}
