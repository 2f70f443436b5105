/** What istiod sends, and when: it is gone and back, much comes at once, a pod stops being ready. */
import assert from "node:assert/strict";
import { complete, Load, serveLoad } from "../../e2e/support/load.ts";
import { eventually, pause } from "../../e2e/support/wait.ts";
import { APP_PORT, converse } from "../support/exchange.ts";
import type { KubeObject } from "../support/kube_api.ts";
import { podObject, podStatus } from "../support/objects.ts";
import { addressBytes } from "../support/node.ts";
import type { LabPod } from "../support/pod.ts";
import { scenario, scenarioForAll } from "../support/scenario.ts";
import { addPair } from "./paths.ts";

scenarioForAll(
  "istiod killed and back: traffic goes on, what changed meanwhile is learnt, what did not is not sent again",
  async (lab, scenes) => {
    const pairs = await Promise.all(scenes.map((scene) => addPair(scene, { crossNode: true })));
    // Enough that sending it again would show.
    const crowd = "crowd";
    await lab.addNamespace(crowd);
    const members = await Promise.all(Array.from({ length: 200 }, (_, i) => addStranger(lab, crowd, `member-${i}`)));
    const nodes = scenes.flatMap(({ a, b }) => [a, b]);
    await lab.settle(nodes, { uids: members.map(({ metadata }) => `Kubernetes//Pod/${crowd}/${metadata.name}`) });
    const loads = pairs.map(([client, server]) => {
      const served = serveLoad(server, APP_PORT);
      return { served, load: new Load(2, () => client.connect(server.ip(), APP_PORT)) };
    });
    await eventually(() => loads.forEach(({ load }) => assert.ok(load.completed > 20)));

    await lab.plane.endIstiod();
    // Known, but never used: the answer must not depend on istiod.
    const strangers = await Promise.all(
      scenes.map(({ lab, b, namespace }) => lab.preparePods({ name: "later", namespace, node: b })),
    );
    await lab.delete(members[0]!);
    await pause(1_000);
    const during = loads.map(({ load }) => load.completed);
    await eventually(() => loads.forEach(({ load }, i) => assert.ok(load.completed > during[i]! + 20)));
    for (const { a } of scenes) {
      assert.equal((await a.http(15021, "/healthz/ready")).status, 200, "readiness must not depend on istiod");
    }
    // One that starts now has nothing to serve with: it says what it waits for.
    const born = await Promise.all(scenes.map(async ({ lab, build }) => {
      const node = await lab.addNode(build, `${build}-born`);
      await node.launch();
      await eventually(async () => {
        const { status, body } = await node.http(15021, "/healthz/ready");
        assert.equal(status, 500);
        assert.match(body, /state manager/);
      });
      return node;
    }));

    const before = await Promise.all(nodes.map(addressBytes));
    for (const bytes of before) assert.ok(bytes > 40_000, `${bytes} bytes for more than 200 workloads`);
    await lab.plane.startIstiod();
    await Promise.all(nodes.map((node) =>
      node.knows(({ workloads }) => {
        const uids = new Set(workloads.map(({ uid }) => uid));
        if (strangers.flat().some((pod) => !uids.has(pod.workloadUid))) return "what came meanwhile is not known";
        return uids.has(`Kubernetes//Pod/${crowd}/member-0`) ? "what went meanwhile is still there" : undefined;
      }, 60_000)
    ));
    for (const node of born) {
      await node.ready();
      await node.stop();
    }
    const after = await Promise.all(nodes.map(addressBytes));
    nodes.forEach((node, i) => {
      // All of it is more than 200 times 200 bytes.
      const sent = after[i]! - before[i]!;
      assert.ok(sent < 20_000, `${node.name} was sent ${sent} bytes again`);
    });
    for (const { load, served } of loads) {
      await load.stop();
      served.close();
      assert.deepEqual(load.attempts.filter((attempt) => !complete(attempt)), []);
    }
    await Promise.all(scenes.map(async ({ b }, i) => {
      const [later] = strangers[i]! as [LabPod];
      await b.addPod(later);
      await converse({ client: pairs[i]![0], server: later, path: "hbone" });
    }));
    await lab.delete(...members);
  },
);

/** A pod that is only an object, on a node that is nowhere. */
function addStranger(
  lab: { apply(...objects: readonly KubeObject[]): Promise<KubeObject[]> },
  namespace: string,
  name: string,
): Promise<KubeObject> {
  const number = ++strangers;
  const addresses = [`10.250.${number >> 8}.${number & 255}`];
  return lab.apply(
    podObject({ name, namespace, node: "nowhere", addresses, serviceAccount: "stranger", captured: true }),
  )
    .then(([made]) => made!);
}
let strangers = 0;

scenarioForAll("500 pods added in a burst, and deleted: all arrive, traffic does not notice", async (lab, scenes) => {
  const pairs = await Promise.all(scenes.map((scene) => addPair(scene)));
  const loads = pairs.map(([client, server]) => {
    const served = serveLoad(server, APP_PORT);
    return { served, load: new Load(1, () => client.connect(server.ip(), APP_PORT)) };
  });
  const namespace = "burst";
  await lab.addNamespace(namespace);
  const pods = await Promise.all(Array.from({ length: 500 }, (_, i) => addStranger(lab, namespace, `pod-${i}`)));
  const nodes = scenes.flatMap(({ a, b }) => [a, b]);
  await lab.settle(nodes, { uids: pods.map(({ metadata }) => `Kubernetes//Pod/${namespace}/${metadata.name}`) });
  await Promise.all(pods.map((pod) => lab.delete(pod)));
  await Promise.all(nodes.map((node) =>
    node.knows(({ workloads }) => {
      const left = workloads.filter((workload) => workload.namespace === namespace).length;
      return left === 0 ? undefined : `${left} of the burst are still there`;
    })
  ));
  for (const { load, served } of loads) {
    await load.stop();
    served.close();
    assert.ok(load.completed > 20);
    assert.deepEqual(load.attempts.filter((attempt) => !complete(attempt)), []);
  }
});

scenario("an unhealthy pod takes no traffic of its service, and takes it again when it is ready", async (scene) => {
  const { lab, a, b, namespace } = scene;
  const [client, one, two] = await lab.addPods(
    { name: "client", namespace, node: a },
    { name: "one", namespace, node: b, labels: { svc: "pair" } },
    { name: "two", namespace, node: b, labels: { svc: "pair" } },
  ) as [LabPod, LabPod, LabPod];
  const vip = await lab.addService({ name: "pair", namespace, selector: { svc: "pair" }, ports: { 80: APP_PORT } });
  const endpoints = (count: number) =>
    a.knows(({ services }) => {
      const service = services.find((service) => service.namespace === namespace && service.name === "pair");
      const found = Object.keys(service?.endpoints ?? {}).length;
      return found === count ? undefined : `${found} endpoints instead of ${count}`;
    });
  await endpoints(2);
  await lab.plane.api.patchStatus(two.object, podStatus(two.facts.addresses, false));
  await endpoints(1);
  for (let i = 0; i < 10; i++) await converse({ client, server: one, ip: vip, port: 80, path: "hbone" });
  await lab.plane.api.patchStatus(two.object, podStatus(two.facts.addresses, true));
  await endpoints(2);
});
