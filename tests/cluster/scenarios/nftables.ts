/** The same with native nftables rules, by the chart's value: for pods that were enrolled with iptables by an agent that is gone. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { pause } from "../../e2e/support/wait.ts";
import { tool } from "../../../src/local/run_tool.ts";
import { eventually } from "../support/cluster.ts";
import { undisturbed } from "../support/load.ts";
import { scenario } from "../support/scenario.ts";
import { enrolmentScenarios } from "./enrolment.ts";
import { AFTERWARDS_MS, removalScenario } from "./lifecycle.ts";
import { meshScenarios } from "./mesh.ts";
import { nodeScenarios } from "./node.ts";

const SETUP = "ambit with nftables";
const TABLE = /^table inet istio-ambient/m;
const NETNS = "/run/netns";

scenario(
  `${SETUP}: it is installed anew, gives pods new rules for their old ones, and no request fails`,
  async (cluster) => {
    assert.equal(
      (await enrolledNamespaces()).filter((rules) => !TABLE.test(rules)).length,
      2,
      "client and server have iptables rules",
    );
    await undisturbed(cluster, async () => {
      await cluster.istio.changeCni("ambit", { nativeNftables: true });
      await pause(AFTERWARDS_MS);
    });
    assert.match(await tool(["nft", "list", "tables"]), TABLE);
    await eventually(async () => {
      const all = await enrolledNamespaces();
      assert.equal(all.length, 2);
      for (const rules of all) {
        assert.match(rules, TABLE);
        assert.doesNotMatch(rules, /ISTIO_/, "rules of iptables are left");
      }
    });
  },
);

meshScenarios(SETUP);
enrolmentScenarios(SETUP);
nodeScenarios(SETUP);
removalScenario(SETUP);

/** The rules of each pod that has any of the mesh, as the kernel tells them. */
async function enrolledNamespaces(): Promise<string[]> {
  const all = readdirSync(NETNS).map((name) =>
    tool(["nsenter", `--net=${NETNS}/${name}`, "nft", "list", "ruleset"]).catch(() => "")
  );
  return (await Promise.all(all)).filter((rules) => /istio/i.test(rules));
}
