import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigDumpSchema } from "../../../src/gen/envoy/admin/v3/config_dump_pb.ts";
import { loadRegistry } from "../../../src/control/xds/envoy_registry.ts";
import { SCENARIOS } from "../config/fixtures.ts";
import { type TestAdmin, testAdmin } from "./support.ts";

const registry = loadRegistry();

type Section = Record<string, JsonValue> & { readonly "@type": string };

async function dump(admin: TestAdmin, query = ""): Promise<Section[]> {
  const { configs } = await admin.json(`/config_dump${query}`);
  return configs;
}
const kinds = (sections: readonly Section[]) => sections.map((section) => section["@type"].split(".").at(-1));
const section = (sections: readonly Section[], kind: string) =>
  sections.find((each) => each["@type"].endsWith(`.${kind}`))!;

for (const scenario of SCENARIOS) {
  test(`config_dump: ${scenario} is what Envoy's own definition reads, as istioctl does`, async () => {
    const json = await testAdmin(scenario).json("/config_dump?include_eds");
    const { configs } = fromJson(ConfigDumpSchema, json, { registry });
    assert.equal(configs.length, 7);
    assert.ok(!JSON.stringify(json).includes("cannot be shown"));
  });
}

test("config_dump: every section, endpoints where they are asked for", async () => {
  const all = testAdmin();
  const without = ["BootstrapConfigDump", "ClustersConfigDump", "EcdsConfigDump", "ListenersConfigDump"];
  assert.deepEqual(kinds(await dump(all)), [...without, "RoutesConfigDump", "SecretsConfigDump"]);
  const sections = await dump(all, "?include_eds");
  assert.ok(kinds(sections).includes("EndpointsConfigDump"));
  const endpoints = section(sections, "EndpointsConfigDump")["dynamic_endpoint_configs"] as unknown[];
  assert.equal(endpoints.length, all.view.endpoints.size);
});

test("config_dump: who the node is, and where its ports are", async () => {
  const { bootstrap } = section(await dump(testAdmin()), "BootstrapConfigDump") as unknown as {
    readonly bootstrap: {
      readonly node: { readonly id: string; readonly cluster: string; readonly metadata: Record<string, string> };
      readonly admin: { readonly address: { readonly socket_address: unknown } };
    };
  };
  assert.equal(bootstrap.node.id, "waypoint~10.0.2.7~waypoint-0.demo~demo.svc.cluster.local");
  assert.equal(bootstrap.node.metadata["ISTIO_VERSION"], "1.31.0");
  assert.deepEqual(bootstrap.admin.address.socket_address, { address: "127.0.0.1", port_value: 15000 });
});

test("config_dump: a private key is never shown", async () => {
  const all = testAdmin();
  all.recorder.secret("default", "certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  all.recorder.secret("ROOTCA", "trust", "roots");
  const { dynamic_active_secrets: secrets } = section(await dump(all), "SecretsConfigDump");
  const [own, roots] = secrets as unknown as { readonly name: string; readonly secret: Record<string, JsonValue> }[];
  const { certificate_chain: chain, private_key: key } = own.secret["tls_certificate"] as Record<
    string,
    { readonly inline_bytes: string }
  >;
  assert.match(atob(chain.inline_bytes), /BEGIN CERTIFICATE/);
  assert.equal(atob(key.inline_bytes), "[redacted]");
  const trust = roots.secret["validation_context"] as { readonly trusted_ca: { readonly inline_bytes: string } };
  assert.equal(atob(trust.trusted_ca.inline_bytes), "roots");
  all.recorder.secretRemoved("default");
  assert.equal((section(await dump(all), "SecretsConfigDump")["dynamic_active_secrets"] as unknown[]).length, 1);
});

test("config_dump: a resource that was refused says why", async () => {
  const all = testAdmin();
  const url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
  const [[name, known]] = all.recorder.resources.get(url)!;
  all.recorder.received(url, { ...known, error: "it is too new" });
  const { dynamic_active_clusters: clusters } = section(await dump(all), "ClustersConfigDump");
  const found = (clusters as unknown as { cluster: { name: string }; error_state?: { details: string } }[])
    .find(({ cluster }) => cluster.name === name)!;
  assert.equal(found.error_state?.details, "it is too new");
});

test("config_dump: a mask leaves the sections it names, and of them what it names", async () => {
  const all = testAdmin();
  const clusters = await dump(all, "?mask=dynamic_active_clusters,static_clusters");
  assert.deepEqual(kinds(clusters), ["ClustersConfigDump"]);
  const names = await dump(all, "?mask=dynamic_active_clusters.cluster.name");
  const [first] = names[0]["dynamic_active_clusters"] as Record<string, unknown>[];
  assert.deepEqual(Object.keys(first), ["cluster"]);
  assert.deepEqual(Object.keys(first["cluster"] as object), ["name"]);
  const bootstrap = await dump(all, "?mask=bootstrap");
  assert.deepEqual(kinds(bootstrap), ["BootstrapConfigDump"]);
  assert.deepEqual(await dump(all, "?mask=nothing"), []);
});

test("config_dump: one list alone, and names that an expression finds", async () => {
  const all = testAdmin();
  const listeners = await dump(all, "?resource=dynamic_listeners");
  assert.deepEqual(kinds(listeners), ["ListenersConfigDump"]);
  const found = await dump(all, "?resource=dynamic_listeners&name_regex=^main_");
  const names = (found[0]["dynamic_listeners"] as { readonly name: string }[]).map(({ name }) => name);
  assert.deepEqual(names, ["main_internal"]);
  assert.equal((await all.app.request("/config_dump?name_regex=(")).status, 400);
});

test("config_dump: routes that came inside of listeners are listed", async () => {
  const { static_route_configs: routes } = section(await dump(testAdmin("routes")), "RoutesConfigDump");
  const names = (routes as unknown as { readonly route_config: { readonly name: string } }[]).map((r) =>
    r.route_config.name
  );
  assert.ok(names.includes("default"), names.join());
  assert.ok(names.some((name) => name.startsWith("inbound-vip|80|http|")), names.join());
});

test("config_dump: a type that this version does not know is named, and hides nothing around it", async () => {
  const all = testAdmin();
  all.recorder.received("type.googleapis.com/envoy.config.cluster.v3.Cluster", {
    name: "new",
    version: "v2",
    typeUrl: "type.googleapis.com/envoy.config.cluster.v9.Cluster",
    value: new Uint8Array([1, 2, 3]),
    error: undefined,
  });
  const json = await all.json("/config_dump");
  const { configs } = fromJson(ConfigDumpSchema, json, { registry });
  assert.equal(configs.length, 6);
  assert.ok(JSON.stringify(json).includes("envoy.config.cluster.v9.Cluster"));
});
