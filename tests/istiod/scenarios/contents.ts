/** What istiod sends, by its contents: names that nobody expects, and very much in one message. */
import assert from "node:assert/strict";
import { complete, Load, serveLoad } from "../../e2e/support/load.ts";
import { APP_PORT, converse } from "../support/exchange.ts";
import type { KubeObject } from "../support/kube_api.ts";
import { ADDRESS_URL, addressBytes } from "../support/node.ts";
import { authorizationPolicy } from "../support/objects.ts";
import { scenarioForAll } from "../support/scenario.ts";
import { addPair } from "./paths.ts";

const HOSTILE = [
  `quote".example`,
  `apostrophe'.example`,
  "back\\slash.example",
  "new\nline.example",
  "tab\t.example",
  "sla/sh.example",
  "../../etc/passwd",
  "<script>alert(1)</script>.example",
  "{}[]=,;.example",
  "ünïcödé.例え",
  "null\u0001\u007f.example",
  "__proto__",
  "constructor",
  "%00%2f.example",
  "*",
  `${"long".repeat(500)}.example`,
];

scenarioForAll(
  "resource names with hostile characters: taken or refused one by one, and nothing else is disturbed",
  async (lab, scenes) => {
    const pairs = await Promise.all(scenes.map((scene) => addPair(scene)));
    const namespace = "hostile";
    await lab.addNamespace(namespace);
    const nodes = scenes.flatMap(({ a, b }) => [a, b]);
    const entries: KubeObject[] = [];
    const refused: string[] = [];
    for (const [i, host] of HOSTILE.entries()) {
      const entry: KubeObject = {
        apiVersion: "networking.istio.io/v1",
        kind: "ServiceEntry",
        metadata: { name: `entry-${i}`, namespace },
        spec: {
          hosts: [host],
          addresses: [`240.241.0.${i + 1}`],
          ports: [{ number: 80, name: "tcp", protocol: "TCP" }],
          resolution: "STATIC",
          location: "MESH_INTERNAL",
          subjectAltNames: [host],
          endpoints: [{ address: `10.251.0.${i + 1}`, serviceAccount: host, locality: host, labels: { app: "x" } }],
        },
      };
      try {
        entries.push(...await lab.apply(entry));
      } catch {
        refused.push(host);
      }
    }
    const names = authorizationPolicy(namespace, "names", {
      action: "DENY",
      rules: [{ from: [{ source: { principals: HOSTILE, namespaces: HOSTILE } }] }],
    });
    await lab.apply(names);
    assert.ok(entries.length >= 8, `the API server refused ${refused.length}: ${JSON.stringify(refused)}`);
    const accepted = new Set(entries.map(({ spec }) => (spec as { hosts: string[] }).hosts[0]!));
    await lab.apply({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "last", namespace },
      spec: { ports: [{ port: 80 }] },
    });
    await lab.settle(nodes, { services: [`${namespace}/last`] });
    for (const node of nodes) {
      // Whatever istiod passed on is there under its own name, the dump is JSON and the metrics are metrics.
      const dump = await node.configDump();
      const hosts = dump.services.filter((service) => service.namespace === namespace).map(({ hostname }) => hostname);
      for (const host of hosts) {
        assert.ok(
          host.startsWith("last.") || accepted.has(host),
          `the host name ${JSON.stringify(host)}`,
        );
      }
      assert.ok(hosts.length > 5, `only ${hosts.length} arrived`);
      assert.ok((await node.metrics()).length > 5);
      assert.ok(dump.policies.some(({ name }) => name === "names"));
    }
    for (const [client, server] of pairs) await converse({ client, server, path: "hbone" });
    await lab.delete(...entries, names);
    await Promise.all(
      nodes.map((node) =>
        node.knows(({ services }) =>
          services.some((service) => service.namespace === namespace && service.name !== "last")
            ? "not all are gone"
            : undefined
        )
      ),
    );
    for (const [client, server] of pairs) await converse({ client, server, path: "hbone" });
  },
);

/** Each below the API server's limit of 1.5 MB; together above 50 MB. */
const LARGE = 44;
const LARGE_BYTES = 1_200_000;

scenarioForAll(
  "a 50 MB xDS push: a fresh ztunnel takes it in one message, running ones as it grows, and traffic goes on",
  async (lab, scenes) => {
    const pairs = await Promise.all(scenes.map((scene) => addPair(scene)));
    const loads = pairs.map(([client, server]) => {
      const served = serveLoad(server, APP_PORT);
      return { served, load: new Load(1, () => client.connect(server.ip(), APP_PORT)) };
    });
    const namespace = "large";
    await lab.addNamespace(namespace);
    const names = Array.from(
      { length: LARGE_BYTES / 100 },
      (_, i) => `spiffe://cluster.local/ns/large/sa/${String(i).padStart(66, "0")}`,
    );
    const entries: KubeObject[] = [];
    for (let i = 0; i < LARGE; i++) {
      const spec = {
        hosts: [`large-${i}.example`],
        addresses: [`240.242.0.${i + 1}`],
        ports: [{ number: 80, name: "tcp", protocol: "TCP" }],
        resolution: "STATIC",
        location: "MESH_INTERNAL",
        subjectAltNames: names,
      };
      const entry = {
        apiVersion: "networking.istio.io/v1",
        kind: "ServiceEntry",
        metadata: { name: `large-${i}`, namespace },
        spec,
      };
      entries.push(...await lab.apply(entry));
    }
    for (const { build } of scenes) {
      const node = await lab.addNode(build, `${build}-fresh`);
      await node.start();
      // One message: the whole of the first answer.
      assert.ok(await addressBytes(node) > 50_000_000, `${await addressBytes(node)} bytes`);
      assert.ok(await node.metric("istio_xds_message_total", { url: ADDRESS_URL }) <= 2);
      await node.stop();
    }
    await lab.delete(...entries);
    const nodes = scenes.flatMap(({ a, b }) => [a, b]);
    await Promise.all(
      nodes.map((node) =>
        node.knows(
          ({ services }) =>
            services.some((service) => service.namespace === namespace) ? "the large ones are still there" : undefined,
          60_000,
        )
      ),
    );
    for (const { load, served } of loads) {
      await load.stop();
      served.close();
      assert.ok(load.completed > 20);
      assert.deepEqual(load.attempts.filter((attempt) => !complete(attempt)), []);
    }
  },
);
