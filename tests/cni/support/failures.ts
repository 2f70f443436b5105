/** What a failure looks like to the runtime and to a person. */
import assert from "node:assert/strict";
import { CniFailure, type CniPod } from "./pod.ts";

/** A sandbox that must not come to be; returns what the runtime is told. */
export async function refused(pod: CniPod): Promise<string> {
  await pod.makeNamespace();
  const failure = await pod.add().then(() => undefined, (error) => error);
  assert.ok(failure instanceof CniFailure, `the sandbox of ${pod.name} was made`);
  return failure.text;
}

/** The events of a pod, as `kubectl describe` shows them. */
export async function eventsOf({ node, namespace, name }: CniPod): Promise<readonly string[]> {
  const text = await node.lab.plane.api.read(
    `/api/v1/namespaces/${namespace}/events?fieldSelector=involvedObject.name=${name}`,
  );
  return (JSON.parse(text) as { readonly items: readonly { readonly message: string }[] }).items.map(({ message }) =>
    message
  );
}
