/** Every pod of the node as the status shows it: what the source says of it, and what this agent has done. */
import type { Controller } from "./controller.ts";
import { type PodRecord, type PodTable, reasonOf } from "./pod_table.ts";
import { isTerminal, type MeshPod, podIps, type PodSource, podUid, redirectionState } from "./pods.ts";
import type { Namespaces, Ztunnels } from "./ports.ts";
import type { PodReport, PodState } from "./status.ts";

export interface ReportSources {
  readonly source: Pick<PodSource, "pods" | "namespace">;
  readonly controller: Pick<Controller, "judge">;
  readonly table: PodTable;
  readonly namespaces: Pick<Namespaces, "get">;
  readonly ztunnels: Pick<Ztunnels, "connections">;
}

/** Sorted by namespace and name. Pods that are gone and still being removed are among them. */
export function reportPods(sources: ReportSources): readonly PodReport[] {
  const pods = new Map(sources.source.pods().map((pod) => [podUid(pod), pod]));
  for (const record of sources.table.records()) if (!pods.has(record.uid)) pods.set(record.uid, record.pod);
  const newest = sources.ztunnels.connections().at(-1);
  return [...pods.values()].map((pod) => reportPod(pod, sources, newest)).sort((a, b) =>
    compare(a.namespace, b.namespace) || compare(a.name, b.name) || compare(a.uid, b.uid)
  );
}

function reportPod(
  pod: MeshPod,
  { source, controller, table, namespaces }: ReportSources,
  newest: ReturnType<Ztunnels["connections"]>[number] | undefined,
): PodReport {
  const uid = podUid(pod);
  const record = table.get(uid);
  const namespace = source.namespace(pod.metadata.namespace ?? "");
  const { eligible, reason } = namespace === undefined
    ? { eligible: false, reason: "its namespace is not known" }
    : controller.judge(pod, namespace);
  const ips = podIps(pod).length > 0 ? podIps(pod) : record?.ips ?? [];
  const { rules, verified } = record ?? {};
  return {
    namespace: pod.metadata.namespace ?? "",
    name: pod.metadata.name ?? "",
    uid,
    ips,
    eligible,
    eligibleReason: reason,
    captured: isCaptured(record),
    ...stateOf(pod, record, eligible, ips),
    rules: rules === undefined ? undefined : {
      by: rules.by,
      dnsCapture: rules.settings.dnsCapture,
      ipv6: rules.settings.ipv6,
      ingress: rules.settings.ingress,
      virtualInterfaces: rules.settings.virtualInterfaces,
      appliedAt: rules.atMs === undefined ? undefined : time(rules.atMs),
    },
    netns: namespaces.get(uid)?.identity ?? rules?.netns,
    ztunnelAck: newest?.acked(uid) ?? false,
    verified: verified === undefined
      ? undefined
      : { at: time(verified.wallMs), drift: verified.drift, problem: verified.problem },
    annotation: redirectionState(pod) ?? undefined,
  };
}

/** What an earlier agent has captured counts, until a look at it says otherwise. */
function isCaptured(record: PodRecord | undefined): boolean {
  if (record === undefined) return false;
  const { kind } = record.phase;
  return record.rules !== undefined || kind === "enrolled" || kind === "pending" ||
    (kind === "failed" && record.phase.captured);
}

function stateOf(
  pod: MeshPod,
  record: PodRecord | undefined,
  eligible: boolean,
  ips: readonly string[],
): { readonly state: PodState; readonly reason: string | undefined; readonly since: string | undefined } {
  if (record !== undefined) {
    const state = record.phase.kind === "pending" ? "pending ztunnel" : record.phase.kind;
    return { state, reason: reasonOf(record.phase), since: time(record.sinceMs) };
  }
  const plain = (state: PodState, reason?: string) => ({ state, reason, since: undefined });
  if (isTerminal(pod)) return plain("ended");
  if (!eligible) return plain("not eligible");
  if (ips.length === 0) return plain("waiting for address");
  return plain("not captured", "it is to be captured and has not been yet");
}

function time(wallMs: number): string {
  return new Date(wallMs).toISOString();
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
