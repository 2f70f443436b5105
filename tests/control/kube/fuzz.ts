/** Fuzz targets of what comes from the API server and from the kubeconfig's file. */
import assert from "node:assert/strict";
import { parse } from "yaml";
import { kubeconfigOptions } from "../../../src/control/kube/kubeconfig.ts";
import { WatchLineError, WatchLines, type WatchStep } from "../../../src/control/kube/watch_lines.ts";
import type { Random } from "../../support/fuzz.ts";

/** In any split the same steps, or the same error behind the same steps. */
function fuzzWatchLines(bytes: Uint8Array, random: Random): void {
  const whole = readLines(bytes, () => bytes.length);
  const split = readLines(bytes, () => 1 + random.below(64));
  assert.deepEqual(split, whole);
  for (const step of whole.steps) {
    if (step.kind === "bookmark") assert.notEqual(step.resourceVersion, "");
    else if (step.kind !== "error") {
      assert.ok(step.object.metadata.name !== "" && step.object.metadata.resourceVersion !== "");
    }
  }
}

function readLines(bytes: Uint8Array, nextSize: () => number): { steps: WatchStep[]; error: string | undefined } {
  const lines = new WatchLines(4096);
  const steps: WatchStep[] = [];
  try {
    for (let at = 0; at < bytes.length;) {
      const end = at + nextSize();
      lines.push(bytes.subarray(at, end), (step) => steps.push(step));
      at = end;
    }
  } catch (error) {
    assert.ok(error instanceof WatchLineError, String(error));
    return { steps, error: error.message };
  }
  return { steps, error: undefined };
}

function fuzzKubeconfig(bytes: Uint8Array): void {
  let value: unknown;
  try {
    value = parse(new TextDecoder().decode(bytes), { logLevel: "silent" });
  } catch {
    return;
  }
  try {
    const { server, ca, token } = kubeconfigOptions(value);
    assert.ok(server !== "" && (ca === undefined || typeof ca === "string"));
    assert.ok(["string", "undefined"].includes(typeof token()));
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    assert.match((error as Error).message, /^kubeconfig|is not supported/);
  }
}

export const targets = [
  { name: "watch lines", corpusDir: "tests/corpus/watch_lines", target: fuzzWatchLines, maxBytes: 8192 },
  { name: "kubeconfig", corpusDir: "tests/corpus/kubeconfig", target: fuzzKubeconfig, maxBytes: 4096 },
];
