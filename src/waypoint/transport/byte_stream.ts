/**
 * A duplex byte stream with credit in both directions: what HTTP codecs, TCP chains and upstream connections run on, whatever carries it: a CONNECT
 * stream of a client, one to an endpoint, a socket, TLS over any of them.
 *
 * Push with credit: bytes come as views that are valid until the sink returns; the sink gives credit back with `consume` when it is rid of
 * them, and a sender that gives none is not heard any more (a window, or a paused socket). Nothing is called from within a call of `write`.
 */
export interface ByteSink {
  /** `bytes[start..end)`, perhaps empty with `ended`: the peer will send no more. */
  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void;
  /** `queued` fell below HIGH_WATER_BYTES after it had reached it. */
  writable(): void;
  /** The stream is cut; nothing else will be called. */
  broken(cause: StreamCut): void;
}

export interface ByteStream {
  setSink(sink: ByteSink): void;
  /** The sink is rid of `bytes`. */
  consume(bytes: number): void;
  /** Takes all of `bytes[start..end)`, copied where it cannot go now. The caller stops at `queued >= HIGH_WATER_BYTES` until `writable`. */
  write(bytes: Uint8Array, start: number, end: number): void;
  /** Where a message can be written without a copy: at least `minBytes` at `output.bytes[output.at]`; then `commit(n)`, with no call between. */
  reserve(minBytes: number): Uint8ArrayAt;
  commit(bytes: number): void;
  /** Bytes that are not on their way yet. */
  readonly queued: number;
  /** Our half ends when all is sent. The other half may go on. */
  end(): void;
  /** Both halves end at once; the peer sees a reset. No further call to the sink. */
  reset(): void;
  /** The peer's half has ended. */
  readonly peerEnded: boolean;
  readonly closed: boolean;
}

/** The same object for each reservation of a stream. */
export interface Uint8ArrayAt {
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly end: number;
}

/** Two whole HBONE frames; above it a slow peer would only cost memory. */
export const HIGH_WATER_BYTES = 128 * 1024;

/** Why a stream ended before its time. */
export interface StreamCut {
  readonly by: "peer" | "transport" | "us";
  /** For a log: `connection reset by peer`, `the tunnel was lost: …`. */
  readonly detail: string;
}
