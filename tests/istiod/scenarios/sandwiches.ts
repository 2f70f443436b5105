/** A waypoint that is itself behind a ztunnel, which takes the tunnel off its hands (reference ztunnel 6.3 and 6.4, 11.1). */
import assert from "node:assert/strict";
import { acceptOne } from "../../e2e/support/mesh.ts";
import { APP_PORT, nodeOf } from "../support/exchange.ts";
import type { LabPod } from "../support/pod.ts";
import { scenario, type Scene } from "../support/scenario.ts";
import { Waypoint } from "../support/waypoint.ts";

const TUNNEL_PORT = 15088;
const BINDING = "ambient.istio.io/waypoint-inbound-binding";

async function addSandwich(scene: Scene, binding: string): Promise<[LabPod, Waypoint, string]> {
  const { lab, a, b, namespace } = scene;
  await lab.addNamespace(namespace);
  const waypoint = await Waypoint.create(lab, {
    name: "guard",
    namespace,
    node: b,
    annotations: { [BINDING]: binding },
    pod: { captured: true },
  });
  const [client] = await lab.addPods(
    { name: "client", namespace, node: a },
    { name: "server", namespace, node: b },
  ) as [LabPod, LabPod];
  const vip = await lab.addService({
    name: "server",
    namespace,
    selector: { app: "server" },
    ports: { 80: APP_PORT },
    labels: { "istio.io/use-waypoint": "guard" },
  });
  const protocol = binding.split("/")[0];
  await Promise.all([a, b].map((node) =>
    node.knows(({ services, workloads }) => {
      const service = services.find((service) => service.namespace === namespace && service.name === "server");
      if (service?.waypoint === undefined) return "the service has no waypoint";
      const tunnel = workloads.find(({ uid }) => uid === waypoint.pod.workloadUid)?.applicationTunnel;
      return (tunnel?.protocol ?? "NONE") === protocol ? undefined : `the waypoint has no tunnel ${protocol}`;
    })
  ));
  return [client, waypoint, vip];
}

scenario(
  "sandwich_waypoint_plain: the waypoint's ztunnel takes requests for the service and hands on their bytes",
  async (scene) => {
    const [client, waypoint, vip] = await addSandwich(scene, `NONE/${TUNNEL_PORT}`);
    const [peer, application] = await acceptOne(waypoint.pod, TUNNEL_PORT, () => client.connect(vip, 80));
    peer.write("hello");
    assert.equal(await application.read(5), "hello");
    application.write("welcome");
    assert.equal(await peer.read(7), "welcome");
    peer.close();
    application.close();
    const node = nodeOf(waypoint.pod);
    const line = await node.ztunnel.access(({ fields }) =>
      fields.direction === "inbound" && fields["src.workload"] === "client" &&
      fields["src.namespace"] === scene.namespace
    );
    assert.equal(line.fields["dst.hbone_addr"], `${vip}:80`);
  },
);

scenario(
  "sandwich_waypoint_proxy_protocol: the waypoint reads from a PROXY header who asks and for what",
  async (scene) => {
    const [client, waypoint, vip] = await addSandwich(scene, `PROXY/${TUNNEL_PORT}`);
    const [peer, application] = await acceptOne(waypoint.pod, TUNNEL_PORT, () => client.connect(vip, 80));
    peer.write("hello");
    const header = await readProxyHeader(application);
    // The port is that of the tunnel's connection, not the application's.
    assert.equal(header.source.split(":")[0], client.ip());
    assert.equal(header.destination, `${vip}:80`);
    assert.equal(header.identity, client.identity);
    assert.equal(application.remote.ip, "127.0.0.1");
    assert.equal(await application.read(5), "hello");
    application.write("welcome");
    assert.equal(await peer.read(7), "welcome");
    peer.close();
    application.close();
  },
);

/** PROXY protocol version 2, TCP over IPv4, with the identity in TLV 0xD0. */
async function readProxyHeader(peer: { readBytes(count: number): Promise<Uint8Array> }) {
  const start = Buffer.from(await peer.readBytes(16));
  assert.equal(start.subarray(0, 12).toString("latin1"), "\r\n\r\n\0\r\nQUIT\n");
  assert.equal(start[12], 0x21);
  assert.equal(start[13], 0x11);
  const rest = Buffer.from(await peer.readBytes(start.readUInt16BE(14)));
  const ip = (at: number) => [...rest.subarray(at, at + 4)].join(".");
  let identity: string | undefined;
  for (let at = 12; at + 3 <= rest.length;) {
    const length = rest.readUInt16BE(at + 1);
    if (rest[at] === 0xd0) identity = rest.toString("utf8", at + 3, at + 3 + length);
    at += 3 + length;
  }
  return {
    source: `${ip(0)}:${rest.readUInt16BE(8)}`,
    destination: `${ip(4)}:${rest.readUInt16BE(10)}`,
    identity,
  };
}
