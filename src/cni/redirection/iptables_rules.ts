/**
 * The in-pod rules for iptables, reference cni.md section 4.1, in the words in which iptables-save prints them. Pure text.
 *
 * Names of chains and the rules are Istio's own: an istio-cni that takes the node back finds them as it would have made them.
 */
import {
  MARK_MASK,
  PROBE_ADDRESS,
  type ProbeAddress,
  type RedirectionSettings,
  RETURN_MARK,
  virtualInterfaceName,
  ZTUNNEL_MARK,
  ZTUNNEL_PORTS,
} from "./redirection.ts";

export type Family = "ipv4" | "ipv6";

export interface TableRules {
  readonly table: string;
  /** The chains of ours in it; they may be empty. */
  readonly chains: readonly string[];
  /** In order: `-A CHAIN ...`. Those of chains that are not ours are the jumps to ours. */
  readonly rules: readonly string[];
}

/** All of our chains, those of older versions too, begin with this. */
export const CHAIN_PREFIX = "ISTIO_";
const IN = "ISTIO_PRERT";
const OUT = "ISTIO_OUTPUT";

const FROM_ZTUNNEL = `-m mark --mark ${hex(ZTUNNEL_MARK)}/${hex(MARK_MASK)}`;
const NOT_FROM_ZTUNNEL = `-m mark ! --mark ${hex(ZTUNNEL_MARK)}/${hex(MARK_MASK)}`;
const RETURN = `${hex(RETURN_MARK)}/${hex(MARK_MASK)}`;

const LOOPBACK: Readonly<Record<Family, string>> = { ipv4: "127.0.0.1/32", ipv6: "::1/128" };

/** The rules of one family. @throws Error when a virtual interface has a name that no interface can have. */
export function iptablesRules(
  family: Family,
  settings: RedirectionSettings,
  probe: ProbeAddress = PROBE_ADDRESS,
): readonly TableRules[] {
  const chains = [IN, OUT];
  const tables = [
    { table: "mangle", chains, rules: mangleRules() },
    { table: "nat", chains, rules: natRules(family, settings, `${probe[family]}/${family === "ipv4" ? 32 : 128}`) },
  ];
  return settings.dnsCapture ? [...tables, { table: "raw", chains, rules: rawRules() }] : tables;
}

/** A packet of ztunnel towards the application marks the connection, and the application's replies take the mark. */
function mangleRules(): readonly string[] {
  return [
    `-A PREROUTING -j ${IN}`,
    `-A OUTPUT -j ${OUT}`,
    `-A ${IN} ${FROM_ZTUNNEL} -j CONNMARK --set-xmark ${RETURN}`,
    `-A ${OUT} -m connmark --mark ${RETURN} -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff`,
  ];
}

function natRules(
  family: Family,
  { ingress, dnsCapture, virtualInterfaces }: RedirectionSettings,
  probe: string,
): readonly string[] {
  const elsewhere = `! -d ${LOOPBACK[family]}`;
  const redirect = (port: number) => `-j REDIRECT --to-ports ${port}`;
  const rules = [`-A OUTPUT -j ${OUT}`, `-A PREROUTING -j ${IN}`];
  for (const name of virtualInterfaces.map(virtualInterfaceName)) {
    rules.push(
      `-A ${IN} -i ${name} -p tcp ${redirect(ZTUNNEL_PORTS.outbound)}`,
      `-A ${IN} -i ${name} -p tcp -j RETURN`,
    );
  }
  if (!ingress) rules.push(`-A ${IN} -s ${probe} -p tcp -j ACCEPT`);
  rules.push(`-A ${OUT} -d ${probe} -p tcp -j ACCEPT`);
  if (!ingress) {
    const port = `-p tcp -m tcp ! --dport ${ZTUNNEL_PORTS.inboundHbone}`;
    rules.push(`-A ${IN} ${elsewhere} ${port} ${NOT_FROM_ZTUNNEL} ${redirect(ZTUNNEL_PORTS.inboundPlaintext)}`);
  }
  if (dnsCapture) {
    const dns = redirect(ZTUNNEL_PORTS.dns);
    rules.push(`-A ${OUT} ! -o lo -p udp ${NOT_FROM_ZTUNNEL} -m udp --dport 53 ${dns}`);
    rules.push(`-A ${OUT} ${elsewhere} -p tcp -m tcp --dport 53 ${NOT_FROM_ZTUNNEL} ${dns}`);
  }
  rules.push(`-A ${OUT} -p tcp -m mark --mark ${RETURN} -j ACCEPT`);
  rules.push(`-A ${OUT} ${elsewhere} -o lo -j ACCEPT`);
  rules.push(`-A ${OUT} ${elsewhere} -p tcp ${NOT_FROM_ZTUNNEL} ${redirect(ZTUNNEL_PORTS.outbound)}`);
  return rules;
}

/** ztunnel's own queries are connections apart from those of the application, which have the same addresses and ports. */
function rawRules(): readonly string[] {
  return [
    `-A PREROUTING -j ${IN}`,
    `-A OUTPUT -j ${OUT}`,
    `-A ${OUT} -p udp ${FROM_ZTUNNEL} -m udp --dport 53 -j CT --zone 1`,
    `-A ${IN} -p udp ${NOT_FROM_ZTUNNEL} -m udp --sport 53 -j CT --zone 1`,
  ];
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
