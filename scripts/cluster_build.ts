/**
 * Builds what `deno task test:cluster` needs besides the control plane, if it is not there yet: the programs of a Kubernetes node,
 * Istio's node agent and charts, from Go modules into a cache outside the tree. `deno task cluster:build`.
 */
import process from "node:process";
import { buildClusterBinaries } from "./support/cluster_binaries.ts";

const started = performance.now();
try {
  await buildClusterBinaries((line) => console.log(`cluster:build: ${line}`));
  console.log(`cluster:build: ready after ${Math.round((performance.now() - started) / 1000)} s`);
} catch (error) {
  console.error(`cluster:build: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}
