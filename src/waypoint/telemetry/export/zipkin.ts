/** Spans as Zipkin's v2 JSON, `POST /api/v2/spans`. */
import { withoutPort } from "../../format/peer.ts";
import type { SpanRecord } from "../messages.ts";

export function encodeZipkin(serviceName: string, spans: readonly SpanRecord[]): string {
  return JSON.stringify(spans.map((span) => ({
    id: span.spanId,
    traceId: span.traceId,
    ...(span.parentId === "" ? {} : { parentId: span.parentId }),
    ...(span.shared ? { shared: true } : {}),
    name: span.name,
    kind: "SERVER",
    timestamp: Math.round(span.startMs * 1000),
    duration: Math.max(1, Math.round(span.durationMs * 1000)),
    localEndpoint: { serviceName, ...endpoint(span.localAddress) },
    tags: span.tags,
  })));
}

function endpoint(address: string): Readonly<Record<string, string | number>> {
  const ip = withoutPort(address);
  const port = Number(/:(\d+)$/.exec(address)?.[1] ?? 0);
  return { [ip.includes(":") ? "ipv6" : "ipv4"]: ip, port };
}
