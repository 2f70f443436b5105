/** The real istioctl against a running waypoint: the API server's port-forward leads it to port 15000, as in a cluster (reference waypoint 6.6). */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { eventually } from "../../../e2e/support/wait.ts";
import { ISTIOD_NAME, ISTIOD_PORT } from "../../../istiod/support/control_plane.ts";
import { KUBELET_PORT, nodeObject } from "../../../istiod/support/objects.ts";
import { Program } from "../../../istiod/support/program.ts";
import { scenario } from "../support/scenario.ts";
import type { Scene } from "../support/scene.ts";
import { servicePolicy } from "../support/objects.ts";
import type { LabWaypoint } from "../support/waypoint.ts";

const START_MS = 30_000;
/** Straight to istiod, by a token of this account: in the lab istiod is no pod that a port-forward could lead to. */
const READER = { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "default", namespace: "istio-system" } };
const DIRECT = ["--xds-address", `${ISTIOD_NAME}:${ISTIOD_PORT}`, "--insecure"];

/** A line of a table that has all of these words. */
function assertLine(table: string, ...words: readonly string[]): void {
  assert.ok(
    table.split("\n").some((line) => words.every((word) => line.includes(word))),
    `${words.join(" ")} in:\n${table}`,
  );
}

/**
 * The port-forward half of a kubelet, which connects inside of its own network namespace: the pod's. Its node is the pod's alone, and has its
 * address.
 */
async function startKubelet({ lab }: Scene, { replica: { pod, node } }: LabWaypoint): Promise<Program> {
  const name = `kubelet-${node.name}`;
  await lab.plane.pki.issue(name, `/O=system:nodes/CN=system:node:${node.name}`, `IP:${pod.ip()}`);
  const kubelet = await Program.start(lab.sandbox, {
    name,
    command: [
      lab.binaries.kubelet,
      `-listen=:${KUBELET_PORT}`,
      `-cert=${lab.plane.pki.path(`${name}.crt`)}`,
      `-key=${lab.plane.pki.path(`${name}.key`)}`,
    ],
    place: { pod: pod.name, namespace: pod.namespace },
    workingDirectory: lab.directory,
    logPath: join(lab.directory, "log", `${name}.log`),
  });
  await lab.apply(nodeObject({ name: node.name, addresses: [pod.ip()] }));
  await kubelet.ready(async () => {
    (await pod.connect("127.0.0.1", KUBELET_PORT)).close();
    return true;
  }, START_MS);
  return kubelet;
}

