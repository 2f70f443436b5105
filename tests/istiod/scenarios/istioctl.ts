/** The real istioctl against a running ambit, through the API server and the port-forward half of a kubelet. */
import assert from "node:assert/strict";
import { acceptOne } from "../../e2e/support/mesh.ts";
import { APP_PORT } from "../support/exchange.ts";
import { authorizationPolicy } from "../support/objects.ts";
import { scenario } from "../support/scenario.ts";
import { addPair } from "./paths.ts";

/** A line of a table that has all of these words. */
function hasLine(table: string, ...words: readonly string[]): boolean {
  return table.split("\n").some((line) => words.every((word) => line.includes(word)));
}

scenario("istioctl ztunnel-config: every table, from a running ztunnel", async (scene) => {
  const { lab, a, namespace } = scene;
  const [client, server] = await addPair(scene);
  await lab.apply(authorizationPolicy(namespace, "open", { action: "ALLOW", rules: [{}] }));
  const vip = await lab.addService({ name: "echo", namespace, selector: { app: "server" }, ports: { 80: APP_PORT } });
  await a.knows(({ policies, services }) => {
    if (!policies.some((policy) => policy.namespace === namespace)) return "no policy";
    return services.some((service) => service.namespace === namespace) ? undefined : "no service";
  });
  const kubelet = await a.startKubelet();
  const config = (table: string, ...more: readonly string[]) =>
    lab.plane.istioctl("ztunnel-config", table, `${a.podName}.istio-system`, ...more);
  const [peer, application] = await acceptOne(server, APP_PORT, () => client.connect(vip, 80));
  try {
    const workloads = await config("workload");
    assert.ok(hasLine(workloads, "NAMESPACE", "POD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL"), workloads);
    assert.ok(hasLine(workloads, namespace, "client", client.ip(), a.name, "None", "HBONE"), workloads);
    const services = await config("service");
    assert.ok(hasLine(services, namespace, "echo", vip, "None", "1/1"), services);
    const policies = await config("policy");
    assert.ok(hasLine(policies, namespace, "open", "Allow", "Namespace"), policies);
    const certificates = await config("certificate");
    assert.ok(hasLine(certificates, client.identity, "Leaf", "Available", "true"), certificates);
    assert.ok(hasLine(certificates, client.identity, "Root", "Available", "true"), certificates);
    const connections = await config("connections");
    assert.ok(hasLine(connections, "client", namespace, "Outbound"), connections);
    assert.ok(hasLine(connections, "server", namespace, "Inbound"), connections);
    const all = await config("all");
    for (const word of ["POD NAME", "SERVICE VIP", "POLICY NAME", "CERTIFICATE NAME"]) {
      assert.ok(all.includes(word), all);
    }
    const json = JSON.parse(await config("workload", "-o", "json")) as { uid?: string; name: string }[];
    assert.ok(json.some(({ name }) => name === "client"));
    const level = await config("log", "--level=debug");
    assert.match(level, /debug/);
    assert.match((await a.http(15000, "/logging", { method: "POST" })).body, /debug/);
    await config("log", "--level=info", "--reset").catch(() => config("log", "--reset"));
    assert.match((await a.http(15000, "/logging", { method: "POST" })).body, /current log level is .*info/);
  } finally {
    peer.close();
    application.close();
    await kubelet.end();
  }
});
