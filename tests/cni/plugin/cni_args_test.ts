import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCniArgs } from "../../../src/cni/plugin/cni_args.ts";

test("cni_args: what containerd and CRI-O pass", () => {
  const text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=istio-system;K8S_POD_NAME=istio-sidecar-injector-8489cf78fb-48pvg;" +
    "K8S_POD_INFRA_CONTAINER_ID=3c41e946cf17a32760ff86940a73b06982f1815e9083cf2f4bfccb9b7605f326;" +
    "K8S_POD_UID=a09038c7-df3c-4c0e-8667-487b1fe8055f";
  assert.deepEqual(parseCniArgs(text), {
    podName: "istio-sidecar-injector-8489cf78fb-48pvg",
    podNamespace: "istio-system",
    podUid: "a09038c7-df3c-4c0e-8667-487b1fe8055f",
  });
});

test("cni_args: absent and empty values are empty, the last of two counts", () => {
  const none = { podName: "", podNamespace: "", podUid: "" };
  assert.deepEqual(parseCniArgs(""), none);
  assert.deepEqual(parseCniArgs("K8S_POD_NAME="), none);
  assert.equal(parseCniArgs("K8S_POD_NAME=a;K8S_POD_NAME=b").podName, "b");
});

test("cni_args: unknown keys are an error unless they are to be ignored, wherever that is said", () => {
  for (const text of ["FOO=1", "FOO=1;IgnoreUnknown=0", "k8s_pod_name=a", "IgnoreUnknown=false;FOO=1"]) {
    assert.throws(() => parseCniArgs(text), { message: /^ARGS: unknown args \["(FOO=1|k8s_pod_name=a)"\]$/ }, text);
  }
  for (const flag of ["1", "true", "TRUE"]) {
    assert.equal(parseCniArgs(`FOO=1;K8S_POD_NAME=a;IgnoreUnknown=${flag}`).podName, "a");
  }
});

test("cni_args: malformed pairs are errors", () => {
  for (const text of [";", "K8S_POD_NAME", "K8S_POD_NAME=a;", "K8S_POD_NAME=a=b", "=="]) {
    assert.throws(() => parseCniArgs(text), { message: /^ARGS: invalid pair / }, text);
  }
  assert.throws(() => parseCniArgs("IgnoreUnknown=yes"), { message: /^ARGS: error parsing value of pair / });
});
