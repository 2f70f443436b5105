/** Writes HTTP/1.1 messages onto a byte stream, without copying heads twice. */
import { CHUNK_OVERHEAD_BYTES, chunkLine, lastChunk, writeLatin1 } from "../../protocol/http1/mod.ts";
import type { ByteStream } from "../transport/byte_stream.ts";
import type { FieldList } from "./exchange.ts";

/** How the body that is being written ends. */
export type BodyFraming = "none" | "length" | "chunked" | "close";

/** Larger texts go in pieces: a reservation is for what fits a buffer. */
const MAX_RESERVED = 16 * 1024;

export function writeText(stream: ByteStream, text: string): void {
  for (let at = 0; at < text.length; at += MAX_RESERVED) {
    const piece = at === 0 && text.length <= MAX_RESERVED ? text : text.slice(at, at + MAX_RESERVED);
    const room = stream.reserve(piece.length);
    writeLatin1(room.bytes, room.at, piece);
    stream.commit(piece.length);
  }
}

/** A piece of a body. Never empty. */
export function writeBody(
  stream: ByteStream,
  framing: BodyFraming,
  bytes: Uint8Array,
  start: number,
  end: number,
): void {
  const size = end - start;
  if (framing !== "chunked") return stream.write(bytes, start, end);
  if (size > MAX_RESERVED) {
    writeText(stream, chunkLine(size));
    stream.write(bytes, start, end);
    return writeText(stream, "\r\n");
  }
  const room = stream.reserve(size + CHUNK_OVERHEAD_BYTES);
  const line = chunkLine(size);
  const at = writeLatin1(room.bytes, room.at, line);
  room.bytes.set(bytes.subarray(start, end), at);
  room.bytes[at + size] = 13;
  room.bytes[at + size + 1] = 10;
  stream.commit(line.length + size + 2);
}

/** The end of a body with its trailers, which only chunks can carry. */
export function writeEnd(stream: ByteStream, framing: BodyFraming, trailers: FieldList): void {
  if (framing === "chunked") writeText(stream, lastChunk(trailers));
}
