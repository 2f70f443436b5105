/** Rule sets that a pod may have from before: of Istio's own agent, by its several versions and means. */
import { input } from "./support.ts";

/** Reference 4.5, as 1.24 has it: captures what comes in by TPROXY in `mangle`. */
export const TPROXY_1_24 = (loopback: string, probe: string) =>
  `*mangle
:ISTIO_PRERT - [0:0]
:ISTIO_OUTPUT - [0:0]
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_PRERT -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff
-A ISTIO_PRERT -s ${probe} -p tcp -m tcp -j ACCEPT
-A ISTIO_PRERT ! -d ${loopback} -i lo -p tcp -j ACCEPT
-A ISTIO_PRERT -p tcp -m tcp --dport 15008 -m mark ! --mark 0x539/0xfff -j TPROXY --on-port 15008 --tproxy-mark 0x111/0xfff
-A ISTIO_PRERT -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ISTIO_PRERT ! -d ${loopback} -p tcp -m mark ! --mark 0x539/0xfff -j TPROXY --on-port 15006 --tproxy-mark 0x111/0xfff
-A ISTIO_OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
COMMIT
*nat
:ISTIO_OUTPUT - [0:0]
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -d ${probe} -p tcp -m tcp -j ACCEPT
-A ISTIO_OUTPUT ! -o lo -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053
-A ISTIO_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
-A ISTIO_OUTPUT ! -d ${loopback} -o lo -j ACCEPT
-A ISTIO_OUTPUT ! -d ${loopback} -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
COMMIT
`;

/** Reference 4.1 as istio-cni writes it: it spells some rules differently from how they are printed. */
const REDIRECT_1_25 = (loopback: string, probe: string) =>
  `*mangle
-N ISTIO_PRERT
-N ISTIO_OUTPUT
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_PRERT -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff
-A ISTIO_OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
COMMIT
*nat
-N ISTIO_PRERT
-N ISTIO_OUTPUT
-A OUTPUT -j ISTIO_OUTPUT
-A PREROUTING -j ISTIO_PRERT
-A ISTIO_PRERT -s ${probe} -p tcp -m tcp -j ACCEPT
-A ISTIO_OUTPUT -d ${probe} -p tcp -m tcp -j ACCEPT
-A ISTIO_PRERT ! -d ${loopback} -p tcp ! --dport 15008 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT ! -o lo -p udp -m mark ! --mark 0x539/0xfff -m udp --dport 53 -j REDIRECT --to-port 15053
-A ISTIO_OUTPUT ! -d ${loopback} -p tcp --dport 53 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15053
-A ISTIO_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
-A ISTIO_OUTPUT ! -d ${loopback} -o lo -j ACCEPT
-A ISTIO_OUTPUT ! -d ${loopback} -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
COMMIT
*raw
-N ISTIO_PRERT
-N ISTIO_OUTPUT
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -p udp -m mark --mark 0x539/0xfff -m udp --dport 53 -j CT --zone 1
-A ISTIO_PRERT -p udp -m mark ! --mark 0x539/0xfff -m udp --sport 53 -j CT --zone 1
COMMIT
`;

/** What istio-cni puts up while it changes rules (reference 4.4), and leaves when it is killed. */
const GUARD = `*filter
-I INPUT 1 -p tcp -j DROP
-I INPUT 1 -p udp -j DROP
-I FORWARD 1 -p tcp -j DROP
-I FORWARD 1 -p udp -j DROP
-I OUTPUT 1 -p tcp -j DROP
-I OUTPUT 1 -p udp -j DROP
COMMIT
`;

const NATIVE = `
add table inet istio-ambient-nat
add chain inet istio-ambient-nat prerouting { type nat hook prerouting priority -100 ; }
add chain inet istio-ambient-nat output { type nat hook output priority -100 ; }
add chain inet istio-ambient-nat istio-prerouting
add chain inet istio-ambient-nat istio-output
add rule inet istio-ambient-nat output jump istio-output
add rule inet istio-ambient-nat prerouting jump istio-prerouting
add rule inet istio-ambient-nat istio-prerouting ip daddr != 127.0.0.1/32 tcp dport != 15008 mark and 0xfff != 0x539 counter redirect to :15006
add rule inet istio-ambient-nat istio-prerouting ip6 daddr != ::1/128 tcp dport != 15008 mark and 0xfff != 0x539 counter redirect to :15006
add rule inet istio-ambient-nat istio-output oifname != lo mark and 0xfff != 0x539 udp dport 53 counter redirect to :15053
add rule inet istio-ambient-nat istio-output meta l4proto tcp ip daddr != 127.0.0.1/32 mark and 0xfff != 0x539 counter redirect to :15001
add rule inet istio-ambient-nat istio-output meta l4proto tcp ip6 daddr != ::1/128 mark and 0xfff != 0x539 counter redirect to :15001
`;

type Variant = "iptables-nft" | "iptables-legacy";

async function restore(
  netns: string,
  variant: Variant,
  text: (loopback: string, probe: string) => string,
): Promise<void> {
  await input(netns, text("127.0.0.1/32", "169.254.7.127"), `${variant}-restore`, "--noflush");
  await input(
    netns,
    text("::1/128", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"),
    `${variant.replace("ip", "ip6")}-restore`,
    "--noflush",
  );
}

/** Each leaves a pod that is captured, DNS too. */
export const OLDER_RULES: Readonly<Record<string, (netns: string) => Promise<void>>> = {
  "istio-cni's, by iptables-nft": (netns) => restore(netns, "iptables-nft", REDIRECT_1_25),
  "istio-cni's, by iptables-legacy": (netns) => restore(netns, "iptables-legacy", REDIRECT_1_25),
  "TPROXY, by iptables-nft": (netns) => restore(netns, "iptables-nft", TPROXY_1_24),
  "TPROXY, by iptables-legacy": (netns) => restore(netns, "iptables-legacy", TPROXY_1_24),
  "istio-cni's, by nftables": async (netns) => void await input(netns, NATIVE, "nft", "-f", "-"),
  "both variants of iptables, doubled jumps": async (netns) => {
    await restore(netns, "iptables-nft", REDIRECT_1_25);
    await restore(netns, "iptables-legacy", REDIRECT_1_25);
    for (const variant of ["iptables-nft", "iptables-legacy"]) {
      await input(
        netns,
        "*nat\n-A OUTPUT -j ISTIO_OUTPUT\n-N ISTIO_OLDER\n-I PREROUTING 1 -p tcp -j ISTIO_OLDER\nCOMMIT\n",
        `${variant}-restore`,
        "--noflush",
      );
    }
  },
  "a guard that was left behind, and no rules": (netns) => restore(netns, "iptables-nft", () => GUARD),
  "rules and a guard that was left behind, by iptables-legacy": async (netns) => {
    await restore(netns, "iptables-legacy", REDIRECT_1_25);
    await restore(netns, "iptables-legacy", () => GUARD);
  },
};
