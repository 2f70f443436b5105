/** What the API server is asked and sent, without one; the real one is in tests/cni/scenarios. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createKubeSource } from "../../../src/cni/agent/kube_source.ts";
import { PodGone } from "../../../src/cni/agent/pods.ts";
import type { KubeClient } from "../../../src/control/kube/client.ts";
import { KubeError } from "../../../src/control/kube/kube_error.ts";
import { makePod } from "./fakes.ts";

function sourceWith(fail?: () => KubeError | undefined) {
  const calls: { method: string; path: string; body: unknown }[] = [];
  const call = (method: string) => async (path: string, body?: unknown) => {
    calls.push({ method, path, body });
    const error = fail?.();
    if (error !== undefined) throw error;
    return {} as never;
  };
  const client = {
    get: (path: string) => call("GET")(path),
    mergePatch: call("PATCH"),
    create: call("POST"),
  } as unknown as KubeClient;
  const logged: string[] = [];
  let wallMs = Date.parse("2026-01-02T03:04:05.678Z");
  const source = createKubeSource({
    client,
    nodeName: "node-a",
    log: { enabled: () => true, log: (level, _scope, message) => void logged.push(`${level} ${message}`) },
    wallMs: () => wallMs,
  });
  return { source, calls, logged, pass: (ms: number) => void (wallMs += ms) };
}

test("kube source: the annotation is a merge patch of the status, for this very pod", async () => {
  const { source, calls } = sourceWith();
  await source.annotate(makePod(), "enabled");
  await source.annotate(makePod(), null);
  assert.deepEqual(
    calls.map(({ method, path }) => `${method} ${path}`),
    Array(2).fill("PATCH /api/v1/namespaces/shop/pods/cart/status"),
  );
  assert.deepEqual(calls.map(({ body }) => body), [
    { metadata: { uid: "uid-cart", annotations: { "ambient.istio.io/redirection": "enabled" } } },
    { metadata: { uid: "uid-cart", annotations: { "ambient.istio.io/redirection": null } } },
  ]);
});

test("kube source: a pod that is gone, or another of its name, is told apart from a failure", async () => {
  const answer = async (status: number, message: string) => {
    const { source } = sourceWith(() => new KubeError(message, status, ""));
    return await source.annotate(makePod(), "enabled").catch((error) => error);
  };
  assert.ok(await answer(404, "not found") instanceof PodGone);
  assert.ok(await answer(409, "Precondition failed: UID in precondition: a, UID in object meta: b") instanceof PodGone);
  // What a real API server says (tests/cni/scenarios/kube_client.ts).
  assert.ok(
    await answer(422, 'Pod "a" is invalid: metadata.uid: Invalid value: "b": field is immutable') instanceof PodGone,
  );
  assert.ok(await answer(409, "the object has been modified") instanceof KubeError);
  assert.ok(await answer(0, "timeout") instanceof KubeError);
});

test("kube source: an Event names the pod, the node and the reason", async () => {
  const { source, calls } = sourceWith();
  await source.event(makePod(), { type: "Warning", reason: "AmbientDrift", message: "x".repeat(2_000) });
  const [{ path, body }] = calls;
  assert.equal(path, "/api/v1/namespaces/shop/events");
  const event = body as Record<string, unknown>;
  assert.deepEqual([event["type"], event["reason"], event["count"]], ["Warning", "AmbientDrift", 1]);
  assert.equal((event["message"] as string).length, 1_000);
  assert.equal(event["firstTimestamp"], "2026-01-02T03:04:05Z");
  assert.deepEqual(event["source"], { component: "istio-cni", host: "node-a" });
  assert.equal((event["involvedObject"] as { uid: string }).uid, "uid-cart");
});

test("kube source: where Events are forbidden it is not tried again for a while, and nothing fails", async () => {
  const { source, calls, pass, logged } = sourceWith(() => new KubeError("no", 403, "Forbidden"));
  const event = { type: "Warning", reason: "R", message: "m" } as const;
  await source.event(makePod(), event);
  await source.event(makePod(), event);
  assert.equal(calls.length, 1);
  assert.equal(logged.length, 1);
  pass(11 * 60_000);
  await source.event(makePod(), event);
  assert.equal(calls.length, 2);
});

test("kube source: what does not exist is undefined, what cannot be asked is an error", async () => {
  const signal = new AbortController().signal;
  const missing = sourceWith(() => new KubeError("not found", 404, "NotFound")).source;
  assert.equal(await missing.fetchPod("shop", "cart", signal), undefined);
  assert.equal(await missing.fetchNamespace("shop", signal), undefined);
  const down = sourceWith(() => new KubeError("refused", 0, "Network")).source;
  await assert.rejects(down.fetchPod("shop", "cart", signal), /refused/);
});
