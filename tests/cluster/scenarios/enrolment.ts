/** Pods come into the mesh and leave it, by their labels. */
import assert from "node:assert/strict";
import { type Cluster, eventually } from "../support/cluster.ts";
import { MODE_LABEL, serverPod, STRICT } from "../support/objects.ts";
import { scenario } from "../support/scenario.ts";
import { redirection } from "./mesh.ts";

export function enrolmentScenarios(setup: string): void {
  scenario(`${setup}: a pod that is labelled "none" stays out of its namespace's mesh`, async (cluster) => {
    await cluster.apply(STRICT, serverPod("mesh", "pod-none", { labels: { [MODE_LABEL]: "none" } }));
    try {
      const pod = await ready(cluster, "mesh", "pod-none");
      assert.equal(redirection(pod), undefined);
      // Nobody is there to be strict for it, and as a client it has no identity to show.
      assert.match(await cluster.get("plain/client", `http://${pod.status.podIP}:8080/`), /^hello/);
      await eventually(async () => assert.equal(await cluster.reaches("mesh/pod-none", "http://server/"), false));
      assert.match(await cluster.get("mesh/client", `http://${pod.status.podIP}:8080/`), /^hello/);
    } finally {
      await cluster.delete("-n", "mesh", "peerauthentication/strict", "pod/pod-none");
    }
  });

  scenario(`${setup}: a running pod is enrolled by its label, and let go without it`, async (cluster) => {
    await cluster.apply(serverPod("plain", "pod-live"), {
      ...STRICT,
      metadata: { name: "strict", namespace: "plain" },
    });
    try {
      const { status } = await ready(cluster, "plain", "pod-live");
      const url = `http://${status.podIP}:8080/`;
      assert.match(await cluster.get("plain/client", url), /^hello/);
      await cluster.kubectl("-n", "plain", "label", "pod/pod-live", `${MODE_LABEL}=ambient`);
      await eventually(async () => assert.equal(redirection(await cluster.pod("plain", "app=pod-live")), "enabled"));
      // Now the policy of its namespace holds for it.
      await eventually(async () => assert.equal(await cluster.reaches("plain/client", url), false));
      await eventually(async () => assert.match(await cluster.get("mesh/client", url), /^hello/));
      await eventually(async () => assert.equal(await cluster.reaches("plain/pod-live", "http://server.mesh/"), true));
      await cluster.kubectl("-n", "plain", "label", "pod/pod-live", `${MODE_LABEL}-`);
      await eventually(async () => assert.equal(redirection(await cluster.pod("plain", "app=pod-live")), undefined));
      await eventually(async () => assert.match(await cluster.get("plain/client", url), /^hello/));
      const { status: after } = await cluster.pod("plain", "app=pod-live");
      assert.equal(after.containerStatuses?.[0]?.restartCount, 0);
    } finally {
      await cluster.delete("-n", "plain", "peerauthentication/strict", "pod/pod-live");
    }
  });
}

export async function ready(cluster: Cluster, namespace: string, name: string, timeout = "40s") {
  await cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", `pod/${name}`, `--timeout=${timeout}`);
  return await cluster.pod(namespace, `app=${name}`);
}
