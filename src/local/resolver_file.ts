/**
 * The resolv.conf of the pods when their DNS is captured. It names the pod's node, where no server listens: each question is redirected
 * to the pod's ztunnel, which knows the mesh; for other names ztunnel asks there, learns at once that nobody answers, and says so.
 */
import { writeFile } from "node:fs/promises";
import { tool } from "./run_tool.ts";

/** Addresses that every node has, like those of Kubernetes' node-local DNS caches. */
export const RESOLVERS = ["169.254.20.10", "fd00:a9fe:140a::10"] as const;

/** Without the pod's own namespace, because all pods share the file: other names are searched from the cluster's domain. */
export const RESOLVER_FILE = [
  ...RESOLVERS.map((server) => `nameserver ${server}`),
  "search svc.cluster.local cluster.local",
  "options ndots:5 timeout:2 attempts:2",
  "",
].join("\n");

/** Puts a file of the run's own over /etc/resolv.conf, inside the sandbox only. */
export async function mountResolver(path: string): Promise<void> {
  await writeFile(path, RESOLVER_FILE);
  await tool(["mount", "--bind", path, "/etc/resolv.conf"]);
}
