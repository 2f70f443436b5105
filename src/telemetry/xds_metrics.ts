/**
 * Metrics of the xDS client (main thread).
 *
 *   createXdsMetrics(registry): XdsMetrics
 *     connectionTerminated(reason: "ConnectionError" | "Error" | "Reconnect" | "Complete")   the stream ended
 *     message(typeUrl, bytes)                                                                a response came
 *     rejected(typeUrl, resources)                                                           resources were NACKed
 *     setConnected(connected)                                                                a stream is open
 *     applied(typeUrl, durationMs)                                                           in force in every worker
 */
import { labelSet, NO_LABELS } from "./metric_family.ts";
import type { Family, Registry } from "./registry.ts";

/**
 * `ConnectionError`: no connection could be made. `Error`: the server or the stream failed. `Reconnect`: ended to be opened
 * anew, as servers ask for from time to time. `Complete`: the server ended the stream in order.
 */
export type XdsTermination = "ConnectionError" | "Error" | "Reconnect" | "Complete";

export interface XdsMetrics {
  connectionTerminated(reason: XdsTermination): void;
  /** @param bytes size of the encoded response. */
  message(typeUrl: string, bytes: number): void;
  /** @param resources how many of one response were refused. */
  rejected(typeUrl: string, resources: number): void;
  setConnected(connected: boolean): void;
  /** From the arrival of a response to its being in force in every worker. */
  applied(typeUrl: string, durationMs: number): void;
}

/** Type urls come from the server; a handful is in use. */
const MAX_URLS = 32;
const APPLY_SECONDS = [0.001, 0.01, 0.1, 1, 10];

export function createXdsMetrics(registry: Registry): XdsMetrics {
  const counter = (name: string, help: string) => registry.register({ name, help, type: "counter", unstable: true });
  const terminations = counter("istio_xds_connection_terminations", "Streams to the xDS server that ended");
  const messages = counter("istio_xds_message", "Responses received over xDS");
  const bytes = counter("istio_xds_message_bytes", "Bytes of the responses received over xDS");
  const rejections = counter("ambit_xds_rejected_resources", "Resources that were refused and reported to the server");
  const connected = registry.register({
    name: "ambit_xds_connected",
    help: "Whether a stream to the xDS server is open",
    type: "gauge",
    unstable: true,
  });
  const apply = registry.register({
    name: "ambit_xds_apply_seconds",
    help: "Time from the arrival of a response until every worker has it in force",
    type: "histogram",
    unstable: true,
    buckets: APPLY_SECONDS,
  });
  const connectedSlot = registry.acquire(connected, NO_LABELS);

  function slotOf(family: Family, url: string): number {
    const labels = labelSet({ url });
    const bounded = family.series.has(labels.text) || family.series.size < MAX_URLS;
    return registry.acquire(family, bounded ? labels : labelSet({ url: "other" }));
  }
  function count(family: Family, url: string, amount: number): void {
    const slot = slotOf(family, url);
    registry.add(slot, amount);
    registry.release(slot);
  }

  return {
    connectionTerminated(reason) {
      const slot = registry.acquire(terminations, labelSet({ reason }));
      registry.add(slot, 1);
      registry.release(slot);
    },
    message(typeUrl, size) {
      count(messages, typeUrl, 1);
      count(bytes, typeUrl, size);
    },
    rejected: (typeUrl, resources) => count(rejections, typeUrl, resources),
    setConnected: (up) => registry.set(connectedSlot, up ? 1 : 0),
    applied(typeUrl, durationMs) {
      const slot = slotOf(apply, typeUrl);
      registry.observe(apply, slot, durationMs / 1000);
      registry.release(slot);
    },
  };
}
