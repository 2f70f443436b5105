/** One end of a large transfer in both directions at once: random bytes in random chunks, hashed as they go and as they come. */
import { createHash, randomBytes } from "node:crypto";
import { EAGAIN } from "../../../src/platform/errno.ts";
import { type TcpSink, TcpStream } from "../../../src/net/tcp_stream.ts";
import type { Lab } from "./lab.ts";
import { within } from "./wait.ts";

/** Chunks are cut out of this at random places. */
const POOL = randomBytes(4 * 1024 * 1024);
const MAX_CHUNK_BYTES = 256 * 1024;
const readBuffer = new Uint8Array(MAX_CHUNK_BYTES);

export interface BulkResult {
  readonly sentSha256: string;
  readonly receivedSha256: string;
  readonly received: number;
}

export class Bulk implements TcpSink {
  readonly #tcp: TcpStream;
  readonly #sent = createHash("sha256");
  readonly #received = createHash("sha256");
  #left: number;
  #receivedBytes = 0;
  #writeDone = false;
  #readDone = false;
  #failure: Error | undefined;
  #over = () => {};

  /** Takes over a connected descriptor, and begins at once. */
  constructor(lab: Lab, fd: number, bytes: number) {
    this.#left = bytes;
    this.#tcp = new TcpStream(lab.io.reactor, lab.io.pool, fd, this);
    this.#tcp.resumeRead();
    this.#send();
  }

  /** Resolves when all is sent and the other end's end of stream is read. */
  async done(timeoutMs: number): Promise<BulkResult> {
    await within(timeoutMs, "the end of the transfer", (resolve) => {
      this.#over = resolve;
      this.#check();
    });
    this.#tcp.close();
    if (this.#failure !== undefined) throw this.#failure;
    return {
      sentSha256: this.#sent.digest("hex"),
      receivedSha256: this.#received.digest("hex"),
      received: this.#receivedBytes,
    };
  }

  readable(): void {
    const n = this.#tcp.read(readBuffer, 0, 1 + Math.floor(Math.random() * MAX_CHUNK_BYTES));
    if (n > 0) {
      this.#receivedBytes += n;
      this.#received.update(readBuffer.subarray(0, n));
    } else if (n === 0) {
      this.#readDone = true;
      this.#check();
    } else if (n !== -EAGAIN) {
      this.broken(-n);
    }
  }

  drained(): void {
    if (this.#tcp.queued === 0) this.#send();
  }

  broken(code: number): void {
    this.#failure = new Error(`the connection broke with error ${code} after ${this.#receivedBytes} bytes`);
    this.#check();
  }

  #send(): void {
    while (this.#left > 0) {
      const size = Math.min(this.#left, 1 + Math.floor(Math.random() * MAX_CHUNK_BYTES));
      const start = Math.floor(Math.random() * (POOL.length - size));
      this.#sent.update(POOL.subarray(start, start + size));
      const n = this.#tcp.write(POOL, start, start + size);
      if (n < 0) return this.broken(-n);
      this.#left -= size;
      if (n < size) return;
    }
    this.#tcp.endWrite();
    this.#writeDone = true;
    this.#check();
  }

  #check(): void {
    if (this.#failure !== undefined || (this.#writeDone && this.#readDone)) this.#over();
  }
}
