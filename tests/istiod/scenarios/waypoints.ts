/** Services and workloads behind a waypoint: the client's ztunnel goes to it, and asks it for the right thing (reference ztunnel 11.1). */
import assert from "node:assert/strict";
import type { Peer } from "../../e2e/support/peer.ts";
import type { RawRequest } from "../../e2e/support/raw_hbone.ts";
import { APP_PORT, nodeOf, socketAddress } from "../support/exchange.ts";
import type { KubeObject } from "../support/kube_api.ts";
import type { LabPod } from "../support/pod.ts";
import { scenario, type Scene } from "../support/scenario.ts";
import { Waypoint } from "../support/waypoint.ts";

/** Bytes both ways through the waypoint and an end in order. */
async function checkBytes(peer: Peer, { stream }: RawRequest): Promise<void> {
  stream.respond([":status", "200"]);
  peer.write("hello");
  await stream.read("hello");
  stream.send("welcome");
  assert.equal(await peer.read(7), "welcome");
  peer.finish();
  assert.equal(await stream.ended(), "end");
  stream.send("", true);
  assert.equal(await peer.ended(), "eof");
  peer.close();
}

async function checkRequest(
  client: LabPod,
  waypoint: Waypoint,
  ip: string,
  port: number,
  host?: string,
): Promise<void> {
  const { ztunnel } = nodeOf(client);
  const mark = ztunnel.mark;
  const peer = await client.connect(ip, port);
  const request = await waypoint.requests.take();
  assert.equal(request.identity, client.identity);
  assert.equal(request.fields[":method"], "CONNECT");
  assert.equal(request.fields[":authority"], socketAddress(ip, port));
  const forwarded = `for="${socketAddress(client.ip(), peer.local!.port)}"`;
  assert.equal(request.fields.forwarded, host === undefined ? forwarded : `${forwarded};host=${host}`);
  await checkBytes(peer, request);
  const { fields } = await ztunnel.access(({ fields }) => fields["src.workload"] === client.name, mark);
  assert.equal(fields.error, undefined);
  assert.equal(fields["dst.addr"], socketAddress(waypoint.pod.ip(), 15008));
  assert.equal(fields["dst.hbone_addr"], socketAddress(ip, port));
  assert.equal(fields["dst.workload"], waypoint.pod.name);
  assert.equal(fields["dst.identity"], waypoint.pod.identity);
}

/** client and server on two nodes, a waypoint, and what makes the server's traffic go there. */
async function addGuarded(
  scene: Scene,
  labelsOf: "service" | "workload" | "none",
): Promise<[LabPod, LabPod, Waypoint, string]> {
  const { lab, a, b, namespace } = scene;
  const useWaypoint = { "istio.io/use-waypoint": "guard" };
  await lab.addNamespace(namespace);
  const waypoint = await Waypoint.create(lab, { name: "guard", namespace, node: b });
  const [client, server] = await lab.addPods(
    { name: "client", namespace, node: a },
    { name: "server", namespace, node: b, labels: labelsOf === "workload" ? useWaypoint : {} },
  ) as [LabPod, LabPod];
  const vip = await lab.addService({
    name: "server",
    namespace,
    selector: { app: "server" },
    ports: { 80: APP_PORT },
    labels: labelsOf === "service" ? useWaypoint : {},
  });
  return [client, server, waypoint, vip];
}

scenario("workload_waypoint: traffic to the pod's address goes to its waypoint", async (scene) => {
  const [client, server, waypoint] = await addGuarded(scene, "workload");
  await scene.a.knows(({ workloads }) =>
    workloads.find(({ uid }) => uid === server.workloadUid)?.waypoint ? undefined : "the workload has no waypoint"
  );
  await waypoint.serve();
  await checkRequest(client, waypoint, server.ip(), APP_PORT);
  waypoint.close();
});

