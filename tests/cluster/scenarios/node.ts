/** What ambit's node agent tells and heals, which Istio's does not. */
import assert from "node:assert/strict";
import { pause } from "../../e2e/support/wait.ts";
import { tool } from "../../../src/local/run_tool.ts";
import { eventually } from "../support/cluster.ts";
import { SYSTEM } from "../support/istio.ts";
import { serverPod, STRICT } from "../support/objects.ts";
import { scenario } from "../support/scenario.ts";
import { ready } from "./enrolment.ts";
import { probesOf } from "./mesh.ts";

/** Longer than the agent lets pass between two looks at its rules. */
const HEALED_MS = 45_000;
/** Two probes come in it. */
const PROBES_MS = 2_500;
/** Where the kubelet's probes come from, as pods see it. */
const PROBE_ADDRESS = "169.254.7.127";

export function nodeScenarios(setup: string): void {
  scenario(`${setup}: "cni status" tells of every pod of the node whether it is captured, and why`, async (cluster) => {
    const [captured, plain] = [await cluster.pod("mesh", "app=server"), await cluster.pod("plain", "app=server")];
    const status = await cluster.kubectl(
      "-n",
      SYSTEM,
      "exec",
      "daemonset/istio-cni-node",
      "--",
      "ambit",
      "cni",
      "status",
    );
    assert.match(status, new RegExp(`mesh/${captured.metadata.name}: enrolled since `));
    assert.match(status, new RegExp(`plain/${plain.metadata.name}: not eligible`));
  });

  scenario(
    `${setup}: somebody flushes the node's rules, and the kubelet's probes come through again`,
    async (cluster) => {
      // Without the node's rules a probe is a client without identity. The pod is one that nobody restarts for it: that would take longer.
      const selector = { matchLabels: { app: "pod-probed" } };
      await cluster.apply(serverPod("mesh", "pod-probed"), { ...STRICT, spec: { ...STRICT.spec as object, selector } });
      try {
        const pod = await ready(cluster, "mesh", "pod-probed");
        await flush();
        assert.equal(await hasRules(), false);
        await eventually(async () => assert.equal(await hasRules(), true), HEALED_MS);
        await eventually(async () => {
          const probes = await probesOf(cluster, pod);
          await pause(PROBES_MS);
          assert.ok(await probesOf(cluster, pod) > probes);
        });
        await ready(cluster, "mesh", "pod-probed");
      } finally {
        await cluster.delete("-n", "mesh", "peerauthentication/strict", "pod/pod-probed");
      }
    },
  );
}

/** All that translates addresses on the node, as a restart of a firewall does; kube-proxy brings its own back by itself. */
async function flush(): Promise<void> {
  const tables = await tool(["nft", "list", "tables"]);
  for (const table of tables.split("\n").filter((line) => /istio/.test(line))) {
    await tool(["nft", "flush", ...table.split(" ")]);
  }
  for (const program of ["iptables-nft", "iptables-legacy"]) {
    const rules = await tool([`${program}-save`, "-t", "nat"]).catch(() => "");
    if (!rules.includes("ISTIO_POSTRT")) continue;
    await tool([program, "-t", "nat", "-D", "POSTROUTING", "-j", "ISTIO_POSTRT"]);
    await tool([program, "-t", "nat", "-F", "ISTIO_POSTRT"]);
  }
}

async function hasRules(): Promise<boolean> {
  const programs = [["nft", "list", "ruleset"], ["iptables-nft-save"], ["iptables-legacy-save"]];
  const rules = await Promise.all(programs.map((program) => tool(program).catch(() => "")));
  return rules.some((text) => text.includes(PROBE_ADDRESS));
}
