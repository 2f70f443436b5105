/**
 * The body of a watch: one JSON object a line, in any split. Sans-io.
 *
 * Whatever is no event is an error: a watch that is not understood must be begun again, not guessed at.
 */
import type { KubeObject, WatchEvent } from "./types.ts";

/** etcd holds no object above 1.5 MiB; as JSON, and with its type's name around it, none is larger than this. */
export const MAX_LINE_BYTES = 8 * 1024 * 1024;

const LF = 10;

export class WatchLineError extends Error {
  override readonly name = "WatchLineError";
}

/** What a watch says. */
export type WatchStep =
  | { readonly kind: "added" | "modified" | "deleted"; readonly object: KubeObject }
  | { readonly kind: "bookmark"; readonly resourceVersion: string }
  /** A Status, or what stands in its place. */
  | { readonly kind: "error"; readonly status: unknown };

export class WatchLines {
  readonly #maxBytes: number;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  #parts: Uint8Array[] = [];
  #bytes = 0;

  constructor(maxBytes: number = MAX_LINE_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /** Whether a line has begun and not ended. */
  get isInLine(): boolean {
    return this.#bytes > 0;
  }

  /** Gives each line that is complete to `sink`. @throws WatchLineError, and what `sink` throws */
  push(chunk: Uint8Array, sink: (step: WatchStep) => void): void {
    for (let start = 0; start < chunk.length;) {
      const end = chunk.indexOf(LF, start);
      const piece = chunk.subarray(start, end === -1 ? chunk.length : end);
      if (this.#bytes + piece.length > this.#maxBytes) {
        throw new WatchLineError(`a line of the watch is longer than ${this.#maxBytes} bytes`);
      }
      if (end === -1) {
        this.#keep(piece);
        return;
      }
      const text = this.#decode(this.#take(piece));
      if (text.trim() !== "") sink(readStep(text));
      start = end + 1;
    }
  }

  #keep(piece: Uint8Array): void {
    if (piece.length === 0) return;
    // A copy: the chunk is the sender's again when `push` returns.
    this.#parts.push(piece.slice());
    this.#bytes += piece.length;
  }

  #take(last: Uint8Array): Uint8Array {
    if (this.#parts.length === 0) return last;
    const line = new Uint8Array(this.#bytes + last.length);
    let at = 0;
    for (const part of this.#parts) {
      line.set(part, at);
      at += part.length;
    }
    line.set(last, at);
    this.#parts = [];
    this.#bytes = 0;
    return line;
  }

  #decode(line: Uint8Array): string {
    try {
      return this.#decoder.decode(line);
    } catch {
      throw new WatchLineError("a line of the watch is not UTF-8");
    }
  }
}

const OBJECT_KINDS = { ADDED: "added", MODIFIED: "modified", DELETED: "deleted" } as const;

/** @throws WatchLineError */
export function readStep(line: string): WatchStep {
  let event: WatchEvent | null;
  try {
    event = JSON.parse(line);
  } catch {
    throw new WatchLineError(`a line of the watch is not JSON: ${shown(line)}`);
  }
  const type: unknown = event?.type;
  const object: unknown = event?.object;
  if (type === "ERROR") return { kind: "error", status: object };
  if (type === "BOOKMARK") {
    const version = (object as KubeObject | null | undefined)?.metadata?.resourceVersion;
    if (typeof version === "string" && version !== "") return { kind: "bookmark", resourceVersion: version };
  } else if (type === "ADDED" || type === "MODIFIED" || type === "DELETED") {
    if (isKubeObject(object)) return { kind: OBJECT_KINDS[type], object };
  }
  throw new WatchLineError(`a line of the watch is no event of an object: ${shown(line)}`);
}

/** It can be stored under its name, and watched from its version on. */
export function isKubeObject(value: unknown): value is KubeObject {
  if (typeof value !== "object" || value === null) return false;
  const metadata: unknown = (value as { metadata?: unknown }).metadata;
  if (typeof metadata !== "object" || metadata === null) return false;
  const { name, namespace, uid, resourceVersion } = metadata as Record<string, unknown>;
  return isText(name) && isText(resourceVersion) && (namespace === undefined || isText(namespace)) &&
    (uid === undefined || typeof uid === "string");
}

function isText(value: unknown): boolean {
  return typeof value === "string" && value !== "";
}

function shown(line: string): string {
  return JSON.stringify(line.length > 100 ? `${line.slice(0, 100)}…` : line);
}
