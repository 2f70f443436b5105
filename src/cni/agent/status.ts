/**
 * What `/debug/pods` and `ambit cni status` show: every pod of the node, whether it belongs into the mesh and why, whether its
 * traffic is captured and why not, since when and by which rules. Plain data, and the text of it.
 */

/** In the run directory; only the agent's own user may ask there. */
export const ADMIN_SOCKET_NAME = "admin.sock";

export type PodState =
  | "not eligible"
  | "waiting for address"
  | "ended"
  | "not captured"
  | "adding"
  | "pending ztunnel"
  | "enrolled"
  | "failed"
  | "removing";

export interface PodReport {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly ips: readonly string[];
  readonly eligible: boolean;
  readonly eligibleReason: string;
  /** Its rules are in: its traffic passes ztunnel, or does not flow. */
  readonly captured: boolean;
  readonly state: PodState;
  /** Why it is in this state, where that says more. */
  readonly reason: string | undefined;
  /** RFC 3339. */
  readonly since: string | undefined;
  readonly rules: {
    readonly by: string;
    readonly dnsCapture: boolean;
    readonly ipv6: boolean;
    readonly ingress: boolean;
    readonly virtualInterfaces: readonly string[];
    /** Undefined: by an earlier agent. */
    readonly appliedAt: string | undefined;
  } | undefined;
  /** Device and inode. */
  readonly netns: string | undefined;
  /** Whether the newest ztunnel has said that it serves the pod. */
  readonly ztunnelAck: boolean;
  readonly verified: {
    readonly at: string;
    readonly drift: readonly string[];
    readonly problem: string | undefined;
  } | undefined;
  /** What the pod's annotation says. */
  readonly annotation: "enabled" | "pending" | undefined;
}

export interface AgentReport {
  readonly node: string;
  readonly ready: { readonly install: boolean; readonly watch: boolean };
  readonly redirection: string;
  readonly ztunnels: readonly {
    readonly id: string;
    readonly since: string;
    readonly snapshotSent: boolean;
  }[];
  readonly host: {
    readonly by: string;
    readonly verifiedAt: string | undefined;
    readonly drift: readonly string[];
    readonly problem: string | undefined;
  } | undefined;
  /** Pods whose events wait or are tried again. */
  readonly queue: number;
  readonly pods: readonly PodReport[];
}

/** Whether the pod is as it should be: captured and served, or not wanted and not captured. */
export function isSettled(pod: PodReport): boolean {
  if (pod.verified?.problem !== undefined) return false;
  if (pod.state === "enrolled") return pod.eligible && pod.ztunnelAck;
  return pod.state === "waiting for address" || pod.state === "ended" ||
    (pod.state === "not eligible" && !pod.captured);
}

/** For a person. */
export function formatAgentReport(report: AgentReport): string {
  const lines: string[] = [];
  const newest = report.ztunnels.at(-1);
  lines.push(
    `node ${report.node || "?"}: ${report.ready.watch ? "watching" : "not watching yet"}, ` +
      `${report.ready.install ? "plugin installed" : "plugin not installed"}; redirection by ${report.redirection}`,
    newest === undefined
      ? "ztunnel: none connected: captured pods have no traffic until one comes"
      : `ztunnel: ${report.ztunnels.length} connected, the newest since ${newest.since}${
        newest.snapshotSent ? "" : ", still getting its snapshot"
      }`,
  );
  if (report.host !== undefined) lines.push(formatHost(report.host));
  lines.push("");
  if (report.pods.length === 0) lines.push("no pods");
  for (const pod of report.pods) lines.push(...formatPod(pod));
  const wrong = report.pods.filter((pod) => !isSettled(pod)).length;
  const captured = report.pods.filter((pod) => pod.captured).length;
  lines.push("", `${report.pods.length} pods, ${captured} captured, ${wrong} not as they should be`, "");
  return lines.join("\n");
}

function formatHost(host: NonNullable<AgentReport["host"]>): string {
  if (host.problem !== undefined) return `kubelet's probes: ${host.by}; cannot be verified: ${host.problem}`;
  const drift = host.drift.length === 0 ? "in order" : `repaired: ${host.drift.join("; ")}`;
  return `kubelet's probes: ${host.by}${host.verifiedAt === undefined ? "" : `; ${drift} at ${host.verifiedAt}`}`;
}

function formatPod(pod: PodReport): string[] {
  const mark = isSettled(pod) ? " " : "!";
  const lines = [
    `${mark} ${pod.namespace}/${pod.name}: ${pod.state}${pod.since === undefined ? "" : ` since ${pod.since}`}` +
    `${pod.reason === undefined ? "" : `: ${pod.reason}`}`,
    `    ${pod.eligible ? "belongs into the mesh" : "does not belong into the mesh"}: ${pod.eligibleReason}`,
  ];
  if (pod.rules !== undefined) {
    const { by, dnsCapture, ipv6, ingress, virtualInterfaces, appliedAt } = pod.rules;
    const features = [
      ipv6 ? "IPv4 and IPv6" : "IPv4",
      ...(dnsCapture ? ["DNS"] : []),
      ...(ingress ? ["inbound not captured"] : []),
      ...(virtualInterfaces.length > 0 ? [`interfaces ${virtualInterfaces.join(", ")}`] : []),
    ];
    lines.push(`    rules by ${by} (${features.join(", ")}), ${appliedAt ?? "by an earlier agent"}`);
  }
  if (pod.captured || pod.netns !== undefined) {
    lines.push(
      `    namespace ${pod.netns ?? "unknown"}; ztunnel ${pod.ztunnelAck ? "serves it" : "has not acknowledged it"}`,
    );
  }
  if (pod.verified !== undefined) {
    const { at, drift, problem } = pod.verified;
    const result = problem ?? (drift.length === 0 ? "in order" : `repaired: ${drift.join("; ")}`);
    lines.push(`    verified ${at}: ${result}`);
  }
  return lines;
}
