/** What an agent may keep of a pod while it is captured, and must not keep afterwards. */
import assert from "node:assert/strict";
import { eventually } from "../../e2e/support/wait.ts";
import { probeSet } from "./kernel.ts";
import type { CniNode } from "./node.ts";
import type { CniPod } from "./pod.ts";

export interface Remains {
  readonly uid: string;
  readonly addresses: readonly string[];
  readonly inode: number;
}

/** To be taken while the pod has its namespace. */
export function remainsOf({ uid, addresses, inode }: CniPod): Remains {
  return { uid, addresses, inode };
}

/** No descriptor of the agent, no entry of the probe set and no proxy of ztunnel is for these pods any more. */
export async function holdsNothingOf(node: CniNode, pods: readonly Remains[], timeoutMs = 10_000): Promise<void> {
  await eventually(async () => {
    const probes = await probeSet(node);
    const served = node.ztunnel.running ? await node.ztunnel.served() : [];
    for (const { uid, addresses, inode } of pods) {
      assert.ok(!served.includes(uid), "ztunnel still serves a pod");
      for (const address of addresses) assert.notEqual(probes.get(address), uid, "a pod is still in the probe set");
      assert.ok(!node.agent.running || !node.agent.program!.holds(inode), "the agent still holds a pod's namespace");
    }
  }, timeoutMs);
}
