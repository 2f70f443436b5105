/** Compresses a response body off the main thread. */
import { promisify } from "node:util";
import { brotliCompress, constants, deflate, gzip, zstdCompress } from "node:zlib";
import type { ContentCoding } from "./negotiation.ts";

const gzipAsync = promisify(gzip);
const deflateAsync = promisify(deflate);
const zstdAsync = promisify(zstdCompress);
const brotliAsync = (body: Uint8Array) =>
  // The default quality of 11 costs seconds on a large exposition; 4 is about gzip's cost.
  new Promise<Uint8Array>((resolve, reject) =>
    brotliCompress(
      body,
      { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } },
      (error, result) => error === null ? resolve(result) : reject(error),
    )
  );

export async function compress(body: Uint8Array, coding: NonNullable<ContentCoding>): Promise<Uint8Array> {
  switch (coding) {
    case "gzip":
      return await gzipAsync(body);
    case "deflate":
      return await deflateAsync(body);
    case "br":
      return await brotliAsync(body);
    case "zstd":
      return await zstdAsync(body);
  }
}
