/** What a mesh must do, whichever node agent and ztunnel are in it. */
import assert from "node:assert/strict";
import { type Cluster, eventually, type Pod } from "../support/cluster.ts";
import { authorizationPolicy, REDIRECTION, STRICT } from "../support/objects.ts";
import { scenario } from "../support/scenario.ts";
import { pause } from "../../e2e/support/wait.ts";

/** Probes come every second; several of them. */
const PROBES_MS = 4_000;

/** `setup` is the beginning of the tests' names. */
export function meshScenarios(setup: string): void {
  scenario(`${setup}: a pod of the mesh is enrolled, one outside is not`, async (cluster) => {
    await eventually(async () => assert.equal(redirection(await cluster.pod("mesh", "app=server")), "enabled"));
    assert.equal(redirection(await cluster.pod("plain", "app=server")), undefined);
  });

  scenario(`${setup}: a client of the mesh reaches service and pod, by name and by address`, async (cluster) => {
    const { status } = await cluster.pod("mesh", "app=server");
    const client = await cluster.pod("mesh", "app=client");
    for (const url of ["http://server/", "http://server.mesh.svc.cluster.local/", `http://${status.podIP}:8080/`]) {
      // The server sees who asked, though two ztunnels are between.
      assert.match(await cluster.get("mesh/client", url), new RegExp(`peer ${client.status.podIP}:`), url);
    }
    assert.match(await cluster.get("mesh/client", "http://server.plain/"), /^hello/);
  });

  scenario(`${setup}: a client outside the mesh reaches a service of the mesh`, async (cluster) => {
    // The first time, kube-proxy may not know the service yet.
    await eventually(async () => assert.match(await cluster.get("plain/client", "http://server.mesh/"), /^hello/));
  });

  scenario(`${setup}: nobody reaches a closed port`, async (cluster) => {
    const { status } = await cluster.pod("mesh", "app=server");
    assert.equal(await cluster.reaches("mesh/client", `http://${status.podIP}:8081/`), false);
    assert.equal(await cluster.reaches("plain/client", `http://${status.podIP}:8081/`), false);
  });

  scenario(`${setup}: STRICT lets in the mesh's client and the kubelet's probes, and nobody else`, async (cluster) => {
    const before = await cluster.pod("mesh", "app=server");
    await cluster.apply(STRICT);
    try {
      await eventually(async () => assert.equal(await cluster.reaches("plain/client", "http://server.mesh/"), false));
      const probes = await probesOf(cluster, before);
      await pause(PROBES_MS);
      assert.match(await cluster.get("mesh/client", "http://server/"), /^hello/);
      assert.equal(await cluster.reaches("plain/client", "http://server.mesh/"), false);
      // The probes came all the time, and every one was answered.
      assert.ok(await probesOf(cluster, before) > probes + 1);
      const after = await cluster.pod("mesh", "app=server");
      assert.deepEqual(health(after), health(before));
    } finally {
      await cluster.delete("-n", "mesh", "peerauthentication", "strict");
    }
  });

  scenario(`${setup}: a policy by identity decides, and its removal opens again`, async (cluster) => {
    await cluster.apply(authorizationPolicy("nobody"));
    await eventually(async () => assert.equal(await cluster.reaches("mesh/client", "http://server/"), false));
    await cluster.apply(authorizationPolicy("client"));
    await eventually(async () => assert.equal(await cluster.reaches("mesh/client", "http://server/"), true));
    assert.equal(await cluster.reaches("plain/client", "http://server.mesh/"), false);
    await cluster.delete("-n", "mesh", "authorizationpolicy", "by-identity");
    await eventually(async () => assert.equal(await cluster.reaches("plain/client", "http://server.mesh/"), true));
  });

  scenario(`${setup}: istioctl sees the pods as enrolled or not`, async (cluster) => {
    const server = await cluster.pod("mesh", "app=server");
    const plain = await cluster.pod("plain", "app=server");
    await eventually(async () => {
      const workloads = await cluster.istio.istioctl("ztunnel-config", "workloads");
      assert.match(workloads, lineOf("mesh", server, "HBONE"));
      assert.match(workloads, lineOf("plain", plain, "TCP"));
    });
  });
}

function lineOf(namespace: string, { metadata, status }: Pod, protocol: string): RegExp {
  return new RegExp(`^${namespace} +${metadata.name} +${status.podIP} .*${protocol} *$`, "m");
}

export function redirection({ metadata }: Pod): string | undefined {
  return metadata.annotations?.[REDIRECTION];
}

/** How many requests of the kubelet the server has answered. The question is asked where no policy is between. */
export async function probesOf(cluster: Cluster, { metadata, status }: Pod): Promise<number> {
  assert.equal(status.phase, "Running");
  return Number(await cluster.get(`mesh/${metadata.name}`, "http://127.0.0.1:8080/probes"));
}

/** Since when the pod is ready, and how often its containers were started. */
function health({ status }: Pod): unknown {
  const { status: ready, lastTransitionTime } = status.conditions?.find(({ type }) => type === "Ready") ?? {};
  return { ready, lastTransitionTime, restarts: status.containerStatuses?.map(({ restartCount }) => restartCount) };
}
