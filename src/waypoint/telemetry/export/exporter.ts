/**
 * Spans and log records of all workers on their way out of the process, in batches by collector. Bounded: what a collector does not take in time is
 * lost and counted, and the log says so now and then. Main thread only.
 */
import { Buffer } from "node:buffer";
import type { Logger } from "../../../telemetry/log.ts";
import type { ClusterName } from "../../spec/mod.ts";
import type { CollectorCall } from "../../worker/collector_calls.ts";
import type {
  GrpcLogRecord,
  LogCollector,
  LogRecord,
  SpanCollector,
  SpanRecord,
  TelemetryMessage,
} from "../messages.ts";
import { grpcFrame } from "./grpc_frame.ts";
import { encodeLogs, encodeSpans } from "./otlp.ts";
import { encodeZipkin } from "./zipkin.ts";

export interface ExporterOptions {
  readonly node: { readonly id: string; readonly cluster: string };
  /** Sends through a worker's clusters, wherever they lead. Resolves with "" when it was taken, else with why not. */
  readonly call: (call: CollectorCall) => Promise<string>;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** Envoy's gRPC access log in its own messages (config/als.ts). */
  readonly als: {
    readonly path: string;
    identity(node: { readonly id: string; readonly cluster: string }, logName: string): Uint8Array;
    encode(records: readonly GrpcLogRecord[]): readonly Uint8Array[];
  };
}

/** Waiting for one collector, beyond what is on its way. */
const MAX_WAITING = 8_192;
const MAX_BATCH = 1_024;
/** A collector that is away says so once in this time. */
const LOG_INTERVAL_MS = 60_000;
const TRACE_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS_EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

type Item = SpanRecord | LogRecord;
type Encode = (items: readonly Item[]) => CollectorCall;

interface Queue {
  readonly cluster: string;
  readonly encode: Encode;
  waiting: Item[];
  sending: Promise<void> | undefined;
  saidAtMs: number;
}

export class Exporter {
  readonly #options: ExporterOptions;
  readonly #queues = new Map<string, Queue>();
  #closed = false;
  sent = 0;
  dropped = 0;

  constructor(options: ExporterOptions) {
    this.#options = options;
  }

  received(message: Exclude<TelemetryMessage, { readonly kind: "metrics" }>): void {
    if (this.#closed) return;
    const items = message.kind === "spans" ? message.spans : message.records;
    const queue = this.#queue(message);
    const room = Math.max(0, MAX_WAITING - queue.waiting.length);
    queue.waiting.push(...items.slice(0, room));
    this.dropped += Math.max(0, items.length - room);
    queue.sending ??= this.#drain(queue);
  }

  /** Resolves when nothing is on its way; for the end of the process and for tests. */
  async settled(): Promise<void> {
    for (const { sending } of this.#queues.values()) await sending;
  }

  close(): void {
    this.#closed = true;
  }

  #queue(message: Exclude<TelemetryMessage, { readonly kind: "metrics" }>): Queue {
    const key = `${message.kind} ${JSON.stringify(message.to)}`;
    let queue = this.#queues.get(key);
    if (queue === undefined) {
      const encode = message.kind === "spans" ? this.#spanEncoder(message.to) : this.#logEncoder(message.to);
      queue = { cluster: message.to.cluster, encode, waiting: [], sending: undefined, saidAtMs: -Infinity };
      this.#queues.set(key, queue);
    }
    return queue;
  }

  async #drain(queue: Queue): Promise<void> {
    while (queue.waiting.length > 0 && !this.#closed) {
      const batch = queue.waiting.splice(0, MAX_BATCH);
      const reason = await this.#options.call(queue.encode(batch));
      if (reason === "") this.sent += batch.length;
      else this.#lost(queue, batch.length, reason);
    }
    queue.sending = undefined;
  }

  #lost(queue: Queue, count: number, reason: string): void {
    this.dropped += count;
    const nowMs = this.#options.nowMs();
    if (nowMs - queue.saidAtMs < LOG_INTERVAL_MS) return;
    queue.saidAtMs = nowMs;
    this.#options.log.log("warn", "telemetry", "spans or log records could not be delivered; they are lost", {
      cluster: queue.cluster,
      count,
      error: reason,
    });
  }

  #spanEncoder(to: SpanCollector): Encode {
    const service = this.#options.node.cluster;
    const cluster = to.cluster as ClusterName;
    switch (to.kind) {
      case "zipkin":
        return (items) => ({
          cluster,
          kind: "http",
          path: to.path || "/api/v2/spans",
          authority: to.host,
          headers: [{ name: "content-type", value: "application/json" }],
          body: Buffer.from(encodeZipkin(service, items as SpanRecord[])),
        });
      case "otlp grpc": {
        const resource = traceResource(to.serviceName || service);
        return (items) => grpcCall(cluster, TRACE_EXPORT, to.headers, [encodeSpans(resource, items as SpanRecord[])]);
      }
      case "otlp http": {
        const resource = traceResource(to.serviceName || service);
        return (items) => ({
          cluster,
          kind: "http",
          path: pathOf(to.uri),
          authority: hostOf(to.uri) ?? "",
          headers: [{ name: "content-type", value: "application/x-protobuf" }, ...to.headers],
          body: encodeSpans(resource, items as SpanRecord[]),
        });
      }
    }
  }

  #logEncoder(to: LogCollector): Encode {
    const { node, als } = this.#options;
    const cluster = to.cluster as ClusterName;
    if (to.kind === "grpc") {
      // A call of its own for each batch: its answer says that all of it was taken.
      const identity = als.identity(node, to.logName);
      return (items) => grpcCall(cluster, als.path, [], [identity, ...als.encode(items as GrpcLogRecord[])]);
    }
    const resource = { log_name: to.logName, cluster_name: node.cluster, node_name: node.id, ...to.resource };
    return (items) =>
      grpcCall(cluster, LOGS_EXPORT, [], [
        encodeLogs(resource, items as Extract<LogRecord, { readonly kind: "otel" }>[]),
      ]);
  }
}

function grpcCall(
  cluster: ClusterName,
  path: string,
  headers: CollectorCall["headers"],
  messages: readonly Uint8Array[],
): CollectorCall {
  return { cluster, kind: "grpc", path, authority: "", headers, body: Buffer.concat(messages.map(grpcFrame)) };
}

function traceResource(serviceName: string): Record<string, string> {
  return { "service.name": serviceName, "telemetry.sdk.language": "js", "telemetry.sdk.name": "ambit" };
}

function pathOf(uri: string): string {
  if (!URL.canParse(uri)) return uri.startsWith("/") ? uri : "/v1/traces";
  const { pathname, search } = new URL(uri);
  return pathname + search;
}

function hostOf(uri: string): string | undefined {
  return URL.canParse(uri) ? new URL(uri).host : undefined;
}
