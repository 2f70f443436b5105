/** AuthorizationPolicy and PeerAuthentication objects, enforced (reference ztunnel 6.6, 11.1). */
import assert from "node:assert/strict";
import { ECONNRESET } from "../../../src/platform/errno.ts";
import { Load, serveLoad } from "../../e2e/support/load.ts";
import { eventually, pause } from "../../e2e/support/wait.ts";
import { APP_PORT, converse, socketAddress } from "../support/exchange.ts";
import { authorizationPolicy, peerAuthentication } from "../support/objects.ts";
import type { LabPod } from "../support/pod.ts";
import { scenario } from "../support/scenario.ts";
import type { LabNode } from "../support/node.ts";
import { Waypoint } from "../support/waypoint.ts";
import { RawTunnel } from "../../e2e/support/raw_hbone.ts";
import { addPair } from "./paths.ts";

/** The node has the policy, or has it no more. */
async function policyThere(node: LabNode, namespace: string, name: string, there = true): Promise<void> {
  await node.knows(({ policies }) =>
    policies.some((policy) => policy.name === name && policy.namespace === namespace) === there
      ? undefined
      : `the policy ${namespace}/${name} is ${there ? "not there yet" : "still there"}`
  );
}

scenario(
  "test_policy: only the waypoint may; others get 401 and the log says that no allow policy matched",
  async (scene) => {
    const { lab, b, namespace } = scene;
    const [client, server] = await addPair(scene, { crossNode: true });
    const waypoint = await Waypoint.create(lab, { name: "guard", namespace, node: b });
    const spec = {
      action: "ALLOW",
      selector: { matchLabels: { app: "server" } },
      rules: [{ from: [{ source: { principals: [`cluster.local/ns/${namespace}/sa/guard`] } }] }],
    };
    await lab.apply(authorizationPolicy(namespace, "only-guard", spec));
    await policyThere(b, namespace, "only-guard");
    await b.knows(({ workloads }) =>
      workloads.find(({ uid }) => uid === server.workloadUid)?.authorizationPolicies?.includes(
          `${namespace}/only-guard`,
        )
        ? undefined
        : "the workload does not name the policy"
    );
    const material = await lab.issue(waypoint.pod);
    const tunnel = await RawTunnel.connect(waypoint.pod, server.ip(), material);
    const listening = server.listen(APP_PORT, (peer) => peer.close());
    const allowed = await tunnel.connect(socketAddress(server.ip(), APP_PORT)).response();
    assert.equal(allowed.status, "200");
    tunnel.close();
    const other = await RawTunnel.connect(waypoint.pod, server.ip(), await lab.plane.ca.issue(client.identity));
    const denied = await other.connect(socketAddress(server.ip(), APP_PORT)).response();
    assert.equal(denied.status, "401");
    other.close();

    const mark = b.ztunnel.mark;
    assert.equal(await client.refusal(server.ip(), APP_PORT), ECONNRESET);
    const line = await b.ztunnel.access(({ fields }) => fields["src.workload"] === "client", mark);
    assert.match(line.fields.error!, /allow policies exist, but none allowed/);
    assert.equal(
      await scene.a.metric("istio_tcp_connections_closed_total", {
        reporter: "source",
        source_workload_namespace: namespace,
        source_workload: "client",
        response_flags: "CONNECT",
      }),
      1,
    );
    listening.close();
  },
);

scenario("hbone_ip_mismatch: a CONNECT with another pod's address is answered 400", async (scene) => {
  const { lab, a, b, namespace } = scene;
  const [prober, server, other] = await lab.addPods(
    { name: "prober", namespace, node: a, captured: false },
    { name: "server", namespace, node: b },
    { name: "other", namespace, node: b },
  ) as [LabPod, LabPod, LabPod];
  await lab.settle([b], { uids: [prober, server, other].map(({ workloadUid }) => workloadUid) });
  const mark = b.ztunnel.mark;
  const tunnel = await RawTunnel.connect(prober, server.ip(), await lab.issue(prober));
  assert.deepEqual(tunnel.serverUris, [server.identity]);
  const stream = await tunnel.connect(socketAddress(other.ip(), APP_PORT)).response();
  assert.equal(stream.status, "400");
  const line = await b.ztunnel.access(({ fields }) => fields["src.addr"]!.startsWith(`${prober.ip()}:`), mark);
  assert.match(line.fields.error!, new RegExp(`ip mismatch: ${server.ip()} != ${other.ip()}`));
  tunnel.close();
});

