/**
 * The rules of every combination of settings as the kernel has them, against golden files. `UPDATE_GOLDENS=1` writes the files anew: then
 * read the difference.
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import process from "node:process";
import { test } from "node:test";
import { podOverrides } from "../../../src/cni/eligibility.ts";
import type { RedirectionSettings } from "../../../src/cni/redirection/redirection.ts";
import { BACKENDS, iptablesRulesOf, nftRules, redirectionBy, withNetns } from "./support.ts";

const INTERFACES = ["fake1s0f0", "fake1s0f1"];
const BOTH = [false, true];
const COMBINATIONS: readonly RedirectionSettings[] = BOTH.flatMap((ipv6) =>
  BOTH.flatMap((dnsCapture) =>
    BOTH.flatMap((ingress) =>
      [[], INTERFACES].map((virtualInterfaces) => ({ ipv6, dnsCapture, ingress, virtualInterfaces }))
    )
  )
);

function nameOf({ ipv6, dnsCapture, ingress, virtualInterfaces }: RedirectionSettings): string {
  const parts = [
    dnsCapture && "dns",
    ingress && "ingress",
    virtualInterfaces.length > 0 && "interfaces",
    ipv6 && "ipv6",
  ];
  return parts.filter((part) => part !== false).join(" ") || "plain";
}

async function readGoldens(file: string): Promise<ReadonlyMap<string, string>> {
  const text = await readFile(new URL(file, import.meta.url), "utf8").catch(() => "");
  return new Map(
    text.split(/^## /m).slice(1).map((section) => {
      const end = section.indexOf("\n");
      return [section.slice(0, end), section.slice(end + 1)] as const;
    }),
  );
}

for (const backend of BACKENDS) {
  // The two variants of iptables are to look the same.
  const file = backend === "nftables" ? "./golden_nftables.txt" : "./golden_iptables.txt";
  const rulesOf = backend === "nftables" ? nftRules : (netns: string) => iptablesRulesOf(netns, backend);

  test(`${backend}: the kernel has the rules of the golden file, for every combination of settings`, async () => {
    const redirection = redirectionBy(backend);
    const found = new Map<string, string>();
    await Promise.all([0, 1].map(async (half) => {
      for (const settings of COMBINATIONS.filter((_, index) => index % 2 === half)) {
        await withNetns(async (netns) => {
          await redirection.apply(netns, settings);
          found.set(nameOf(settings), await rulesOf(netns));
        });
      }
    }));
    const sections = COMBINATIONS.map(nameOf).map((name) => [name, found.get(name)] as const);
    if (process.env.UPDATE_GOLDENS !== undefined) {
      await writeFile(new URL(file, import.meta.url), sections.map(([name, rules]) => `## ${name}\n${rules}`).join(""));
    }
    const goldens = await readGoldens(file);
    assert.deepEqual([...goldens.keys()], sections.map(([name]) => name));
    for (const [name, rules] of sections) assert.equal(rules, goldens.get(name), name);
  });
}

/** The cases of upstream's own tests (reference 8.5): a pod's annotations and what the agent is set to, and which rules that means. */
const CASES: Readonly<Record<string, { annotations: Record<string, string>; dnsByDefault: boolean; means: string }>> = {
  default: { annotations: {}, dnsByDefault: true, means: "dns" },
  ingress: {
    annotations: { "ambient.istio.io/bypass-inbound-capture": "true" },
    dnsByDefault: false,
    means: "ingress",
  },
  virtual_interfaces: {
    annotations: { "istio.io/reroute-virtual-interfaces": "fake1s0f0,fake1s0f1" },
    dnsByDefault: false,
    means: "interfaces",
  },
  ingress_and_virtual_interfaces: {
    annotations: {
      "ambient.istio.io/bypass-inbound-capture": "true",
      "istio.io/reroute-virtual-interfaces": "fake1s0f0, fake1s0f1",
    },
    dnsByDefault: false,
    means: "ingress interfaces",
  },
  dns_pod_enabled_and_off_globally: {
    annotations: { "ambient.istio.io/dns-capture": "true" },
    dnsByDefault: false,
    means: "dns",
  },
  dns_pod_disabled_and_on_globally: {
    annotations: { "ambient.istio.io/dns-capture": "false" },
    dnsByDefault: true,
    means: "plain",
  },
};

for (const [name, { annotations, dnsByDefault, means }] of Object.entries(CASES)) {
  test(`redirection: upstream's case ${name}, with and without IPv6, is a combination of the golden files`, async () => {
    const { ingress = false, dnsCapture = dnsByDefault, virtualInterfaces, warnings } = podOverrides({
      metadata: { annotations },
    });
    assert.deepEqual(warnings, []);
    for (const ipv6 of BOTH) {
      const combination = nameOf({ ipv6, ingress, dnsCapture, virtualInterfaces });
      assert.equal(combination, ipv6 ? (means === "plain" ? "ipv6" : `${means} ipv6`) : means);
      for (const file of ["./golden_nftables.txt", "./golden_iptables.txt"]) {
        const golden = (await readGoldens(file)).get(combination) ?? "";
        const has = (text: string) => golden.includes(text);
        assert.equal(has("15006"), !ingress, `${file}: inbound`);
        assert.equal(has("15053"), dnsCapture, `${file}: DNS`);
        assert.deepEqual([...new Set(golden.match(/fake1s0f\d/g))], virtualInterfaces, `${file}: interfaces`);
        assert.equal(has("::1"), ipv6, `${file}: IPv6`);
      }
    }
  });
}
