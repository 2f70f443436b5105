/**
 * The addresses that the interfaces of a process' network namespace have, from `/proc/PID/net/fib_trie` and `/proc/PID/net/if_inet6`:
 * they show that namespace without entering it. Pure.
 */
import { formatIp, parseIp } from "../../mesh/ip.ts";

/**
 * The IPv4 addresses in a `fib_trie`: leaves (`|-- 10.0.0.7`) below which the kernel notes a local host (`/32 host LOCAL`). Routes of
 * the whole range that are local too, such as the one of a captured pod, are none.
 */
export function readFibTrie(text: string, into: Set<string> = new Set()): Set<string> {
  let leaf: string | undefined;
  for (const line of text.split("\n")) {
    const entry = line.trim();
    if (entry.startsWith("|-- ")) leaf = entry.slice(4);
    else if (entry.startsWith("+-- ") || entry.endsWith(":")) leaf = undefined;
    else if (leaf !== undefined && entry === "/32 host LOCAL") {
      const bytes = leaf.includes(":") ? undefined : parseIp(leaf);
      if (bytes !== undefined) into.add(formatIp(bytes));
    }
  }
  return into;
}

const V6_HEX = /^([0-9a-f]{32}) /;

/** The IPv6 addresses in an `if_inet6`: a line for each, which begins with 32 hexadecimal digits. */
export function readIfInet6(text: string, into: Set<string> = new Set()): Set<string> {
  for (const line of text.split("\n")) {
    const hex = V6_HEX.exec(line)?.[1];
    if (hex === undefined) continue;
    const bytes = new Uint8Array(16);
    for (let i = 0; i < 16; i++) bytes[i] = parseInt(hex.slice(2 * i, 2 * i + 2), 16);
    into.add(formatIp(bytes));
  }
  return into;
}