scenario("istioctl proxy-config and proxy-status: every table, from a running waypoint", async (scene) => {
  const { lab } = scene;
  const { namespace, client, alpha } = await scene.stage();
  const name = scene.name("ctl");
  const node = await lab.addNode(scene.build, `${scene.build}-${name}`);
  const waypoint = await scene.addWaypoint({ name, namespace, node });
  const { pod } = waypoint.replica;
  const service = await scene.addService("shown", { pods: [alpha], waypoint: name });
  await scene.apply(
    servicePolicy("denied", service, { action: "DENY", rules: [{ to: [{ operation: { paths: ["/secret*"] } }] }] }),
  );
  await eventually(
    async () => assert.equal((await client.app.http(service.url("http", "/secret"))).status, 403),
    START_MS,
  );
  assert.equal((await client.app.echo(service.url())).app, "alpha");

  const kubelet = await startKubelet(scene, waypoint);
  const target = `${pod.name}.${namespace}`;
  const config = (...args: readonly string[]) => lab.plane.istioctl("proxy-config", ...args);
  const ip = alpha.pod.ip();
  try {
    const clusters = await config("cluster", target);
    assertLine(clusters, "SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE");
    assertLine(clusters, service.hostname, "80", "http", "inbound-vip", "EDS");
    assertLine(clusters, "connect_originate", "ORIGINAL_DST");
    const [json] = JSON.parse(
      await config("cluster", target, "--fqdn", service.hostname, "--port", "80", "-o", "json"),
    );
    assert.equal(json.name, `inbound-vip|80|http|${service.hostname}`);

    const listeners = await config("listener", target);
    assertLine(listeners, "15008", "Inline Route:");
    assertLine(listeners, `Cluster: inbound-vip|80|http|${service.hostname}`);
    assertLine(await config("route", target), `inbound-vip|80|http|${service.hostname}`, "inbound|http|80");
    assertLine(await config("endpoint", target), `envoy://connect_originate/${ip}:`, "HEALTHY", "OK", service.hostname);
    const secrets = await config("secret", target);
    assertLine(secrets, "default", "Cert Chain", "ACTIVE", "true");
    assertLine(secrets, "ROOTCA", "CA", "ACTIVE", "true");
    assert.ok(!(await config("secret", target, "-o", "json")).includes("PRIVATE KEY"));
    assert.match(await config("ecds", target), /ECDS NAME\s+TYPE/);
    const { bootstrap } = JSON.parse(await config("bootstrap", target));
    assert.match(bootstrap.node.id, new RegExp(`^waypoint~${pod.ip()}~${target}~`));
    const all = await config("all", target);
    for (const word of ["cluster/", "listener/", "route/", "secret/", "endpoint/"]) assertLine(all, word);

    assertLine(await config("log", target), "default:");
    await config("log", target, "--level", "debug");
    assertLine(await config("log", target), "default:", "debug");
    await config("log", target, "--level", "info");

    // The same from a file, as people send it in.
    const { body } = await waypoint.replica.http(15000, "/config_dump?include_eds");
    const file = join(lab.directory, `${target}.json`);
    await writeFile(file, body);
    assertLine(await config("cluster", "--file", file), service.hostname, "inbound-vip");

    assertLine(await lab.plane.istioctl("x", "authz", "check", target), "DENY", `denied.${namespace}`, "1");
    assert.match(await lab.plane.istioctl("x", "envoy-stats", target), /^server\.state: 0$/m);
    const metrics = await lab.plane.istioctl("x", "envoy-stats", target, "-o", "prom");
    assert.match(metrics, /^istio_requests_total\{reporter="waypoint",/m);
    assertLine(await lab.plane.istioctl("x", "envoy-stats", target, "--type", "clusters"), `${ip}:`, "::cx_total::");

    await lab.apply(READER);
    const status = await lab.plane.istioctl("proxy-status", ...DIRECT);
    assertLine(status, target, "1.31");
    // What istiod has for it is what it has in force.
    const diff = await lab.plane.istioctl("proxy-status", target, ...DIRECT);
    for (const what of ["Clusters Match", "Listeners Match"]) assert.ok(diff.includes(what), diff);
  } finally {
    await kubelet.end();
  }
});

scenario("ports: metrics for everybody on 15020 and 15090, the rest for who is inside the pod", async (scene) => {
  const { client, alpha, waypoint } = await scene.stage();
  const { replica } = waypoint;
  const service = await scene.addService("counted", { pods: [alpha] });
  await eventually(() => client.app.echo(service.url()), START_MS);
  for (
    const [port, path] of [[15020, "/stats/prometheus"], [15020, "/metrics"], [15090, "/stats/prometheus"]] as const
  ) {
    const { status, headers, body } = await replica.probe(port, path);
    assert.deepEqual([status, headers["content-type"]], [200, "text/plain; version=0.0.4; charset=utf-8"], path);
    const counted = body.split("\n").find((line) =>
      line.startsWith("istio_requests_total{") && line.includes(`destination_service="${service.hostname}"`)
    );
    for (
      const label of [
        'reporter="waypoint"',
        'source_workload="client"',
        `source_principal="${client.pod.identity}"`,
        `destination_principal="${alpha.pod.identity}"`,
        'request_protocol="http"',
        'response_code="200"',
        'connection_security_policy="mutual_tls"',
      ]
    ) assert.ok(counted?.includes(label), `${label} in ${counted}`);
    assert.match(body, /^envoy_server_state\{\} 0$/m);
    assert.match(body, /^istio_build\{component="proxy",tag="[^"]+"\} 1$/m);
    assert.match(body, /^istio_agent_cert_expiry_seconds\{resource_name="default"\} \d/m);
  }
  assert.equal((await replica.probe(15090, "/metrics")).status, 404);
  assert.equal((await replica.probe(15021, "/stats/prometheus")).status, 404);
  await assert.rejects(replica.probe(15000, "/ready"));
  assert.equal((await replica.http(15000, "/ready")).body, "LIVE\n");
  assert.equal((await replica.probe(15020, "/debug/ndsz")).status, 403);
  assert.equal((await replica.http(15020, "/debug/ndsz")).status, 404);
  for (const path of ["/quitquitquit", "/drain"]) {
    assert.equal((await replica.probe(15020, path)).status, 403, path);
    assert.equal((await replica.http(15020, path)).status, 405, path);
  }
});
