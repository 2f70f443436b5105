/**
 * The route that brings an application's replies back to ztunnel, reference cni.md section 4.2: packets with the return
 * mark look up table 100, where every address is local. iptables and nftables redirection share it.
 */
import { describeErrno, EOPNOTSUPP } from "../../platform/errno.ts";
import { NETLINK_ROUTE } from "../../platform/netlink.ts";
import { insideNamespace } from "../../platform/netns.ts";
import { loopbackHasIpv6 } from "../../platform/net_sysctl.ts";
import {
  addMarkRule,
  countMarkRules,
  deleteLocalRoute,
  deleteMarkRule,
  hasLocalRoute,
  type MarkRule,
  replaceLocalRoute,
} from "../../platform/policy_route.ts";
import { AF_INET, AF_INET6 } from "../../platform/sockaddr.ts";
import { withNetlink } from "./inside.ts";
import { MARK_MASK, RETURN_MARK } from "./redirection.ts";

const TABLE = 100;
const RULE: MarkRule = { mark: RETURN_MARK, mask: MARK_MASK, priority: 32764, table: TABLE };

const ENOENT = 2;
const ESRCH = 3;
const EEXIST = 17;
const EAFNOSUPPORT = 97;
const ENETDOWN = 100;
const NO_ERRORS: readonly number[] = [];

interface RoutedFamily {
  readonly number: number;
  /** As `ip` has it. */
  readonly option: string;
  readonly everything: string;
}
const IPV4: RoutedFamily = { number: AF_INET, option: "-4", everything: "0.0.0.0/0" };
const IPV6: RoutedFamily = { number: AF_INET6, option: "-6", everything: "::/0" };
/** A kernel without IPv6 has no rules for it, and no packets either. */
const NO_IPV6 = [EAFNOSUPPORT, EOPNOTSUPP];

/** Adds route and rule of each family, or leaves them as they are. IPv6 has no route where the loopback device has no IPv6. */
export function applyReturnRoute(netns: string, ipv6: boolean): void {
  withNetlink(netns, NETLINK_ROUTE, (fd, namespace) => {
    for (const family of families(ipv6)) {
      if (family === IPV4 || hasIpv6(namespace)) {
        check(replaceLocalRoute(fd, family.number, TABLE), netns, `add ${routeText(family)}`, NO_ERRORS);
      }
      check(addMarkRule(fd, family.number, RULE), netns, `add ${ruleText(family)}`, [EEXIST, ...tolerated(family)]);
    }
  });
}

/** What is missing or too much, one line each. */
export function verifyReturnRoute(netns: string, ipv6: boolean): readonly string[] {
  return withNetlink(netns, NETLINK_ROUTE, (fd, namespace) => {
    const differences: string[] = [];
    for (const family of families(true)) {
      const isWanted = family === IPV4 || ipv6;
      const count = check(
        countMarkRules(fd, family.number, RULE),
        netns,
        `list ${ruleText(family)}`,
        tolerated(family),
      );
      const rules = count < 0 ? Number(isWanted) : count;
      if (isWanted && rules === 0) differences.push(`${ruleText(family)} is missing`);
      if (rules > Number(isWanted)) {
        differences.push(`${ruleText(family)} is there ${isWanted ? "twice" : "and does not belong there"}`);
      }
      if (!isWanted || family === IPV6 && !hasIpv6(namespace)) continue;
      if (check(hasLocalRoute(fd, family.number, TABLE), netns, `list ${routeText(family)}`, NO_ERRORS) === 0) {
        differences.push(`${routeText(family)} is missing`);
      }
    }
    return differences;
  });
}

/** Removes rules and routes of both families, or of IPv6 alone. */
export function removeReturnRoute(netns: string, only: "all" | "ipv6" = "all"): void {
  withNetlink(netns, NETLINK_ROUTE, (fd) => {
    for (const family of only === "all" ? families(true) : [IPV6]) {
      const gone = [ENOENT, ESRCH, ...tolerated(family)];
      while (check(deleteMarkRule(fd, family.number, RULE), netns, `remove ${ruleText(family)}`, gone) === 0);
      check(deleteLocalRoute(fd, family.number, TABLE), netns, `remove ${routeText(family)}`, gone);
    }
  });
}

function families(ipv6: boolean): readonly RoutedFamily[] {
  return ipv6 ? [IPV4, IPV6] : [IPV4];
}

function tolerated(family: RoutedFamily): readonly number[] {
  return family === IPV6 ? NO_IPV6 : NO_ERRORS;
}

function hasIpv6(namespace: number): boolean {
  return loopbackHasIpv6((open) => insideNamespace(namespace, open));
}

/** The code, unless it is an error that is not expected. */
function check(code: number, netns: string, what: string, expected: readonly number[]): number {
  if (code >= 0 || expected.includes(-code)) return code;
  const why = code === -ENETDOWN ? "the loopback device is down (ENETDOWN)" : describeErrno(-code);
  throw new Error(`cannot ${what} in ${netns}: ${why}`);
}

function ruleText({ option }: RoutedFamily): string {
  const hex = (value: number) => `0x${value.toString(16)}`;
  return `ip ${option} rule: fwmark ${hex(RULE.mark)}/${hex(RULE.mask)} pref ${RULE.priority} lookup ${TABLE}`;
}

function routeText({ option, everything }: RoutedFamily): string {
  return `ip ${option} route: local ${everything} dev lo table ${TABLE}`;
}
