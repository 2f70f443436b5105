/** Who is captured and where it runs: the path of a connection, seen by both ends (reference ztunnel 11.1, the first rows). */
import assert from "node:assert/strict";
import { pause } from "../../e2e/support/wait.ts";
import { APP_PORT, checkExchange } from "../support/exchange.ts";
import { scenario, type Scene } from "../support/scenario.ts";
import type { LabPod } from "../support/pod.ts";

interface Pair {
  readonly crossNode?: boolean;
  readonly clientCaptured?: boolean;
  readonly serverCaptured?: boolean;
}

/** A client on node a and a server beside it or on node b, known to both ztunnels. */
export async function addPair(
  { lab, a, b, namespace }: Scene,
  { crossNode = false, clientCaptured = true, serverCaptured = true }: Pair = {},
): Promise<[LabPod, LabPod]> {
  const [client, server] = await lab.addPods(
    { name: "client", namespace, node: a, captured: clientCaptured },
    { name: "server", namespace, node: crossNode ? b : a, captured: serverCaptured },
  ) as [LabPod, LabPod];
  await lab.settle([a, b], { uids: [client.workloadUid, server.workloadUid] });
  return [client, server];
}

scenario("local_captured_inpod: same node, HBONE, both reporters and both logs", async (scene) => {
  const [client, server] = await addPair(scene);
  await checkExchange({ client, server, path: "hbone" });
});

scenario("cross_node_captured_inpod: two nodes, HBONE, both reporters and both logs", async (scene) => {
  const [client, server] = await addPair(scene, { crossNode: true });
  await checkExchange({ client, server, path: "hbone" });
});

scenario("server_uncaptured_inpod: plain TCP, no identities", async (scene) => {
  const [client, server] = await addPair(scene, { crossNode: true, serverCaptured: false });
  await checkExchange({ client, server, path: "tcp" });
});

scenario("client_uncaptured_inpod: plain TCP through 15006, no identities", async (scene) => {
  const [client, server] = await addPair(scene, { crossNode: true, clientCaptured: false });
  await checkExchange({ client, server, path: "tcp" });
});

scenario(
  "service_loadbalancing: one request hits one backend, fifty hit both; service labels on both sides",
  async (scene) => {
    const { lab, a, b, namespace } = scene;
    const [client, near, far] = await lab.addPods(
      { name: "client", namespace, node: a },
      { name: "near", namespace, node: a, captured: false, labels: { svc: "echo" } },
      { name: "far", namespace, node: b, labels: { svc: "echo" } },
    ) as [LabPod, LabPod, LabPod];
    const vip = await lab.addService({ name: "echo", namespace, selector: { svc: "echo" }, ports: { 80: APP_PORT } });
    await a.knows((dump) => {
      const service = dump.services.find((service) => service.namespace === namespace && service.name === "echo");
      return Object.keys(service?.endpoints ?? {}).length === 2 ? undefined : "not both endpoints";
    });
    const hits = { near: 0, far: 0 };
    const count = (name: "near" | "far") => (peer: { write(text: string): void; finish(): void; close(): void }) => {
      hits[name]++;
      peer.write(name);
      peer.finish();
      peer.close();
    };
    const servers = [near.listen(APP_PORT, count("near")), far.listen(APP_PORT, count("far"))];
    const request = async () => {
      const peer = await client.connect(vip, 80);
      const { text } = await peer.readToEnd();
      peer.close();
      assert.ok(text === "near" || text === "far", text);
    };
    await request();
    assert.equal(hits.near + hits.far, 1);
    for (let i = 0; i < 49; i++) await request();
    assert.equal(hits.near + hits.far, 50);
    // The chance that fair draws leave one out is 2^-49.
    assert.ok(hits.near > 0 && hits.far > 0, JSON.stringify(hits));
    for (const server of servers) server.close();
    await pause(100);
    const host = `echo.${namespace}.svc.cluster.local`;
    const labels = {
      destination_service: host,
      destination_service_name: "echo",
      destination_service_namespace: namespace,
    };
    const opened = "istio_tcp_connections_opened_total";
    assert.equal(await a.metric(opened, { reporter: "source", ...labels, destination_workload: "near" }), hits.near);
    assert.equal(await a.metric(opened, { reporter: "source", ...labels, destination_workload: "far" }), hits.far);
    assert.equal(await b.metric(opened, { reporter: "destination", ...labels, destination_workload: "far" }), hits.far);
  },
);
