/**
 * Compresses a response body off the main thread. node:zlib is loaded by the first response that needs it: on Bun it
 * costs 4 MB, a tenth of an idle process, and a mesh that nobody scrapes never needs it.
 */
import type { ContentCoding } from "./negotiation.ts";

/** Brotli's default of 11 costs seconds on a large exposition; 4 costs about what gzip does. */
const BROTLI_QUALITY = 4;

export async function compress(body: Uint8Array, coding: NonNullable<ContentCoding>): Promise<Uint8Array> {
  const { brotliCompress, constants, deflate, gzip, zstdCompress } = await import("node:zlib");
  return await new Promise((resolve, reject) => {
    const done = (error: Error | null, packed: Uint8Array) => error === null ? resolve(packed) : reject(error);
    switch (coding) {
      case "gzip":
        return gzip(body, done);
      case "deflate":
        return deflate(body, done);
      case "br":
        return brotliCompress(body, { params: { [constants.BROTLI_PARAM_QUALITY]: BROTLI_QUALITY } }, done);
      case "zstd":
        return zstdCompress(body, done);
    }
  });
}
