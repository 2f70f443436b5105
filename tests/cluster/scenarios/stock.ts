/** ambit's ztunnel under Istio's own node agent, which is then replaced. */
import assert from "node:assert/strict";
import { pause } from "../../e2e/support/wait.ts";
import { undisturbed } from "../support/load.ts";
import { serverPod } from "../support/objects.ts";
import { scenario } from "../support/scenario.ts";
import { enrolmentScenarios, ready } from "./enrolment.ts";
import { AFTERWARDS_MS } from "./lifecycle.ts";
import { meshScenarios, redirection } from "./mesh.ts";

const SETUP = "ztunnel under istio-cni";

meshScenarios(SETUP);
enrolmentScenarios(SETUP);

scenario("ambit takes the place of istio-cni, and no request fails", async (cluster) => {
  await undisturbed(cluster, async () => {
    await cluster.istio.changeCni("ambit");
    await pause(AFTERWARDS_MS);
  });
  await cluster.apply(serverPod("mesh", "pod-new"));
  assert.equal(redirection(await ready(cluster, "mesh", "pod-new")), "enabled");
  await cluster.delete("-n", "mesh", "pod/pod-new");
});
