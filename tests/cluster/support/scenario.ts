/** How the scenarios are written: tests in the order of their registration, on one cluster that the first of them starts. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { pause } from "../../e2e/support/wait.ts";
import { Cluster } from "./cluster.ts";
import type { Cni } from "./istio.ts";
import { say } from "./say.ts";

/** Enough to see what was wrong; the whole is in the directory. */
const MAX_WORDS = 12_000;

/** Parts of names, comma-separated; empty: all. */
const only = (process.env["AMBIT_CLUSTER_ONLY"] ?? "").split(",").filter((text) => text !== "");
/** The node agent that the cluster begins with. */
const first: Cni = process.env["AMBIT_CLUSTER_CNI"] === "ambit" ? "ambit" : "istio-cni";
let shared: Promise<Cluster> | undefined;
let said = false;

export function theCluster(): Promise<Cluster> {
  return shared ??= Cluster.start(directory(), first);
}

function directory(): string {
  const path = process.env["AMBIT_CLUSTER_DIRECTORY"];
  if (path === undefined) throw new Error("run this by `deno task test:cluster`: it needs namespaces of its own");
  mkdirSync(path, { recursive: true });
  return path;
}

export function scenario(name: string, run: (cluster: Cluster) => Promise<void>): void {
  if (only.length > 0 && !only.some((text) => name.includes(text))) return;
  test(`cluster, ${name}`, async () => {
    const cluster = await theCluster();
    const started = performance.now();
    try {
      await run(cluster);
      say(`${name}: ${Math.round(performance.now() - started)} ms`);
    } catch (error) {
      // The first failure is the one to look at.
      if (!said) say((await cluster.words()).slice(-MAX_WORDS));
      said = true;
      throw error;
    }
  });
}

/** Leaves the cluster as it is for somebody to look at. */
async function stay(): Promise<void> {
  const cluster = await theCluster();
  const script = join(directory(), "kubectl");
  writeFileSync(
    script,
    `#!/bin/sh\nexec ${cluster.binaries.kubectl} --kubeconfig ${cluster.kubernetes.kubeconfig} "$@"\n`,
    {
      mode: 0o755,
    },
  );
  say(`stays as it is; inside, kubectl is ${script}`);
  for (;;) await pause(60_000);
}

after(async () => {
  if (process.env["AMBIT_CLUSTER_STAY"] === "1") await stay();
  const cluster = await shared?.catch(() => undefined);
  cluster?.kubernetes.api.close();
});
