/** What a single proxy does for its pods besides: names, SOCKS, on-demand xDS, DNS, its metrics (reference ztunnel 11.2). */
import assert from "node:assert/strict";
import process from "node:process";
import { tool } from "../../../src/local/run_tool.ts";
import { acceptOne } from "../../e2e/support/mesh.ts";
import { eventually } from "../../e2e/support/wait.ts";
import { ANSWER, APP_PORT, converse, REQUEST } from "../support/exchange.ts";
import type { LabPod } from "../support/pod.ts";
import { scenario } from "../support/scenario.ts";
import { addPair } from "./paths.ts";

const SOCKS_PORT = 15080;
let vips = 0;

scenario("on-demand DNS: an endpoint that is a host name is resolved at each request, and counted", async (scene) => {
  const { lab, a, b, namespace } = scene;
  const [client, server] = await lab.addPods(
    { name: "client", namespace, node: a },
    { name: "server", namespace, node: b, captured: false },
  ) as [LabPod, LabPod];
  const hostname = `backend.${namespace}.example`;
  const vip = `240.243.0.${++vips}`;
  await lab.addHostName(server.ip(), hostname);
  await lab.apply({
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: { name: "named", namespace },
    spec: {
      hosts: [`named.${namespace}.example`],
      addresses: [vip],
      ports: [{ number: 80, name: "tcp", protocol: "TCP", targetPort: APP_PORT }],
      resolution: "DNS",
      endpoints: [{ address: hostname }],
    },
  });
  await a.knows(({ services }) => {
    const service = services.find((service) => service.vips.some((own) => own.endsWith(vip)));
    return Object.keys(service?.endpoints ?? {}).length === 1 ? undefined : "no endpoint";
  });
  for (let i = 0; i < 2; i++) await converse({ client, server, ip: vip, port: 80, path: "tcp" });
  await eventually(async () => assert.equal(await a.metric("istio_on_demand_dns_total", { hostname }), 2));
});

scenario("hostname by SOCKS: the pod's own way into the mesh, by a service's name", async (scene) => {
  const { lab, b, build, namespace } = scene;
  const node = await lab.addNode(build, `${build}-socks`);
  await node.start({ UNSTABLE_ENABLE_SOCKS5: "true" });
  const [client, server] = await lab.addPods(
    { name: "client", namespace, node },
    { name: "server", namespace, node: b },
  ) as [LabPod, LabPod];
  await lab.addService({ name: "echo", namespace, selector: { app: "server" }, ports: { 80: APP_PORT } });
  await lab.settle([node, b], { uids: [client.workloadUid, server.workloadUid], services: [`${namespace}/echo`] });
  const name = new TextEncoder().encode(`echo.${namespace}.svc.cluster.local`);
  const mark = b.ztunnel.mark;
  const [peer, application] = await acceptOne(server, APP_PORT, async () => {
    const peer = await client.connect("127.0.0.1", SOCKS_PORT);
    peer.write(new Uint8Array([5, 1, 0]));
    assert.deepEqual([...await peer.readBytes(2)], [5, 0]);
    peer.write(new Uint8Array([5, 1, 0, 3, name.length, ...name, 0, 80]));
    assert.equal((await peer.readBytes(10))[1], 0);
    return peer;
  });
  peer.write(REQUEST);
  assert.equal(await application.read(REQUEST.length), REQUEST);
  application.write(ANSWER);
  assert.equal(await peer.read(ANSWER.length), ANSWER);
  peer.close();
  application.close();
  const { fields } = await b.ztunnel.access(({ fields }) => fields["src.namespace"] === namespace, mark);
  assert.equal(fields["src.identity"], client.identity);
  await node.stop();
});

