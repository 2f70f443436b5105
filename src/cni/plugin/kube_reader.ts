/**
 * The plugin's view of the API server, by the kubeconfig that the agent keeps in its run directory. The client is loaded
 * with the first question: a pod of an excluded namespace asks none.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { KubeClient } from "../../control/kube/client.ts";
import { KUBECONFIG_NAME } from "../net_conf.ts";
import type { PodFacts, PodReader } from "./decide.ts";

/** Of one request; the plugin tries again. */
const REQUEST_TIMEOUT_MS = 5_000;

type Read<T> = T & { readonly kind?: string };

/** Rejects when there is no kubeconfig, or none that can be used. */
export async function openKubeReader(agentRunDir: string): Promise<PodReader> {
  const path = join(agentRunDir, KUBECONFIG_NAME);
  const options = await readOptions(path);
  let client: KubeClient | undefined;
  const get = async <T>(kind: string, url: string): Promise<T> => {
    const { createKubeClient } = await import("../../control/kube/client.ts");
    client ??= createKubeClient({ ...options, timeoutMs: REQUEST_TIMEOUT_MS, userAgent: "istio-cni-plugin" });
    const object = await client.get<Read<T>>(url);
    // Whatever else answers on this address must not make a pod pass.
    if (object?.kind !== kind) throw new Error(`GET ${url}: the answer is no ${kind}`);
    return object;
  };
  return {
    pod: (namespace, name) => get<PodFacts>("Pod", `/api/v1/namespaces/${namespace}/pods/${name}`),
    namespaceLabels: async (name) =>
      (await get<PodFacts>("Namespace", `/api/v1/namespaces/${name}`)).metadata?.labels ?? {},
    close: () => client?.close(),
  };
}

async function readOptions(path: string) {
  try {
    const { readKubeconfig } = await import("../../control/kube/kubeconfig.ts");
    return await readKubeconfig(readFileSync(path, "utf8"));
  } catch (error) {
    throw new Error(
      `failed to create a Kubernetes client from ${path}: ${(error as Error).message}; ` +
        "the istio-cni agent of this node writes that file when it starts",
    );
  }
}
