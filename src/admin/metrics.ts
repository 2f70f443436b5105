/** Metrics, port 15020: OpenMetrics text, whatever the method, compressed as the client accepts it. */
import type { Context, Hono } from "hono";
import { createApp } from "./app.ts";
import { compress } from "./compression.ts";
import { chooseCoding, namesMediaType } from "./negotiation.ts";
import { ADMIN_SLICES, inSlices, streamText } from "./slices.ts";

const OPENMETRICS = "application/openmetrics-text";

export interface MetricsSource {
  /** The exposition as of now, in pieces: asks the workers for theirs first. */
  render(): Promise<Iterable<string>>;
}

export function createMetricsApp(source: MetricsSource): Hono {
  const app = createApp();
  const handler = async (c: Context) => {
    const contentType = namesMediaType(c.req.header("accept") ?? "", OPENMETRICS)
      ? `${OPENMETRICS};charset=utf-8;version=1.0.0`
      : "text/plain; charset=utf-8";
    return await expositionResponse(await source.render(), contentType, c.req.header("accept-encoding") ?? "");
  };
  app.all("/metrics", handler);
  app.all("/stats/prometheus", handler);
  return app;
}

/** Made and sent in slices; whole where it is compressed. */
export async function expositionResponse(
  pieces: Iterable<string>,
  contentType: string,
  acceptEncoding: string,
): Promise<Response> {
  const chunks = inSlices(pieces, ADMIN_SLICES);
  const headers: Record<string, string> = { "content-type": contentType, vary: "accept-encoding" };
  const coding = chooseCoding(acceptEncoding);
  if (coding === undefined) return new Response(streamText(chunks), { headers });
  headers["content-encoding"] = coding;
  const parts: string[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  const body = new TextEncoder().encode(parts.join(""));
  return new Response(new Uint8Array(await compress(body, coding)), { headers });
}
