/**
 * Builds what `deno task test:istiod` and `test:cni` run against, if it is not there yet: etcd, kube-apiserver, istiod and their
 * tools, from the Go modules in tests/istiod/go, and cnitool from that in tests/cni/go, into a cache outside the tree.
 * `deno task istiod:build`.
 */
import process from "node:process";
import { buildBinaries } from "./support/istiod_binaries.ts";

const started = performance.now();
try {
  await buildBinaries((line) => console.log(`istiod:build: ${line}`));
  console.log(`istiod:build: ready after ${Math.round((performance.now() - started) / 1000)} s`);
} catch (error) {
  console.error(`istiod:build: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}
