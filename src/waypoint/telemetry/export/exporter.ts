/**
 * Spans and log records of all workers on their way out of the process, in batches by collector. Bounded: what a collector does not take in time is
 * lost and counted, and the log says so now and then. Main thread only.
 */
import type { Logger } from "../../../telemetry/log.ts";
import type {
  GrpcLogRecord,
  LogCollector,
  LogRecord,
  SpanCollector,
  SpanRecord,
  TelemetryMessage,
} from "../messages.ts";
import type { CollectorAddress, ResolveCollector } from "./collectors.ts";
import { GrpcSender } from "./grpc_sender.ts";
import { HttpSender } from "./http_sender.ts";
import { encodeLogs, encodeSpans } from "./otlp.ts";
import { encodeZipkin } from "./zipkin.ts";

export interface ExporterOptions {
  readonly node: { readonly id: string; readonly cluster: string };
  readonly resolve: ResolveCollector;
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
type Send = (address: CollectorAddress, items: readonly Item[]) => Promise<string>;

interface Queue {
  readonly cluster: string;
  readonly send: Send;
  waiting: Item[];
  sending: Promise<void> | undefined;
  saidAtMs: number;
}

export class Exporter {
  readonly #options: ExporterOptions;
  readonly #grpc = new GrpcSender();
  readonly #http = new HttpSender();
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
    this.#grpc.close();
    this.#http.close();
  }

  #queue(message: Exclude<TelemetryMessage, { readonly kind: "metrics" }>): Queue {
    const key = `${message.kind} ${JSON.stringify(message.to)}`;
    let queue = this.#queues.get(key);
    if (queue === undefined) {
      const send = message.kind === "spans" ? this.#spanSender(message.to) : this.#logSender(message.to);
      queue = { cluster: message.to.cluster, send, waiting: [], sending: undefined, saidAtMs: -Infinity };
      this.#queues.set(key, queue);
    }
    return queue;
  }

  async #drain(queue: Queue): Promise<void> {
    while (queue.waiting.length > 0 && !this.#closed) {
      const batch = queue.waiting.splice(0, MAX_BATCH);
      const reason = await this.#sendBatch(queue, batch);
      if (reason === "") this.sent += batch.length;
      else this.#lost(queue, batch.length, reason);
    }
    queue.sending = undefined;
  }

  /** "" when one of its endpoints took it. */
  async #sendBatch(queue: Queue, batch: readonly Item[]): Promise<string> {
    const found = this.#options.resolve(queue.cluster);
    if (found.kind === "none") return found.reason;
    let reason = "";
    for (const address of found.addresses) {
      const failure = await queue.send(address, batch);
      if (failure === "") return "";
      reason = `${address.host}:${address.port}: ${failure}`;
    }
    return reason;
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

  #spanSender(to: SpanCollector): Send {
    const { cluster } = this.#options.node;
    switch (to.kind) {
      case "zipkin":
        return (address, items) =>
          this.#http.post(address, to.path || "/api/v2/spans", encodeZipkin(cluster, items as SpanRecord[]), {
            "content-type": "application/json",
            "host": to.host || address.authority,
          });
      case "otlp grpc":
        return (address, items) =>
          this.#grpc.unary(
            address,
            TRACE_EXPORT,
            encodeSpans(this.#traceResource(to.serviceName), items as SpanRecord[]),
            Object.fromEntries(to.headers.map(({ name, value }) => [name, value])),
          );
      case "otlp http":
        return (address, items) =>
          this.#http.post(
            address,
            pathOf(to.uri),
            encodeSpans(this.#traceResource(to.serviceName), items as SpanRecord[]),
            {
              "content-type": "application/x-protobuf",
              "host": hostOf(to.uri) ?? address.authority,
              ...Object.fromEntries(to.headers.map(({ name, value }) => [name, value])),
            },
          );
    }
  }

  #traceResource(serviceName: string): Record<string, string> {
    return {
      "service.name": serviceName || this.#options.node.cluster,
      "telemetry.sdk.language": "js",
      "telemetry.sdk.name": "ambit",
    };
  }

  #logSender(to: LogCollector): Send {
    const { node, als } = this.#options;
    if (to.kind === "grpc") {
      return (address, items) => {
        const identity = als.identity(node, to.logName);
        for (const message of als.encode(items as GrpcLogRecord[])) {
          const failure = this.#grpc.stream(address, als.path, identity, message);
          if (failure !== "") return Promise.resolve(failure);
        }
        return Promise.resolve("");
      };
    }
    const resource = { log_name: to.logName, cluster_name: node.cluster, node_name: node.id, ...to.resource };
    return (address, items) =>
      this.#grpc.unary(
        address,
        LOGS_EXPORT,
        encodeLogs(resource, items as Extract<LogRecord, { readonly kind: "otel" }>[]),
        {},
      );
  }
}

function pathOf(uri: string): string {
  if (!URL.canParse(uri)) return uri.startsWith("/") ? uri : "/v1/traces";
  const { pathname, search } = new URL(uri);
  return pathname + search;
}

function hostOf(uri: string): string | undefined {
  return URL.canParse(uri) ? new URL(uri).host : undefined;
}
