/** Metrics of the process itself and of the pods it serves, set by the main thread. */
import { labelSet, NO_LABELS } from "./metric_family.ts";
import type { Registry } from "./registry.ts";

export interface ProcessMetrics {
  /** Read anew at each scrape. */
  setFileDescriptors(open: number, max: number): void;
  /** Pods whose listeners are open, and pods that wait for theirs. */
  setProxyCounts(active: number, pending: number): void;
  proxyStarted(): void;
  proxyStopped(): void;
  workerRestarted(): void;
  setWorkers(count: number): void;
}

/** @param istioVersion the tag of `istio_build`; undefined reads `unknown`. */
export function createProcessMetrics(registry: Registry, istioVersion: string | undefined): ProcessMetrics {
  const gauge = (name: string, help: string, unstable = true) =>
    registry.acquire(registry.register({ name, help, type: "gauge", unstable }), NO_LABELS);
  const counter = (name: string, help: string) =>
    registry.acquire(registry.register({ name, help, type: "counter", unstable: true }), NO_LABELS);

  const build = registry.register({ name: "istio_build", help: "Istio component build info", type: "gauge" });
  registry.set(registry.acquire(build, labelSet({ component: "ztunnel", tag: istioVersion || "unknown" })), 1);
  const open = gauge("process_open_fds", "Number of open file descriptors", false);
  const max = gauge("process_max_fds", "Maximum number of open file descriptors", false);
  const active = gauge("workload_manager_active_proxy_count", "The total number current workloads with active proxies");
  const pending = gauge(
    "workload_manager_pending_proxy_count",
    "The total number current workloads with pending proxies",
  );
  const started = counter("workload_manager_proxies_started", "The total number of proxies that were started");
  const stopped = counter("workload_manager_proxies_stopped", "The total number of proxies that were stopped");
  const workers = gauge("ambit_workers", "Data-plane workers running");
  const restarts = counter("ambit_worker_restarts", "Data-plane workers replaced after a failure");
  return {
    setFileDescriptors(openNow, maxNow) {
      registry.set(open, openNow);
      registry.set(max, maxNow);
    },
    setProxyCounts(activeNow, pendingNow) {
      registry.set(active, activeNow);
      registry.set(pending, pendingNow);
    },
    proxyStarted: () => registry.add(started, 1),
    proxyStopped: () => registry.add(stopped, 1),
    workerRestarted: () => registry.add(restarts, 1),
    setWorkers: (count) => registry.set(workers, count),
  };
}
