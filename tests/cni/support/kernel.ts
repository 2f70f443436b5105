/** What the kernel has of an agent's doing: rules, sets and routes, in whichever form. Looking makes none of it. */
import type { CniNode } from "./node.ts";
import type { CniPod } from "./pod.ts";

/** Of every table that exists: legacy iptables only where the kernel has them already, for its own tool makes them by looking. */
const DUMP = [
  "nft -s list ruleset",
  "for family in ip ip6; do for table in $(cat /proc/net/${family}_tables_names); do " +
  "${family}tables-legacy-save -t $table; done; done",
  "ip rule",
  "ip -6 rule",
  "ip route show table 100 2>/dev/null || true",
  "ip -6 route show table 100 2>/dev/null || true",
  "ipset save",
].join("\n");

/** What is the agent's, in a pod or on the host. */
const OURS =
  /istio|1500[168]|15053|0x(?:00000)?111\b|0x(?:00000)?539\b|lookup 100\b|local default|169\.254\.7\.127|fd16:9254/i;
/** The name of {@link watchForLeaks}' counter. */
const LEAKED = "lab-leaked";
/** Written by the nft-based iptables whenever something has been in a table: it says nothing. */
const NOISE = /^#|^\s*$|^COMMIT|^:/;

export function dump(node: CniNode, netns?: string): Promise<string> {
  return node.shell(DUMP, netns);
}

/** What a firewall does that thinks it is alone: everything in every table is gone, and the rules of routing with it. */
export async function flush(node: CniNode, netns?: string): Promise<void> {
  await node.shell(
    "for family in ip ip6; do for table in $(cat /proc/net/${family}_tables_names 2>/dev/null); do " +
      "${family}tables-legacy -t $table -F; ${family}tables-legacy -t $table -X; done; done; nft flush ruleset; " +
      "for family in 4 6; do ip -$family rule del pref 32764; ip -$family route flush table 100; done 2>/dev/null; true",
    netns,
  );
}

/** The lines that an agent left in the network of a pod; none for a pod that was never enrolled. */
export async function podRules(pod: CniPod): Promise<readonly string[]> {
  return ours(await dump(pod.node, pod.netns));
}

/** The same of the node's own network. */
export async function hostRules(node: CniNode): Promise<readonly string[]> {
  return ours(await dump(node));
}

/** Sorted: a tool that makes the same chains anew may make them in another order. */
/** Sorted: a tool that makes the same chains anew may make them in another order. */
function ours(text: string): readonly string[] {
  const lines = text.split("\n").filter((line) => OURS.test(line) && !NOISE.test(line) && !line.includes(LEAKED));
  return lines.map((line) => line.trim()).sort();
}

/** The addresses whose probes are let through, with the uid of the pod that each is entered for. */
export async function probeSet(node: CniNode): Promise<ReadonlyMap<string, string>> {
  const text = await dump(node);
  const entries = new Map<string, string>();
  // add istio-inpod-probes-v4 10.0.0.7 comment "uid"
  for (const [, ip, uid] of text.matchAll(/^add istio-inpod-probes-v[46] (\S+)(?: comment "([^"]*)")?/gm)) {
    entries.set(ip!, uid ?? "");
  }
  // elements = { 10.0.0.7 comment "uid", … }
  for (const [, elements] of text.matchAll(/set istio-inpod-probes-v[46] \{[^}]*?elements = \{([^}]*)\}/g)) {
    for (const [, ip, uid] of elements!.matchAll(/([0-9a-f.:]+) comment "([^"]*)"/g)) entries.set(ip!, uid!);
  }
  return entries;
}

/** Counts what an application sends out of the pod itself, past its ztunnel: connections to `port` that carry no mark of ztunnel. */
export async function watchForLeaks(pod: CniPod, port: number): Promise<() => Promise<number>> {
  await pod.node.exec(
    ["nft", "-f", "-"],
    pod.netns,
    `
    table inet lab-watch {
      counter ${LEAKED} { }
      chain out {
        type filter hook postrouting priority 300;
        oifname != "lo" tcp dport ${port} tcp flags & (syn | ack) == syn meta mark & 0xfff != 0x539 counter name ${LEAKED}
      }
    }`,
  );
  return async () => {
    const text = await pod.exec(["nft", "list", "counter", "inet", "lab-watch", LEAKED]);
    return Number(/packets (\d+)/.exec(text)?.[1]);
  };
}
