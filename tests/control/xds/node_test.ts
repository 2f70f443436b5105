import assert from "node:assert/strict";
import { test } from "node:test";
import { describeNode } from "../../../src/control/xds/node.ts";

const NONE = {
  instanceIp: "",
  podName: "",
  podNamespace: "",
  nodeName: undefined,
  proxyMetadata: {},
  proxyMetadataJson: {},
};

test("node: is named as istiod expects a ztunnel to be", () => {
  const node = describeNode({
    ...NONE,
    instanceIp: "10.1.2.3",
    podName: "ztunnel-abcde",
    podNamespace: "istio-system",
    nodeName: "node-1",
    proxyMetadata: { CLUSTER_ID: "c1", ISTIO_VERSION: "1.31" },
    proxyMetadataJson: { LABELS: { app: "ztunnel" } },
  });
  assert.equal(node.id, "ztunnel~10.1.2.3~ztunnel-abcde.istio-system~istio-system.svc.cluster.local");
  assert.deepEqual(node.metadata, {
    NAME: "ztunnel-abcde",
    NAMESPACE: "istio-system",
    INSTANCE_IPS: "10.1.2.3",
    NODE_NAME: "node-1",
    CLUSTER_ID: "c1",
    ISTIO_VERSION: "1.31",
    LABELS: { app: "ztunnel" },
  });
});

test("node: what is not known is empty, but the address", () => {
  const node = describeNode(NONE);
  assert.equal(node.id, "ztunnel~1.1.1.1~.~.svc.cluster.local");
  assert.deepEqual(node.metadata, { NAME: "", NAMESPACE: "", INSTANCE_IPS: "1.1.1.1", NODE_NAME: "" });
});

test("node: typed metadata wins over plain, plain over what is made here", () => {
  const { metadata } = describeNode({ ...NONE, proxyMetadata: { NAME: "x", K: "v" }, proxyMetadataJson: { K: 1 } });
  assert.deepEqual([metadata["NAME"], metadata["K"]], ["x", 1]);
});
