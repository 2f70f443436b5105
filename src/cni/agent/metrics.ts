/** The node agent's metrics: Istio's by their names (reference cni.md section 7), and those of what is ambit's own. */
import { labelSet, NO_LABELS } from "../../telemetry/metric_family.ts";
import type { Registry, Slot } from "../../telemetry/registry.ts";
import type { AgentCounters } from "./ports.ts";

export type InstallResult =
  | "SUCCESS"
  | "COPY_BINARIES_FAILURE"
  | "CREATE_KUBECONFIG_FAILURE"
  | "CREATE_CNI_CONFIG_FAILURE";

export interface CniMetrics extends AgentCounters {
  installed(result: InstallResult): void;
  setInstallReady(ready: boolean): void;
  pluginRequest(responseCode: number): void;
  setZtunnels(connected: number): void;
  setQueue(length: number): void;
  setPods(captured: number, pending: number, failed: number): void;
  setFileDescriptors(open: number, max: number): void;
}

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

/** @param tag of `istio_build`. */
export function createCniMetrics(registry: Registry, tag: string): CniMetrics {
  const family = (name: string, help: string, type: "counter" | "gauge" | "histogram", unstable = false) =>
    registry.register({ name, help, type, unstable, ...(type === "histogram" ? { buckets: SECONDS } : {}) });
  const gauge = (name: string, help: string, unstable = false) => {
    const slot = registry.acquire(family(name, help, "gauge", unstable), NO_LABELS);
    return (value: number) => registry.set(slot, value);
  };
  const labelled = (name: string, help: string, unstable = false) => {
    const counter = family(name, help, "counter", unstable);
    const slots = new Map<string, Slot>();
    return (labels: Readonly<Record<string, string>>) => {
      const key = JSON.stringify(labels);
      let slot = slots.get(key);
      if (slot === undefined) {
        slot = registry.acquire(counter, labelSet(labels));
        slots.set(key, slot);
      }
      registry.add(slot, 1);
    };
  };
  const histogram = (name: string, help: string) => {
    const own = family(name, help, "histogram", true);
    const slot = registry.acquire(own, NO_LABELS);
    return (ms: number) => registry.observe(own, slot, ms / 1000);
  };

  const build = registry.register({ name: "istio_build", help: "Istio component build info", type: "gauge" });
  registry.set(registry.acquire(build, labelSet({ component: "cni", tag })), 1);
  const installs = labelled("istio_cni_installs", "Total number of CNI plugins installed by the Istio CNI installer");
  const installReady = gauge("istio_cni_install_ready", "Whether the CNI plugin installation is ready or not");
  const requests = labelled(
    "istio_cni_plugin_requests",
    "Total number of requests of the CNI plugin, by the answer's code",
  );
  const reconciled = labelled("nodeagent_reconcile_events", "The total number of node agent reconcile events");
  const connected = gauge("ztunnel_connected", "Number of connections to ztunnel");
  const openFds = gauge("process_open_fds", "Number of open file descriptors");
  const maxFds = gauge("process_max_fds", "Maximum number of open file descriptors");
  const queue = gauge("ambit_cni_queue", "Pods whose events wait or are tried again", true);
  const captured = gauge("ambit_cni_pods_captured", "Pods whose traffic is captured and served by a ztunnel", true);
  const pending = gauge("ambit_cni_pods_pending", "Pods whose traffic is captured and that no ztunnel serves", true);
  const failed = gauge("ambit_cni_pods_failed", "Pods that belong into the mesh and could not be captured", true);
  const failures = labelled("ambit_cni_enrollment_failures", "Failed captures of a pod, by the step that failed", true);
  const drift = labelled("ambit_cni_drift", "What was found otherwise than it was set up, by kind", true);
  const repairs = labelled("ambit_cni_repairs", "Repairs of what was found so, by kind and result", true);
  const verified = histogram("ambit_cni_verify_seconds", "Time a look at a captured pod took");
  const redirected = histogram("ambit_cni_redirect_seconds", "Time from the order to capture a pod to its rules");
  const enrolled = histogram("ambit_cni_enroll_seconds", "Time from the order to capture a pod to its end");
  return {
    installed: (result) => installs({ result }),
    setInstallReady: (ready) => installReady(ready ? 1 : 0),
    pluginRequest: (code) => requests({ response_code: String(code) }),
    setZtunnels: connected,
    setQueue: queue,
    setPods(now, waiting, broken) {
      captured(now);
      pending(waiting);
      failed(broken);
    },
    setFileDescriptors(open, max) {
      openFds(open);
      maxFds(max);
    },
    reconciled: (type) => reconciled({ type }),
    drifted: (kind) => drift({ kind }),
    repaired: (kind, success) => repairs({ kind, result: success ? "success" : "fail" }),
    verified,
    enrolled(redirectedMs, tookMs) {
      redirected(redirectedMs);
      enrolled(tookMs);
    },
    enrolmentFailed: (step) => failures({ step }),
  };
}
