/**
 * What makes a pod's traffic pass its node's ztunnel: the contract between whoever sets up a pod and the rules in it.
 *
 * Reference: cni.md section 4, ztunnel.md section 1.5. An implementation changes nothing outside the pod's network
 * namespace, may be applied any number of times, and removes all of what it added and nothing else.
 */

/** Where ztunnel listens inside the pod. Fixed by ztunnel (reference ztunnel.md 1.3). */
export const ZTUNNEL_PORTS = { outbound: 15001, inboundPlaintext: 15006, inboundHbone: 15008, dns: 15053 } as const;

/** SO_MARK on every socket of ztunnel: its own packets must not be captured again. */
export const ZTUNNEL_MARK = 0x539;
/** Conntrack mark of a connection that ztunnel opened; the application's replies carry it back to ztunnel. */
export const RETURN_MARK = 0x111;
/** The bits both marks live in; the others belong to network plugins. */
export const MARK_MASK = 0xfff;

/** Kubelet's health probes reach a pod from these addresses (the node's agent rewrites them) and stay outside the mesh. */
export const PROBE_ADDRESS: ProbeAddress = { ipv4: "169.254.7.127", ipv6: "fd16:9254:7127:1337:ffff:ffff:ffff:ffff" };

/** Of a node that has others: HOST_PROBE_SNAT_IP and HOST_PROBE_SNAT_IPV6. */
export interface ProbeAddress {
  readonly ipv4: string;
  readonly ipv6: string;
}

/** What is decided per pod. */
export interface RedirectionSettings {
  /** Also capture IPv6. */
  readonly ipv6: boolean;
  /** Send the pod's DNS queries to ztunnel. */
  readonly dnsCapture: boolean;
  /** The pod is an ingress gateway: plaintext from outside reaches it directly. */
  readonly ingress: boolean;
  /** Interfaces of virtual machines inside the pod, whose traffic counts as outbound. */
  readonly virtualInterfaces: readonly string[];
}

/** An ordinary captured pod. */
export const DEFAULT_REDIRECTION: RedirectionSettings = {
  ipv6: true,
  dnsCapture: false,
  ingress: false,
  virtualInterfaces: [],
};

/**
 * Checks the name of a virtual interface, which comes from a pod's author and goes into rules that root runs. Linux allows more, rule
 * sets do not. A `+` at the end is iptables' wildcard. @throws Error
 */
export function virtualInterfaceName(name: string): string {
  if (name.length <= 15 && /^[A-Za-z0-9_][A-Za-z0-9_.@-]*\+?$/.test(name)) return name;
  throw new Error(`virtual interface ${JSON.stringify(name)}: not a name that rules can be written for`);
}

/**
 * One way to redirect. `netns` is the path of the pod's network namespace (`/proc/PID/ns/net`, `/run/netns/NAME`, or
 * `/proc/PID/fd/N` of a descriptor that this process holds).
 * Every method rejects with the failed command and its words. Calls for one namespace take turns.
 *
 * What every implementation keeps, so that an agent may change from one to another at any time:
 * - `apply` is complete before it removes: at each moment of a replacement, also when the process dies in it, a packet that was
 *   captured before meets the old rules, the new ones or both.
 * - `apply` and `remove` take away whatever another implementation, an older version or Istio's own agent left in the
 *   pod (leftovers.ts), and nobody else's rules.
 *
 * Room for others: sidecar rules (section 2.5) are one more list of tables for iptables.ts, with settings of their own. The old
 * geneve and eBPF mechanisms (section 6) need the node's side too (a device, a program, routes): an implementation of them gets
 * that from its factory, as this one gets its means of running tools, and has the same three methods per pod.
 */
export interface Redirection {
  /** Installs the rules, or replaces those of an earlier apply. After a failure the pod may be half set up: apply again or remove. */
  apply(netns: string, settings: RedirectionSettings): Promise<void>;
  /** What differs from the rules that `apply` would leave, one line each; empty when the pod is as it should be. */
  verify(netns: string, settings: RedirectionSettings): Promise<readonly string[]>;
  /** Takes everything out again. A pod without rules is no error. */
  remove(netns: string): Promise<void>;
  /** Which one it is. */
  describe(): RedirectionBackend;
}

export type RedirectionBackend = "nftables" | "iptables-nft" | "iptables-legacy";
