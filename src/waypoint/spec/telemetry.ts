/** Telemetry of a chain as data. CEL expressions stay text; the worker compiles each once. */
import type { ClusterName } from "./chains.ts";
import type { Format } from "./match.ts";

export interface AccessLogSpec {
  readonly filter: AccessLogFilter | undefined;
  readonly to:
    | { readonly kind: "text"; readonly path: string; readonly format: Format }
    /** Members in order; nested objects and lists as in the configuration. */
    | { readonly kind: "json"; readonly path: string; readonly format: JsonFormat; readonly omitEmpty: boolean }
    | {
      readonly kind: "otel";
      readonly cluster: ClusterName;
      readonly logName: string;
      readonly body: JsonFormat | undefined;
      readonly attributes: JsonFormat | undefined;
      readonly resource: Readonly<Record<string, string>>;
    }
    | { readonly kind: "grpc"; readonly cluster: ClusterName; readonly logName: string };
}

export type JsonFormat = { readonly [name: string]: Format | JsonFormat };

export type AccessLogFilter =
  | { readonly kind: "status"; readonly op: "==" | ">=" | "<=" | "!="; readonly value: number }
  /** Empty: any flag. */
  | { readonly kind: "flags"; readonly flags: readonly string[] }
  | { readonly kind: "cel"; readonly expression: string }
  | { readonly kind: "and" | "or"; readonly of: readonly AccessLogFilter[] };

/** istio.stats. */
export interface StatsSpec {
  readonly hostHeaderFallback: boolean;
  readonly tcpReportingMs: number;
  readonly metrics: readonly MetricOverrideSpec[];
  readonly definitions: readonly {
    readonly name: string;
    readonly value: string;
    readonly type: "counter" | "gauge" | "histogram";
  }[];
}

export interface MetricOverrideSpec {
  /** "" all metrics; otherwise such as `requests_total`. */
  readonly name: string;
  readonly dimensions: Readonly<Record<string, string>>;
  readonly tagsToRemove: readonly string[];
  readonly match: string;
  readonly drop: boolean;
}

export interface TracingSpec {
  /** Per cent. */
  readonly randomSampling: number;
  readonly clientSampling: number;
  readonly overallSampling: number;
  readonly maxPathTagLength: number;
  readonly tags: readonly CustomTagSpec[];
  /** Undefined: spans are made for propagation only. */
  readonly provider:
    | {
      readonly kind: "zipkin";
      readonly cluster: ClusterName;
      readonly path: string;
      readonly host: string;
      readonly traceId128: boolean;
      readonly sharedSpanContext: boolean;
      readonly w3c: boolean;
    }
    | {
      readonly kind: "otlp grpc";
      readonly cluster: ClusterName;
      readonly serviceName: string;
      readonly headers: readonly { readonly name: string; readonly value: string }[];
    }
    | {
      readonly kind: "otlp http";
      readonly cluster: ClusterName;
      readonly uri: string;
      readonly serviceName: string;
      readonly headers: readonly { readonly name: string; readonly value: string }[];
    }
    | undefined;
}

export interface CustomTagSpec {
  readonly tag: string;
  readonly from:
    | { readonly kind: "literal"; readonly value: string }
    | { readonly kind: "environment"; readonly name: string; readonly fallback: string }
    | { readonly kind: "header"; readonly name: string; readonly fallback: string }
    | {
      readonly kind: "metadata";
      readonly of: "request" | "route" | "cluster" | "host";
      readonly namespace: string;
      readonly path: readonly string[];
      readonly fallback: string;
    }
    | { readonly kind: "format"; readonly format: Format };
}
