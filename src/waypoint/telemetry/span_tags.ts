/** Tags of a span: those that Envoy puts on every one, and those that are configured. */
import process from "node:process";
import type { RequestContext } from "../engine/request_context.ts";
import { compileFormat } from "../format/compile.ts";
import type { FormatEnvironment } from "../format/environment.ts";
import type { FormatFacts } from "../format/facts.ts";
import { first } from "../http/fields.ts";
import { headerValue } from "../match/head.ts";
import { valueAt } from "../match/metadata.ts";
import type { CustomTagSpec } from "../spec/mod.ts";

export type TagWriter = (context: RequestContext, facts: FormatFacts, tags: Record<string, string>) => void;

export interface StandardTagOptions {
  readonly nodeId: string;
  readonly maxPathLength: number;
}

export function standardTags(
  context: RequestContext,
  facts: FormatFacts,
  { nodeId, maxPathLength }: StandardTagOptions,
): Record<string, string> {
  const { head, original, connection, facts: { status, grpcStatus } } = context;
  const path = original.path.slice(0, maxPathLength);
  const tags: Record<string, string> = {
    "component": "proxy",
    "downstream_cluster": first(head.headers, "x-envoy-downstream-service-cluster") ?? "-",
    "guid:x-request-id": first(head.headers, "x-request-id") ?? "",
    "http.method": original.method,
    "http.protocol": `HTTP/${head.version}`,
    "http.status_code": String(status),
    "http.url": `${head.scheme || "http"}://${original.authority}${path}`,
    "node_id": nodeId,
    "peer.address": connection.source.ip,
    "request_size": String(facts.bytesReceived),
    "response_flags": facts.responseFlags === "" ? "-" : facts.responseFlags,
    "response_size": String(facts.bytesSent),
    "upstream_cluster": facts.upstreamCluster,
    "upstream_cluster.name": context.facts.host?.cluster.spec.statName || facts.upstreamCluster,
    "user_agent": first(head.headers, "user-agent") ?? "-",
  };
  if (facts.upstreamHost !== "") tags["upstream_address"] = facts.upstreamHost;
  if (grpcStatus !== "") {
    tags["grpc.status_code"] = grpcStatus;
    tags["grpc.path"] = path;
    tags["grpc.authority"] = original.authority;
  }
  if (status >= 500 || status === 0) tags["error"] = "true";
  return tags;
}

/** A tag that would be empty is not there. */
export function customTags(specs: readonly CustomTagSpec[], environment: FormatEnvironment): readonly TagWriter[] {
  return specs.map(({ tag, from }) => {
    const read = reader(from, environment);
    return (context, facts, tags) => {
      const value = read(context, facts);
      if (value !== undefined && value !== "") tags[tag] = value;
    };
  });
}

type Read = (context: RequestContext, facts: FormatFacts) => string | undefined;

function reader(from: CustomTagSpec["from"], environment: FormatEnvironment): Read {
  switch (from.kind) {
    case "literal":
      return () => from.value;
    case "environment": {
      const value = environment.env(from.name) ?? process.env[from.name] ?? from.fallback;
      return () => value;
    }
    case "header":
      return ({ head }) => headerValue(head, from.name) ?? from.fallback;
    case "format": {
      const evaluate = compileFormat(from.format, environment, "");
      return (_, facts) => evaluate(facts);
    }
    case "metadata": {
      const { namespace, path, fallback } = from;
      if (from.of === "request") return ({ metadata }) => text(valueAt(metadata, namespace, path)) ?? fallback;
      // What Istio writes into resources is all that is kept of their metadata.
      if (namespace !== "istio" || path.join(".") !== "config") return () => fallback;
      return from.of === "route"
        ? (context) => context.route()?.source || fallback
        : ({ facts }) => facts.host?.cluster.spec.source || fallback;
    }
  }
}

function text(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  return typeof value === "string" ? value : JSON.stringify(value);
}
