import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { openKubeReader } from "../../../src/cni/plugin/kube_reader.ts";
import type { PodReader } from "../../../src/cni/plugin/decide.ts";
import { AgentStandIn, type ApiAnswer, ApiStandIn, keyPairs, shopObjects } from "./support.ts";

async function withApi(
  objects: Record<string, ApiAnswer>,
  work: (reader: PodReader, api: ApiStandIn) => Promise<void>,
  keys = keyPairs().good,
): Promise<void> {
  const agent = await AgentStandIn.start({});
  const api = await ApiStandIn.start(objects, keys);
  api.writeKubeconfig(agent.directory);
  const reader = await openKubeReader(agent.directory);
  try {
    await work(reader, api);
  } finally {
    reader.close();
    api.stop();
    agent.stop();
  }
}

test("kube_reader: reads pod and namespace over one connection, with the token", () =>
  withApi(shopObjects({ a: "b" }), async (reader, api) => {
    assert.deepEqual((await reader.pod("shop", "web-1")).metadata, { name: "web-1", namespace: "shop" } as object);
    assert.deepEqual(await reader.namespaceLabels("shop"), { a: "b" });
    assert.deepEqual(api.requests, [
      { path: "/api/v1/namespaces/shop/pods/web-1", authorization: "Bearer the-token" },
      { path: "/api/v1/namespaces/shop", authorization: "Bearer the-token" },
    ]);
    assert.equal(api.connections, 1);
  }));

test("kube_reader: opens no connection before it is asked", () =>
  withApi({}, async (_, api) => {
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(api.connections, 0);
  }));

test("kube_reader: a server that the kubeconfig's CA did not sign is not spoken to, whatever the environment says", async () => {
  const before = process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
  process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
  try {
    await withApi(shopObjects(), async (reader, api) => {
      await assert.rejects(reader.pod("shop", "web-1"));
      assert.deepEqual(api.requests, []);
    }, keyPairs().foreign);
  } finally {
    if (before === undefined) delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
    else process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = before;
  }
});

test("kube_reader: what is not what was asked for is an error", () =>
  withApi({
    "/api/v1/namespaces/shop": { body: {} },
    "/api/v1/namespaces/mall": { body: { kind: "Status", status: "Success" } },
    "/api/v1/namespaces/shop/pods/web-1": { body: { kind: "Namespace" } },
    "/api/v1/namespaces/shop/pods/web-2": { status: 401, body: { kind: "Status", message: "Unauthorized", code: 401 } },
  }, async (reader) => {
    await assert.rejects(reader.namespaceLabels("shop"), { message: /the answer is no Namespace$/ });
    await assert.rejects(reader.namespaceLabels("mall"), { message: /the answer is no Namespace$/ });
    await assert.rejects(reader.pod("shop", "web-1"), { message: /the answer is no Pod$/ });
    await assert.rejects(reader.pod("shop", "web-2"), { message: /401|Unauthorized/ });
    await assert.rejects(reader.pod("shop", "web-3"), { message: /404|not found/ });
  }));

test("kube_reader: no usable kubeconfig is an error that names the file", async () => {
  const agent = await AgentStandIn.start({});
  const path = join(agent.directory, "istio-cni-kubeconfig");
  try {
    const message = (pattern: RegExp) => ({
      message: new RegExp(`^failed to create a Kubernetes client from ${path}: .*${pattern.source}.*istio-cni agent`),
    });
    await assert.rejects(openKubeReader(agent.directory), message(/ENOENT|No such file/));
    writeFileSync(path, "{");
    await assert.rejects(openKubeReader(agent.directory), message(/kubeconfig/));
    writeFileSync(path, "{}");
    await assert.rejects(openKubeReader(agent.directory), message(/kubeconfig/));
  } finally {
    agent.stop();
  }
});
