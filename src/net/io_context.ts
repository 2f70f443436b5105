/** What every connection of a worker shares: its reactor, its buffers, and one buffer that each read may use up to its return. */
import { BufferPool } from "./buffer_pool.ts";
import type { Reactor } from "./reactor.ts";

/** Several TLS records at once: what arrived together is decrypted, parsed and forwarded together. */
const READ_BUFFER_BYTES = 128 * 1024;

export interface IoContext {
  readonly reactor: Reactor;
  readonly pool: BufferPool;
  /** Content is valid until the handler that filled it returns. */
  readonly readBuffer: Uint8Array;
}

export function createIoContext(reactor: Reactor): IoContext {
  return { reactor, pool: new BufferPool(), readBuffer: new Uint8Array(READ_BUFFER_BYTES) };
}
