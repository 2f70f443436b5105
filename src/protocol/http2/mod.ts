/** HTTP/2 (RFC 9113) and HPACK (RFC 7541) for both ends of a connection, sans-io. */
export { Http2Connection } from "./connection.ts";
export { Http2Stream } from "./stream.ts";
export { ErrorCode, errorName } from "./constants.ts";
export type { BufferPool, Fields, Http2Handlers, Http2Options } from "./types.ts";
export type { FloodLimits } from "./flood.ts";