scenario("on-demand xDS: nothing is known at first, and what a connection needs is fetched", async (scene) => {
  const { lab, b, build, namespace } = scene;
  const node = await lab.addNode(build, `${build}-demand`);
  await node.start({ XDS_ON_DEMAND: "true", ISTIO_META_DNS_CAPTURE: "false" });
  assert.deepEqual((await node.configDump()).services, []);
  const [client, server] = await lab.preparePods(
    { name: "client", namespace, node },
    { name: "server", namespace, node: b },
  ) as [LabPod, LabPod];
  await b.addPod(server);
  await node.addPod(client);
  const vip = await lab.addService({ name: "echo", namespace, selector: { app: "server" }, ports: { 80: APP_PORT } });
  await lab.settle([b], { uids: [client.workloadUid, server.workloadUid], services: [`${namespace}/echo`] });
  await converse({ client, server, ip: vip, port: 80, path: "hbone" });
  await converse({ client, server, path: "hbone" });
  const { services, workloads } = await node.configDump();
  assert.deepEqual(services.map(({ name }) => name), ["echo"]);
  assert.ok(
    workloads.every((workload) => [namespace, "istio-system"].includes(workload.namespace)),
    JSON.stringify(workloads),
  );
  await node.stop();
});

/** ztunnel's stable families. */
const CORE = [
  "istio_tcp_connections_opened",
  "istio_tcp_connections_closed",
  "istio_tcp_received_bytes",
  "istio_tcp_sent_bytes",
];

scenario("metrics: the core ones are there after a connection, every other is marked unstable", async (scene) => {
  const { a } = scene;
  const [client, server] = await addPair(scene);
  await converse({ client, server, path: "hbone" });
  await eventually(async () => {
    const { body, headers } = await a.http(15020, "/metrics", { headers: { accept: "application/openmetrics-text" } });
    assert.match(headers["content-type"]!, /^application\/openmetrics-text/);
    const help = new Map([...body.matchAll(/^# HELP (\S+) (.*)$/gm)].map(([, name, text]) => [name!, text!]));
    for (const name of CORE) assert.ok(help.has(name), `no ${name}`);
    for (const [name, text] of help) {
      if (CORE.includes(name)) assert.doesNotMatch(text, /unstable/, name);
      // The process's own numbers bear the names that every Prometheus client gives them.
      else if (name !== "istio_build" && !name.startsWith("process_")) assert.match(text, /\(unstable\)/, name);
    }
    assert.match(body, /# EOF\n$/);
  });
});

for (const encoding of ["gzip", "deflate", "br", "zstd"]) {
  scenario(`metrics: ${encoding} is answered with ${encoding}`, async ({ a }) => {
    const { headers, status } = await a.http(15020, "/metrics", { headers: { "accept-encoding": encoding } });
    assert.equal(status, 200);
    assert.equal(headers["content-encoding"], encoding);
  });
}

scenario(
  "DNS: a captured pod's query for a service is answered here, others go on; both are counted",
  async (scene) => {
    const { lab, a, namespace } = scene;
    const [client] = await lab.addPods({ name: "client", namespace, node: a, redirection: { dnsCapture: true } }) as [
      LabPod,
    ];
    const vip = await lab.addService({ name: "echo", namespace, selector: { app: "server" }, ports: { 80: APP_PORT } });
    await lab.settle([a], { uids: [client.workloadUid], services: [`${namespace}/echo`] });
    const ask = async (name: string) => {
      const program = `console.log(JSON.stringify(await Deno.resolveDns(${JSON.stringify(name)}, "A", ` +
        `{ nameServer: { ipAddr: "10.96.0.10", port: 53 } })))`;
      const place = { pod: client.name, namespace };
      return JSON.parse(
        await tool(lab.sandbox.command([process.execPath, "eval", program], place, "/tmp")),
      ) as string[];
    };
    const labels = { source_canonical_service: "client" };
    const before = await a.metric("istio_dns_requests_total", labels);
    for (const name of [`echo.${namespace}.svc.cluster.local.`, `echo.${namespace}.`, "echo."]) {
      assert.deepEqual(await ask(name), [vip], name);
    }
    assert.ok(await a.metric("istio_dns_requests_total", labels) >= before + 3);
  },
);
