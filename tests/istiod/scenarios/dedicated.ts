/** PROXY_MODE=dedicated: one workload a process, in the workload's own namespace (reference ztunnel 1.2, 11.1, 11.2). */
import assert from "node:assert/strict";
import { checkExchange, converse } from "../support/exchange.ts";
import { DedicatedZtunnel } from "../support/dedicated.ts";
import type { LabPod } from "../support/pod.ts";
import { scenario, type Scene } from "../support/scenario.ts";

async function addDedicated(scene: Scene, captured: { client: boolean; server: boolean }): Promise<[LabPod, LabPod]> {
  const { lab, a, b, build, namespace } = scene;
  const [client, server] = await lab.preparePods(
    { name: "client", namespace, node: a, captured: captured.client },
    { name: "server", namespace, node: b, captured: captured.server },
  ) as [LabPod, LabPod];
  await lab.settle([a], { uids: [client.workloadUid, server.workloadUid] });
  for (const pod of [client, server]) if (pod.facts.captured) await DedicatedZtunnel.start(pod, build);
  return [client, server];
}

async function stop(...pods: readonly LabPod[]): Promise<void> {
  for (const { dedicated } of pods) await (dedicated as DedicatedZtunnel | undefined)?.stop();
}

scenario("cross_node_captured_dedicated: HBONE between two proxies that serve one workload each", async (scene) => {
  const [client, server] = await addDedicated(scene, { client: true, server: true });
  await checkExchange({ client, server, path: "hbone" });
  await stop(client, server);
});

scenario("server_uncaptured_dedicated: plain TCP to a pod outside the mesh", async (scene) => {
  const [client, server] = await addDedicated(scene, { client: true, server: false });
  await checkExchange({ client, server, path: "tcp" });
  await stop(client);
});

scenario("client_uncaptured_dedicated: plain TCP from a pod outside the mesh", async (scene) => {
  const [client, server] = await addDedicated(scene, { client: false, server: true });
  await checkExchange({ client, server, path: "tcp" });
  await stop(server);
});

for (
  const [name, port] of [["outbound", 15001], ["inbound plaintext", 15006], ["inbound", 15008], [
    "admin",
    15000,
  ]] as const
) {
  scenario(
    `bind conflict, ${name}: dedicated mode does not start, and says which port`,
    async ({ lab, a, build, namespace }) => {
      const [pod] = await lab.preparePods({ name: "pod", namespace, node: a }) as [LabPod];
      const taken = lab.lab.listenRaw(pod.namespaceFd, port, () => {});
      const { ztunnel } = await DedicatedZtunnel.launch(pod, build);
      const { code } = await ztunnel.exit(30_000);
      assert.ok(code !== 0 && code !== null, `exit code ${code}`);
      assert.match(ztunnel.lines.join("\n"), new RegExp(`${port}`));
      taken.close();
    },
    { sideBySide: true },
  );
}

scenario("NODE_NAME unset: every workload counts as local, and HBONE, TCP and service traffic flow", async (scene) => {
  const { lab, b, build, namespace } = scene;
  const nameless = await lab.addNode(build, `${build}-nameless`);
  await nameless.start({ NODE_NAME: undefined });
  const [client, server, plain] = await lab.addPods(
    { name: "client", namespace, node: nameless },
    { name: "server", namespace, node: b },
    { name: "plain", namespace, node: b, captured: false },
  ) as [LabPod, LabPod, LabPod];
  const vip = await lab.addService({ name: "echo", namespace, selector: { app: "server" }, ports: { 80: 8080 } });
  await lab.settle([nameless, b], {
    uids: [client, server, plain].map(({ workloadUid }) => workloadUid),
    services: [`${namespace}/echo`],
  });
  await converse({ client, server, path: "hbone" });
  await converse({ client, server: plain, path: "tcp" });
  await converse({ client, server, ip: vip, port: 80, path: "hbone" });
  await nameless.stop();
});
