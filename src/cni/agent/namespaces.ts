/** The pods' network namespaces: the cache ztunnels are served from, the path the container runtime names, the search by /proc. */
import { fileIdentity } from "../../platform/netns.ts";
import { closeDescriptor } from "../../platform/socket.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { NetnsCache } from "../netns/cache.ts";
import type { NamespaceFinder } from "../netns/finder.ts";
import { openReportedNetns } from "../netns/open.ts";
import type { PodNetns } from "../netns/pod_netns.ts";
import { type MeshPod, podUid } from "./pods.ts";
import type { Namespaces } from "./ports.ts";

export interface NamespacesOptions {
  readonly cache: NetnsCache;
  readonly finder: NamespaceFinder;
  /** Where the node's file system is mounted; "" when it is seen as it is. */
  readonly hostRoot: string;
  readonly procRoot: string;
  readonly log: Logger;
}

export function createNamespaces({ cache, finder, hostRoot, procRoot, log }: NamespacesOptions): Namespaces {
  async function search(wanted: ReadonlyMap<string, readonly string[]>): Promise<ReadonlyMap<string, number>> {
    if (wanted.size === 0) return new Map();
    const { found, problems } = await finder.find(new Map([...wanted].map(([uid, ips]) => [uid, { ips }])));
    if (found.size < wanted.size) { for (const problem of problems) log.log("info", "cni-agent", problem); }
    return found;
  }
  return {
    ensure: (pod) => cache.ensure(podUid(pod), workloadOf(pod)),
    get: (uid) => cache.get(uid),
    open: async (pod, path) => cache.upsert(podUid(pod), openReportedNetns(path, hostRoot, procRoot), workloadOf(pod)),
    async find(wanted, { replace = false } = {}) {
      const result = new Map<string, PodNetns>();
      for (const [uid, fd] of await search(wanted)) {
        const known = cache.get(uid);
        if (known === undefined || replace) result.set(uid, cache.upsert(uid, fd));
        else {
          closeDescriptor(fd);
          result.set(uid, known);
        }
      }
      return result;
    },
    async look(wanted) {
      const identities = new Map<string, string>();
      for (const [uid, fd] of await search(wanted)) {
        const identity = fileIdentity(fd);
        closeDescriptor(fd);
        if (identity !== undefined) identities.set(uid, identity);
      }
      return identities;
    },
    take: (uid) => cache.take(uid),
  };
}

export function workloadOf({ metadata, spec }: MeshPod) {
  return {
    name: metadata.name ?? "",
    namespace: metadata.namespace ?? "",
    // What Kubernetes gives a pod that names none.
    serviceAccount: spec?.serviceAccountName || "default",
  };
}
