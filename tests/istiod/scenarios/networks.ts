/** Destinations in another network, through a network gateway and a tunnel in a tunnel (reference ztunnel 5.4, 11.1). */
import assert from "node:assert/strict";
import { acceptOne } from "../../e2e/support/mesh.ts";
import { ANSWER, APP_PORT, REQUEST } from "../support/exchange.ts";
import { openGateway } from "../support/gateway.ts";
import type { KubeObject } from "../support/kube_api.ts";
import { serviceObject } from "../support/objects.ts";
import type { LabPod } from "../support/pod.ts";
import { scenario, type Scene } from "../support/scenario.ts";

const VIP = "240.240.7.";
let vips = 0;

/** As `istioctl` and the multi-cluster guide write one for a network that this istiod does not manage. */
function remoteGateway(
  namespace: string,
  network: string,
  address: { type: string; value: string },
  port: number,
): KubeObject {
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: {
      name: "eastwest",
      namespace,
      labels: { "topology.istio.io/network": network },
      annotations: { "gateway.istio.io/service-account": "eastwest" },
    },
    spec: {
      gatewayClassName: "istio-remote",
      addresses: [address],
      listeners: [{ name: "cross-network", port, protocol: "HBONE", tls: { mode: "Passthrough" } }],
    },
  };
}

/** A service all of whose endpoints are in `network`, where no address of theirs is known here. */
function remoteService(
  namespace: string,
  hostname: string,
  vip: string,
  network: string,
  identity: string,
): KubeObject {
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: { name: "echo", namespace },
    spec: {
      hosts: [hostname],
      addresses: [vip],
      ports: [{ number: 80, name: "tcp", protocol: "TCP", targetPort: APP_PORT }],
      resolution: "STATIC",
      location: "MESH_INTERNAL",
      subjectAltNames: [identity],
      endpoints: [{ network, serviceAccount: "echo" }],
    },
  };
}

async function crossNetworks(scene: Scene, kind: "address" | "hostname"): Promise<void> {
  const { lab, a, b, build, namespace } = scene;
  const network = `far-${namespace}`;
  // The far network: a node whose ztunnel says that it is there.
  const far = await lab.addNode(build, `${build}-far-${kind}`);
  await far.start({ NETWORK: network });
  const [client, gateway, echo] = await lab.addPods(
    { name: "client", namespace, node: a },
    { name: "eastwest", namespace, node: b, captured: false },
    { name: "echo", namespace, node: far },
  ) as [LabPod, LabPod, LabPod];
  const hostname = `echo.${namespace}.example`;
  const vip = `${VIP}${++vips}`;
  let address = { type: "IPAddress", value: gateway.ip() };
  let port = 15008;
  if (kind === "hostname") {
    const service = { name: "eastwest", namespace, selector: { app: "eastwest" }, ports: { 15009: 15008 } };
    await lab.apply(serviceObject(service));
    address = { type: "Hostname", value: `eastwest.${namespace}.svc.cluster.local` };
    port = 15009;
  }
  await lab.apply(
    remoteGateway(namespace, network, address, port),
    remoteService(namespace, hostname, vip, network, echo.identity),
  );
  await Promise.all([a, far].map((node) =>
    node.knows(({ services, workloads }) => {
      const service = services.find((service) => service.hostname === hostname);
      if (service === undefined) return "the service is not there";
      const endpoint = workloads.find(({ uid }) => uid in service.endpoints);
      return endpoint?.networkGateway === undefined
        ? `its endpoint has no gateway: ${JSON.stringify(service)}`
        : undefined;
    })
  ));
  const opened = await openGateway(gateway, echo);
  const mark = a.ztunnel.mark;
  const farMark = far.ztunnel.mark;
  const [peer, application] = await acceptOne(echo, APP_PORT, () => client.connect(vip, 80));
  peer.write(REQUEST);
  assert.equal(await application.read(REQUEST.length), REQUEST);
  application.write(ANSWER);
  assert.equal(await peer.read(ANSWER.length), ANSWER);
  peer.finish();
  assert.equal(await application.ended(), "eof");
  application.finish();
  assert.equal(await peer.ended(), "eof");
  peer.close();
  application.close();
  assert.equal(opened.requests.length, 1);
  assert.equal(opened.requests[0]!.authority, `${hostname}:80`);
  assert.equal(opened.requests[0]!.identity, client.identity);
  const line = await a.ztunnel.access(({ fields }) => fields["src.namespace"] === namespace, mark);
  assert.equal(line.fields.error, undefined);
  assert.equal(line.fields["dst.addr"], `${gateway.ip()}:15008`);
  assert.equal(line.fields["dst.hbone_addr"], `${hostname}:80`);
  assert.equal(line.fields["dst.service"], hostname);
  // Known from the answer of the far end only.
  assert.equal(line.fields["dst.workload"], "echo");
  assert.equal(line.fields["dst.identity"], echo.identity);
  const farLine = await far.ztunnel.access(({ fields }) => fields["dst.workload"] === "echo", farMark);
  // Who asks is known from the baggage of the request, for the address is another network's.
  assert.equal(farLine.fields["src.workload"], "client");
  assert.equal(farLine.fields["src.identity"], client.identity);
  opened.close();
  await far.stop("SIGTERM");
}

scenario(
  "double_hbone1: a remote endpoint through a gateway that is referred to by address",
  (scene) => crossNetworks(scene, "address"),
);

scenario(
  "double_hbone2: a gateway that is referred to by host name, with a port of its service",
  (scene) => crossNetworks(scene, "hostname"),
);