scenario("test_svc_hostname_port and _named_port: a CONNECT by the service's name", async (scene) => {
  const { lab, a, b, namespace } = scene;
  const [prober, server] = await lab.addPods(
    { name: "prober", namespace, node: a, captured: false },
    { name: "server", namespace, node: b, ports: { web: APP_PORT } },
  ) as [LabPod, LabPod];
  const selector = { app: "server" };
  await lab.addService({ name: "numbered", namespace, selector, ports: { 80: APP_PORT } });
  await lab.addService({ name: "named", namespace, selector, ports: { 80: "web" } });
  await lab.settle([b], { uids: [server.workloadUid], services: [`${namespace}/numbered`, `${namespace}/named`] });
  const listening = server.listen(APP_PORT, (peer) => {
    peer.write("welcome");
    peer.finish();
    void peer.ended(10_000).then(() => peer.close(), () => peer.close());
  });
  const tunnel = await RawTunnel.connect(prober, server.ip(), await lab.issue(prober));
  for (const name of ["numbered", "named"]) {
    const stream = await tunnel.connect(`${name}.${namespace}.svc.cluster.local:80`).response();
    assert.equal(stream.status, "200", name);
    await stream.read("welcome");
    stream.send("", true);
  }
  tunnel.close();
  listening.close();
});

scenario(
  "PeerAuthentication STRICT: plaintext is refused, HBONE is not, and PERMISSIVE opens it again",
  async (scene) => {
    const { lab, a, b, namespace } = scene;
    const [plain, client, server] = await lab.addPods(
      { name: "plain", namespace, node: a, captured: false },
      { name: "client", namespace, node: a },
      { name: "server", namespace, node: b },
    ) as [LabPod, LabPod, LabPod];
    await lab.settle([a, b], { uids: [plain, client, server].map(({ workloadUid }) => workloadUid) });
    await converse({ client: plain, server, path: "tcp" });
    const strict = peerAuthentication(namespace, "strict", { mtls: { mode: "STRICT" } });
    await lab.apply(strict);
    const isStrict = (wanted: boolean) =>
      b.knows(({ workloads }) => {
        const names = workloads.find(({ uid }) => uid === server.workloadUid)?.authorizationPolicies ?? [];
        return names.includes("istio-system/istio_converted_static_strict") === wanted
          ? undefined
          : `policies: ${names}`;
      });
    await isStrict(true);
    const mark = b.ztunnel.mark;
    assert.equal(await plain.refusal(server.ip(), APP_PORT), ECONNRESET);
    const line = await b.ztunnel.access(({ fields }) => fields["src.workload"] === "plain", mark);
    assert.match(line.fields.error!, /istio_converted_static_strict/);
    await converse({ client, server, path: "hbone" });
    await lab.delete(strict);
    await isStrict(false);
    await converse({ client: plain, server, path: "tcp" });
  },
);

scenario(
  "policy added and removed under load: from its arrival on nothing passes, after its removal everything",
  async (scene) => {
    const { lab, b, namespace } = scene;
    const [client, server] = await addPair(scene, { crossNode: true });
    const served = serveLoad(server, APP_PORT);
    const load = new Load(8, () => client.connect(server.ip(), APP_PORT));
    await eventually(() => assert.ok(load.completed > 50));
    const deny = authorizationPolicy(namespace, "nobody", { action: "DENY", rules: [{}] });
    for (let round = 0; round < 3; round++) {
      await lab.apply(deny);
      await policyThere(b, namespace, "nobody");
      const accepted = served.accepted;
      const completed = load.completed;
      await pause(300);
      assert.equal(served.accepted, accepted, "a request reached the application past the policy");
      // What was open is closed by the policy; what was answered before may be read to its end.
      assert.ok(load.completed - completed <= 8);
      await lab.delete(deny);
      await policyThere(b, namespace, "nobody", false);
      const before = load.completed;
      await eventually(() => assert.ok(load.completed > before + 20));
    }
    await load.stop();
    served.close();
  },
);
