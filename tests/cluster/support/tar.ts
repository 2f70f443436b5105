/**
 * A tar archive as a stream of chunks (POSIX ustar): every entry says its size beforehand, so the whole length is known before the first
 * byte, and an archive can be an entry of another. Nothing is buffered but one chunk of a file.
 */
import { closeSync, openSync, readSync, statSync } from "node:fs";

export type TarEntry =
  | { readonly kind: "directory"; readonly path: string; readonly mode: number }
  | { readonly kind: "link"; readonly path: string; readonly target: string }
  | { readonly kind: "file"; readonly path: string; readonly mode: number; readonly source: string }
  | { readonly kind: "bytes"; readonly path: string; readonly mode: number; readonly content: Uint8Array };

const BLOCK = 512;
const CHUNK = 1 << 20;
/** Two empty blocks end an archive. */
const END = new Uint8Array(2 * BLOCK);

export function tarLength(entries: readonly TarEntry[]): number {
  return entries.reduce((sum, entry) => sum + BLOCK + padded(sizeOf(entry)), END.length);
}

/** The archive's bytes. A chunk is valid until the next is taken. */
export function* writeTar(entries: readonly TarEntry[]): Generator<Uint8Array> {
  for (const entry of entries) {
    const size = sizeOf(entry);
    yield tarHeader(entry, size);
    if (entry.kind === "bytes") yield entry.content;
    if (entry.kind === "file") yield* chunksOf(entry.source, size);
    yield tarPadding(size);
  }
  yield END;
}

/** For an entry whose content is written by somebody else, with {@link tarPadding} after it. */
export function tarHeader(entry: TarEntry, size: number): Uint8Array {
  const block = Buffer.alloc(BLOCK);
  const { name, prefix } = split(entry.path);
  block.write(name, 0, 100, "utf8");
  const mode = entry.kind === "link" ? 0o777 : entry.mode;
  for (const [offset, width, value] of [[100, 8, mode], [108, 8, 0], [116, 8, 0], [124, 12, size], [136, 12, 0]]) {
    block.write(value.toString(8).padStart(width - 1, "0"), offset, "ascii");
  }
  block.write({ file: "0", bytes: "0", link: "2", directory: "5" }[entry.kind], 156, "ascii");
  if (entry.kind === "link") block.write(entry.target, 157, 100, "utf8");
  block.write("ustar\x0000", 257, "ascii");
  block.write(prefix, 345, 155, "utf8");
  // The sum is taken with its own field full of blanks.
  block.fill(" ", 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "ascii");
  return block;
}

export function tarPadding(size: number): Uint8Array {
  return new Uint8Array(padded(size) - size);
}

function sizeOf(entry: TarEntry): number {
  if (entry.kind === "file") return statSync(entry.source).size;
  return entry.kind === "bytes" ? entry.content.length : 0;
}

function padded(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

/** A long path is kept in two fields, which are cut at a slash. */
function split(path: string): { readonly name: string; readonly prefix: string } {
  if (Buffer.byteLength(path) <= 100) return { name: path, prefix: "" };
  const cut = path.lastIndexOf("/", 155);
  const [prefix, name] = [path.slice(0, cut), path.slice(cut + 1)];
  if (cut < 0 || Buffer.byteLength(name) > 100) throw new Error(`${path}: too long for a tar archive`);
  return { name, prefix };
}

function* chunksOf(path: string, size: number): Generator<Uint8Array> {
  const chunk = new Uint8Array(CHUNK);
  const file = openSync(path, "r");
  try {
    for (let left = size; left > 0;) {
      const count = readSync(file, chunk, 0, Math.min(CHUNK, left), null);
      if (count === 0) throw new Error(`${path} became shorter while it was read`);
      left -= count;
      yield chunk.subarray(0, count);
    }
  } finally {
    closeSync(file);
  }
}
