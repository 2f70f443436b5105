/** Where the DNS proxy listens in a pod (reference ztunnel 1.3). */
import { loopbackHasIpv6 } from "../../platform/net_sysctl.ts";
import type { SocketFactory } from "../../net/socket_factory.ts";
import { parseSocketAddress } from "../../mesh/socket_address.ts";

/** One socket. `kind` also names it to the process that takes over. */
export interface DnsListenerPlan {
  readonly kind: "dnsUdp" | "dnsTcp" | "dnsUdp6" | "dnsTcp6";
  readonly protocol: "udp" | "tcp";
  readonly ip: string;
  readonly port: number;
}

/**
 * The sockets for an address as ISTIO_META_DNS_PROXY_ADDR gives it: `localhost:port` is both loopbacks, `::1` only where the pod itself has
 * it. Throws for what is no address.
 */
export function dnsListeners(
  address: string,
  ipv6Enabled: boolean,
  sockets: Pick<SocketFactory, "run">,
): readonly DnsListenerPlan[] {
  const port = /^localhost:([0-9]+)$/.exec(address)?.[1];
  if (port !== undefined) {
    const v4 = both("127.0.0.1", Number(port), "");
    if (!ipv6Enabled || !loopbackHasIpv6((open) => sockets.run(open))) return v4;
    return [...v4, ...both("::1", Number(port), "6")];
  }
  const parsed = parseSocketAddress(address);
  if (parsed === undefined) {
    throw new Error(`the DNS proxy's address "${address}" is neither localhost:port nor ip:port`);
  }
  return both(parsed.ip, parsed.port, parsed.ip.includes(":") ? "6" : "");
}

function both(ip: string, port: number, suffix: "" | "6"): DnsListenerPlan[] {
  return [
    { kind: `dnsUdp${suffix}`, protocol: "udp", ip, port },
    { kind: `dnsTcp${suffix}`, protocol: "tcp", ip, port },
  ];
}

/** Whether a listener takes datagrams: there is nothing to accept. */
export function isDatagramKind(kind: string): boolean {
  return kind === "dnsUdp" || kind === "dnsUdp6";
}
