/** Waypoints: Gateway objects, from which istiod makes Deployments, and what the node knows of their processes. */
import { readdirSync, readFileSync } from "node:fs";
import type { KubeObject } from "../../istiod/support/kube_api.ts";
import type { Cluster } from "./cluster.ts";

export const WAYPOINT_LABEL = "istio.io/use-waypoint";
const IMAGE_ANNOTATION = "sidecar.istio.io/proxyImage";
const CLASS = "istio-waypoint";

/** As a user, or `istioctl waypoint apply`, writes it. `image`: of this one alone. */
export function gateway(namespace: string, name: string, image?: string): KubeObject {
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: {
      name,
      namespace,
      labels: { "istio.io/waypoint-for": "service" },
      annotations: image === undefined ? {} : { [IMAGE_ANNOTATION]: image },
    },
    spec: { gatewayClassName: CLASS, listeners: [{ name: "mesh", port: 15008, protocol: "HBONE" }] },
  };
}

/** Resolves when the Deployment that istiod makes of it is there and its pod is ready. */
export async function gatewayReady(cluster: Cluster, namespace: string, name: string): Promise<void> {
  await cluster.kubectl("-n", namespace, "wait", "--for=create", `deployment/${name}`, "--timeout=30s");
  await cluster.rolledOut(`${namespace}/${name}`);
  const condition = "--for=condition=Programmed";
  await cluster.kubectl("-n", namespace, "wait", condition, `gateway/${name}`, "--timeout=30s");
}

/** The Gateway, and all that istiod made of it. */
export async function removeGateway(cluster: Cluster, namespace: string, name: string): Promise<void> {
  await cluster.delete("-n", namespace, `gateway/${name}`);
  await cluster.kubectl("-n", namespace, "wait", "--for=delete", `deployment/${name}`, "--timeout=40s");
  const selector = `--selector=gateway.networking.k8s.io/gateway-name=${name}`;
  await cluster.kubectl("-n", namespace, "wait", "--for=delete", "pod", selector, "--timeout=40s");
}

/** Paths that a service answers to, for one service account. */
export function pathPolicy(account: string, paths: readonly string[]): KubeObject {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "by-path", namespace: "mesh" },
    spec: {
      targetRefs: [{ group: "", kind: "Service", name: "server" }],
      action: "ALLOW",
      rules: [{
        from: [{ source: { principals: [`cluster.local/ns/mesh/sa/${account}`] } }],
        to: [{ operation: { paths } }],
      }],
    },
  };
}

/** What the kernel tells of a process in a pod. */
export interface PodProcess {
  /** By the wall clock, to a hundredth of a second. */
  readonly startedAtMs: number;
  readonly residentBytes: number;
  /** Real, effective, saved, of files. */
  readonly uids: readonly number[];
  /** Effective, permitted and bounding capabilities, in hexadecimal. */
  readonly capabilities: readonly string[];
}

/** Of the processes of this node, those that are waypoints. */
export function waypointProcesses(): readonly PodProcess[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      const [, ...words] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      if (words[0] !== "proxy" || words[1] !== "waypoint") return [];
      return [describe(readFileSync(`/proc/${pid}/status`, "utf8"), readFileSync(`/proc/${pid}/stat`, "utf8"))];
    } catch {
      // Gone while it was looked at.
      return [];
    }
  });
}

/** The kernel counts in hundredths of a second since it was started, proc_pid_stat(5), field 22. */
function describe(status: string, stat: string): PodProcess {
  const field = (name: string) => new RegExp(`^${name}:\\s+(.*)$`, "m").exec(status)?.[1] ?? "";
  const [upSeconds] = readFileSync("/proc/uptime", "utf8").split(" ").map(Number);
  const ticks = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  return {
    startedAtMs: Date.now() - 1_000 * (upSeconds! - ticks / 100),
    residentBytes: parseInt(field("VmRSS")) * 1024,
    uids: field("Uid").split(/\s+/).map(Number),
    capabilities: ["CapEff", "CapPrm", "CapBnd"].map(field),
  };
}
