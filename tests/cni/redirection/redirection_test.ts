/** Every means of redirection against the kernel, in network namespaces of the tests' own: which takes root. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  DEFAULT_REDIRECTION,
  type Redirection,
  type RedirectionSettings,
} from "../../../src/cni/redirection/redirection.ts";
import {
  BACKENDS,
  everything,
  input,
  iptablesRulesOf,
  nftRules,
  output,
  redirectionBy,
  routing,
  run,
  withNetns,
} from "./support.ts";

const WITH_DNS: RedirectionSettings = { ...DEFAULT_REDIRECTION, dnsCapture: true };
const IPV4_ONLY: RedirectionSettings = { ...DEFAULT_REDIRECTION, ipv6: false };

for (const backend of BACKENDS) {
  const redirection = redirectionBy(backend);
  const rulesOf = backend === "nftables" ? nftRules : (netns: string) => iptablesRulesOf(netns, backend);
  const stateOf = async (netns: string) => [await rulesOf(netns), await routing(netns)];

  test(`${backend}: says which it is`, () => {
    assert.equal(redirection.describe(), backend);
  });

  test(`${backend}: replies to ztunnel's spoofed sources are routed back into the pod, IPv4 and IPv6`, async () => {
    await withNetns(async (netns) => {
      await redirection.apply(netns, DEFAULT_REDIRECTION);
      const text = await routing(netns);
      assert.equal(text.match(/32764:\s+from all fwmark 0x111\/0xfff lookup 100/g)?.length, 2);
      assert.equal(text.match(/local default dev lo/g)?.length, 2);
      assert.match(
        await output(netns, "ip", "route", "get", "192.0.2.1", "mark", "0x111"),
        /local 192\.0\.2\.1 dev lo/,
      );
    });
  });

  test(`${backend}: the IPv6 rule is added where the IPv4 one is there, and IPv6 without a loopback address gets no route`, async () => {
    await withNetns(async (netns) => {
      await output(netns, "ip", "rule", "add", "fwmark", "0x111/0xfff", "pref", "32764", "lookup", "100");
      await output(netns, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6");
      await redirection.apply(netns, DEFAULT_REDIRECTION);
      const text = await routing(netns);
      assert.equal(text.match(/fwmark 0x111\/0xfff lookup 100/g)?.length, 2);
      assert.equal(text.match(/local default dev lo/g)?.length, 1);
      assert.deepEqual(await redirection.verify(netns, DEFAULT_REDIRECTION), []);
    });
  });

  test(`${backend}: applying again changes nothing, and other settings replace the old rules`, async () => {
    await withNetns(async (netns) => {
      await redirection.apply(netns, DEFAULT_REDIRECTION);
      const once = await stateOf(netns);
      await redirection.apply(netns, DEFAULT_REDIRECTION);
      assert.deepEqual(await stateOf(netns), once);
      await redirection.apply(netns, WITH_DNS);
      assert.notDeepEqual(await stateOf(netns), once);
      await redirection.apply(netns, IPV4_ONLY);
      assert.deepEqual(await redirection.verify(netns, IPV4_ONLY), []);
      assert.doesNotMatch((await stateOf(netns)).join(), /::1|ip -6 rule.*0x111/);
      await redirection.apply(netns, DEFAULT_REDIRECTION);
      assert.deepEqual(await stateOf(netns), once);
    });
  });

  test(`${backend}: remove leaves nothing, twice as well, and spares the rules of others`, async () => {
    await withNetns(async (netns) => {
      const empty = await everything(netns);
      await redirection.apply(netns, WITH_DNS);
      assert.notEqual(await everything(netns), empty);
      await redirection.remove(netns);
      assert.equal(await everything(netns), empty);

      await output(netns, "nft", "add table inet somebody; add chain inet somebody else");
      await output(netns, "ip", "rule", "add", "pref", "32764", "fwmark", "0x7", "lookup", "7");
      for (const variant of ["iptables-nft", "iptables-legacy"]) {
        await output(netns, variant, "-t", "nat", "-A", "OUTPUT", "-d", "192.0.2.1", "-p", "tcp", "-j", "ACCEPT");
        await output(netns, variant, "-t", "mangle", "-N", "SOMEBODY");
        await output(netns, variant, "-t", "filter", "-A", "INPUT", "-p", "tcp", "-j", "DROP");
      }
      const before = await everything(netns);
      await redirection.apply(netns, WITH_DNS);
      assert.deepEqual(await redirection.verify(netns, WITH_DNS), []);
      await redirection.remove(netns);
      assert.equal(await everything(netns), before);
      await redirection.remove(netns);
      assert.equal(await everything(netns), before);
    });
  });

  test(`${backend}: a loopback device that is down is an error that says so`, async () => {
    await withNetns(async (netns) => {
      await output(netns, "ip", "link", "set", "lo", "down");
      await assert.rejects(
        redirection.apply(netns, DEFAULT_REDIRECTION),
        /cannot add ip -6 route: .*the loopback device is down/,
      );
    });
  });

  test(`${backend}: a namespace that is not there is an error that names it`, async () => {
    await assert.rejects(redirection.apply("/proc/none/ns/net", DEFAULT_REDIRECTION), /\/proc\/none\/ns\/net/);
  });

  test(`${backend}: a virtual interface that cannot be one is refused, and nothing is changed`, async () => {
    await withNetns(async (netns) => {
      const empty = await everything(netns);
      for (const name of ["eth0 -j ACCEPT", "x\n-A OUTPUT -j ACCEPT", '"', "-x", "", "sixteen-letters-x"]) {
        const settings = { ...DEFAULT_REDIRECTION, virtualInterfaces: [name] };
        await assert.rejects(redirection.apply(netns, settings), /virtual interface/, name);
      }
      await redirection.remove(netns);
      assert.equal(await everything(netns), empty);
    });
  });

  test(`${backend}: two calls at once on one namespace, and calls on twenty namespaces at once`, async () => {
    await withNetns(async (netns) => {
      const others = [redirectionBy(backend), redirectionBy(backend)];
      await Promise.all([redirection, ...others].map((one) => one.apply(netns, WITH_DNS)));
      assert.deepEqual(await redirection.verify(netns, WITH_DNS), []);
      await Promise.all([
        redirection.apply(netns, WITH_DNS),
        redirection.remove(netns),
        redirection.apply(netns, WITH_DNS),
      ]);
      assert.deepEqual(await redirection.verify(netns, WITH_DNS), []);
    });
    await Promise.all(Array.from({ length: 20 }, (_, index) =>
      withNetns(async (netns) => {
        await redirection.apply(netns, WITH_DNS);
        if (index % 4 === 0) assert.deepEqual(await redirection.verify(netns, WITH_DNS), []);
      })));
  });
}

async function repairs(
  redirection: Redirection,
  netns: string,
  damages: readonly (readonly [readonly string[], RegExp])[],
): Promise<void> {
  await redirection.apply(netns, WITH_DNS);
  for (const [damage, complaint] of damages) {
    await output(netns, ...damage);
    assert.match((await redirection.verify(netns, WITH_DNS)).join("\n"), complaint, damage.join(" "));
    await redirection.apply(netns, WITH_DNS);
  }
  assert.deepEqual(await redirection.verify(netns, WITH_DNS), []);
}

const ROUTE_DAMAGES: readonly (readonly [readonly string[], RegExp])[] = [
  [["ip", "rule", "del", "pref", "32764"], /ip -4 rule: fwmark 0x111\/0xfff pref 32764 lookup 100 is missing/],
  [["ip", "-6", "route", "flush", "table", "100"], /ip -6 route: local ::\/0 dev lo table 100 is missing/],
];

test("nftables: verify names every kind of damage, and apply repairs it", async () => {
  await withNetns((netns) =>
    repairs(redirectionBy("nftables"), netns, [
      [["nft", "delete table inet istio-ambient-nat"], /chain istio-ambient-nat output is missing/],
      [["nft", "flush chain inet istio-ambient-nat istio-output"], /istio-ambient-nat istio-output has other rules/],
      [["nft", "insert rule inet istio-ambient-nat istio-output accept"], /istio-output has other rules/],
      [["nft", "add chain inet istio-ambient-mangle x"], /istio-ambient-mangle x does not belong/],
      [["nft", "add set inet istio-ambient-nat x { type ipv4_addr; }"], /istio-ambient-nat x \(set\) does not belong/],
      [["nft", "chain inet istio-ambient-nat output { policy drop; }"], /output has another hook, priority or policy/],
      [
        [
          "nft",
          "delete table inet istio-ambient-raw; add table inet istio-ambient-raw; add chain inet istio-ambient-raw output { type filter hook output priority 7; }",
        ],
        /istio-ambient-raw output has another hook/,
      ],
      ...ROUTE_DAMAGES,
    ])
  );
});

test("nftables: verify notices a rule that was changed and kept its comment, and rules in another order", async () => {
  await withNetns(async (netns) => {
    const redirection = redirectionBy("nftables");
    for (
      const change of [
        (text: string) => text.replace("redirect to :15001", "redirect to :15002"),
        (text: string) => text.replace(/^(.*saddr 169.*\n)((?:.*\n){3})/m, "$2$1"),
      ]
    ) {
      await redirection.apply(netns, WITH_DNS);
      const before = await output(netns, "nft", "list", "ruleset");
      await input(netns, `flush ruleset\n${change(before)}`, "nft", "-f", "-");
      assert.match((await redirection.verify(netns, WITH_DNS)).join("\n"), /has other rules/);
    }
  });
});

for (const variant of ["iptables-nft", "iptables-legacy"] as const) {
  test(`${variant}: verify names every kind of damage, and apply repairs it`, async () => {
    const six = variant.replace("ip", "ip6");
    await withNetns((netns) =>
      repairs(redirectionBy(variant), netns, [
        [[variant, "-t", "nat", "-F"], /table nat: chain ISTIO_OUTPUT has other rules/],
        [[variant, "-t", "nat", "-F", "OUTPUT"], /table nat: chain OUTPUT does not jump to ours/],
        [[six, "-t", "mangle", "-F"], /ip6tables-\w+: table mangle: chain ISTIO_PRERT has other rules/],
        [[variant, "-t", "nat", "-I", "ISTIO_OUTPUT", "-j", "ACCEPT"], /chain ISTIO_OUTPUT has other rules/],
        [[variant, "-t", "nat", "-A", "OUTPUT", "-j", "ISTIO_OUTPUT"], /chain OUTPUT has jumps that do not belong/],
        [
          [variant, "-t", "mangle", "-A", "INPUT", "-p", "tcp", "-g", "ISTIO_PRERT"],
          /chain INPUT has jumps that do not belong/,
        ],
        [[variant, "-t", "filter", "-N", "ISTIO_X"], /table filter: chain ISTIO_X does not belong/],
        [["sh", "-c", `${variant} -t raw -F && ${variant} -t raw -X`], /table raw: chain ISTIO_OUTPUT is missing/],
        // The same rules, but ztunnel's are captured before they are let pass.
        [
          [
            "sh",
            "-c",
            `${variant} -t nat -D ISTIO_OUTPUT -d 169.254.7.127 -p tcp -j ACCEPT; ${variant} -t nat -A ISTIO_OUTPUT -d 169.254.7.127 -p tcp -j ACCEPT`,
          ],
          /chain ISTIO_OUTPUT has other rules/,
        ],
        ...ROUTE_DAMAGES,
      ])
    );
  });
}

test("iptables-legacy: pods do not wait for the lock of the machine, or for each other's", async () => {
  await withNetns(async (netns) => {
    const commands: Record<string, string>[] = [];
    const redirection = redirectionBy("iptables-legacy", (where, command, text, env = {}) => {
      if (command[0]?.includes("legacy")) commands.push(env);
      return run(where, command, text, env);
    });
    await redirection.apply(netns, WITH_DNS);
    assert.ok(commands.length > 0);
    for (const env of commands) assert.deepEqual(env, { XTABLES_LOCKFILE: "/proc/self/ns/net" });
  });
});

test("redirection: a fresh pod costs one program with nftables, and one a family with iptables", async () => {
  for (const [backend, programs] of [["nftables", 1], ["iptables-nft", 2], ["iptables-legacy", 2]] as const) {
    await withNetns(async (netns) => {
      const commands: string[] = [];
      const redirection = redirectionBy(backend, (where, command, text, env) => {
        commands.push(command.join(" "));
        return run(where, command, text, env);
      });
      await redirection.apply(netns, WITH_DNS);
      assert.equal(commands.length, programs, commands.join("; "));
    });
  }
});
