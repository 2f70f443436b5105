/** HTTP/1.1, RFC 9112: both directions, sans-io. */
export { Http1Decoder } from "./decoder.ts";
export {
  CHUNK_OVERHEAD_BYTES,
  chunkLine,
  fieldLines,
  lastChunk,
  requestHead,
  responseHead,
  writeLatin1,
} from "./encoder.ts";
export { isFieldValue, isHost, isTarget, isToken, listMembers, readLength } from "./grammar.ts";
export type * from "./types.ts";
