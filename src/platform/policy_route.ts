/**
 * Routing by firewall mark, rtnetlink(7): a rule that sends marked packets to a table of their own, and the route in it that makes every
 * address local (linux/rtnetlink.h, linux/fib_rules.h). Functions take a NETLINK_ROUTE socket and return `-errno` on failure.
 */
import {
  joinBytes,
  netlinkDump,
  netlinkOrder,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  readAttributes,
  readU32,
  u32Attribute,
} from "./netlink.ts";

const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTM_NEWRULE = 32;
const RTM_DELRULE = 33;
const RTM_GETRULE = 34;
/** Both `struct rtmsg` and `struct fib_rule_hdr`. */
const HEADER_BYTES = 12;
const RTA_OIF = 4;
const RTA_TABLE = 15;
const RTPROT_BOOT = 3;
const RT_SCOPE_HOST = 254;
const RTN_LOCAL = 2;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FR_ACT_TO_TBL = 1;
/** Every namespace's loopback device is its first. */
const LOOPBACK_INDEX = 1;

export interface MarkRule {
  readonly mark: number;
  readonly mask: number;
  readonly priority: number;
  readonly table: number;
}

/** -EEXIST when there is one. */
export function addMarkRule(fd: number, family: number, rule: MarkRule): number {
  return netlinkOrder(fd, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, ruleBody(family, rule));
}

/** One of them; -ENOENT when there is none. */
export function deleteMarkRule(fd: number, family: number, rule: MarkRule): number {
  return netlinkOrder(fd, RTM_DELRULE, 0, ruleBody(family, rule));
}

/** How many such rules there are. */
export function countMarkRules(fd: number, family: number, rule: MarkRule): number {
  const messages = netlinkDump(fd, RTM_GETRULE, header(family, 0, 0, 0));
  if (typeof messages === "number") return messages;
  return messages.filter(({ body }) => {
    if (body.length < HEADER_BYTES || body[7] !== FR_ACT_TO_TBL) return false;
    const attributes = readAttributes(body, HEADER_BYTES);
    const number = (type: number) => readU32(attributes.get(type), true);
    return number(FRA_PRIORITY) === rule.priority && number(FRA_FWMARK) === rule.mark &&
      number(FRA_FWMASK) === rule.mask &&
      (number(FRA_TABLE) || body[4]) === rule.table;
  }).length;
}

/** Makes every address of the family local in this table, by the loopback device, which must be up. */
export function replaceLocalRoute(fd: number, family: number, table: number): number {
  return netlinkOrder(fd, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, routeBody(family, table));
}

/** -ESRCH when it is not there. */
export function deleteLocalRoute(fd: number, family: number, table: number): number {
  return netlinkOrder(fd, RTM_DELROUTE, 0, routeBody(family, table));
}

/** 1 or 0. */
export function hasLocalRoute(fd: number, family: number, table: number): number {
  const messages = netlinkDump(fd, RTM_GETROUTE, header(family, 0, 0, 0));
  if (typeof messages === "number") return messages;
  return messages.some(({ body }) => {
      if (body.length < HEADER_BYTES || body[1] !== 0 || body[7] !== RTN_LOCAL) return false;
      const attributes = readAttributes(body, HEADER_BYTES);
      return (readU32(attributes.get(RTA_TABLE), true) || body[4]) === table &&
        readU32(attributes.get(RTA_OIF), true) === LOOPBACK_INDEX;
    })
    ? 1
    : 0;
}

function ruleBody(family: number, { mark, mask, priority, table }: MarkRule): Uint8Array {
  return joinBytes([
    header(family, table, 0, FR_ACT_TO_TBL),
    u32Attribute(FRA_PRIORITY, priority),
    u32Attribute(FRA_FWMARK, mark),
    u32Attribute(FRA_FWMASK, mask),
    u32Attribute(FRA_TABLE, table),
  ]);
}

function routeBody(family: number, table: number): Uint8Array {
  const head = header(family, table, RT_SCOPE_HOST, RTN_LOCAL);
  head[5] = RTPROT_BOOT;
  return joinBytes([head, u32Attribute(RTA_OIF, LOOPBACK_INDEX), u32Attribute(RTA_TABLE, table)]);
}

/** family, lengths of the two prefixes (0: everything), tos, table, protocol, scope, type or action, flags. */
function header(family: number, table: number, scope: number, type: number): Uint8Array {
  return Uint8Array.of(family, 0, 0, 0, table, 0, scope, type, 0, 0, 0, 0);
}