scenario(
  "service_waypoint_hostname: traffic to the service goes to its waypoint, referred to by name",
  async (scene) => {
    const [client, , waypoint, vip] = await addGuarded(scene, "service");
    const { namespace } = scene;
    await scene.a.knows(({ services }) => {
      const service = services.find((service) => service.namespace === namespace && service.name === "server");
      return service?.waypoint?.destination === `${namespace}/${waypoint.hostname}` ? undefined : "no waypoint by name";
    });
    await waypoint.serve();
    await checkRequest(client, waypoint, vip, 80, `server.${namespace}.svc.cluster.local`);
    waypoint.close();
  },
);

/** A gateway that nobody's controller makes a Deployment for: its address is what it says. */
function manualWaypoint(namespace: string, address: { type: string; value: string }): KubeObject {
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: { name: "manual", namespace, labels: { "istio.io/waypoint-for": "all" } },
    spec: {
      gatewayClassName: "istio-remote",
      addresses: [address],
      listeners: [{ name: "mesh", port: 15008, protocol: "HBONE" }],
    },
  };
}

scenario("service_waypoint: traffic to the service goes to its waypoint, referred to by address", async (scene) => {
  const { lab, a, b, namespace } = scene;
  await lab.addNamespace(namespace);
  const real = await Waypoint.create(lab, { name: "guard", namespace, node: b });
  // istiod refers to its own waypoints by name; one that it does not manage has the address that it says.
  await lab.apply(manualWaypoint(namespace, { type: "IPAddress", value: real.vip }));
  const [client] = await lab.addPods(
    { name: "client", namespace, node: a },
    { name: "server", namespace, node: b },
  ) as [LabPod, LabPod];
  const vip = await lab.addService({
    name: "server",
    namespace,
    selector: { app: "server" },
    ports: { 80: APP_PORT },
    labels: { "istio.io/use-waypoint": "manual" },
  });
  await a.knows(({ services }) => {
    const service = services.find((service) => service.namespace === namespace && service.name === "server");
    return service?.waypoint?.destination === `/${real.vip}` ? undefined : "no waypoint by address";
  });
  await real.serve();
  await checkRequest(client, real, vip, 80, `server.${namespace}.svc.cluster.local`);
  real.close();
});

scenario("service_waypoint_workload_hostname: a waypoint that only a workload's host name leads to", async (scene) => {
  const { lab, a, b, namespace } = scene;
  const hostname = `guard.${namespace}.example`;
  await lab.addNamespace(namespace);
  const guard = await Waypoint.create(lab, { name: "guard", namespace, node: b });
  await lab.addHostName(guard.pod.ip(), hostname);
  // istiod gives a workload a host name when it has no address: this one's comes from ztunnel's own resolver.
  const entry: KubeObject = {
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadEntry",
    metadata: { name: "guard", namespace },
    spec: { address: hostname, serviceAccount: guard.pod.serviceAccount },
  };
  await lab.apply(manualWaypoint(namespace, { type: "Hostname", value: hostname }), entry);
  const [client] = await lab.addPods(
    { name: "client", namespace, node: a },
    { name: "server", namespace, node: b },
  ) as [LabPod, LabPod];
  const vip = await lab.addService({
    name: "server",
    namespace,
    selector: { app: "server" },
    ports: { 80: APP_PORT },
    labels: { "istio.io/use-waypoint": "manual" },
  });
  await a.knows(({ services, workloads }) => {
    const service = services.find((service) => service.namespace === namespace && service.name === "server");
    if (service?.waypoint?.destination !== `${namespace}/${hostname}`) return "no waypoint by name";
    return workloads.some((workload) => workload.hostname === hostname) ? undefined : "no workload of that host name";
  });
  await guard.serve();
  const peer = await client.connect(vip, 80);
  const request = await guard.requests.take();
  assert.equal(request.fields[":authority"], socketAddress(vip, 80));
  await checkBytes(peer, request);
  assert.ok(await a.metric("istio_on_demand_dns_total", { hostname }) >= 1);
  guard.close();
});
