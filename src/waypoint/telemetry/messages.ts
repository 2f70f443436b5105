/** What a worker's telemetry tells the main thread, beside its report. Everything is cloneable; order is kept. */
import type { FamilySpec } from "../../telemetry/metric_family.ts";
import type { MetricsSnapshot } from "../../telemetry/registry.ts";
import type { TracingSpec } from "../spec/mod.ts";

export type TelemetryMessage =
  /** Before each report, and as a worker ends: no count is lost when a report comes too late. */
  | { readonly kind: "metrics"; readonly families: readonly FamilySpec[]; readonly snapshot: MetricsSnapshot }
  | { readonly kind: "spans"; readonly to: SpanCollector; readonly spans: readonly SpanRecord[] }
  | { readonly kind: "logs"; readonly to: LogCollector; readonly records: readonly LogRecord[] };

/** What a worker calls its metrics: no two workers ever have the same name. */
export function metricsSource(generation: number): string {
  return `worker ${generation}`;
}

export type SpanCollector = NonNullable<TracingSpec["provider"]>;

/** A server span that is over. Ids are hexadecimal; times are milliseconds since 1970. */
export interface SpanRecord {
  readonly traceId: string;
  readonly spanId: string;
  /** "" for the first of a trace. */
  readonly parentId: string;
  /** The id is also the client's, as Zipkin's shared spans have it. */
  readonly shared: boolean;
  readonly traceState: string;
  readonly name: string;
  readonly startMs: number;
  readonly durationMs: number;
  readonly failed: boolean;
  readonly tags: Readonly<Record<string, string>>;
  /** `ip:port` of where the client wanted to go. */
  readonly localAddress: string;
}

export type LogCollector =
  | {
    readonly kind: "otel";
    readonly cluster: string;
    readonly logName: string;
    readonly resource: Readonly<Record<string, string>>;
  }
  | { readonly kind: "grpc"; readonly cluster: string; readonly logName: string };

export type LogRecord =
  | {
    readonly kind: "otel";
    readonly timeMs: number;
    readonly body: unknown;
    readonly attributes: Readonly<Record<string, unknown>>;
    readonly traceId: string;
    readonly spanId: string;
  }
  | GrpcLogRecord;

/** What Envoy's HTTPAccessLogEntry and TCPAccessLogEntry are made of. */
export interface GrpcLogRecord {
  readonly kind: "grpc";
  readonly startMs: number;
  readonly durationMs: number;
  readonly source: { readonly ip: string; readonly port: number };
  readonly destination: { readonly ip: string; readonly port: number };
  readonly peerPrincipal: string;
  readonly localPrincipal: string;
  readonly sni: string;
  readonly upstreamHost: string;
  readonly upstreamLocalAddress: string;
  readonly upstreamCluster: string;
  readonly upstreamFailure: string;
  readonly routeName: string;
  readonly flags: readonly string[];
  readonly terminationDetails: string;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  /** Undefined for a connection. */
  readonly request: GrpcLogRequest | undefined;
}

export interface GrpcLogRequest {
  readonly version: "1.0" | "1.1" | "2";
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  readonly path: string;
  readonly userAgent: string;
  readonly referer: string;
  readonly forwardedFor: string;
  readonly requestId: string;
  readonly status: number;
  readonly details: string;
  readonly headBytesReceived: number;
  readonly headBytesSent: number;
  readonly attempts: number;
}
