/** One end of a TCP connection in a test: what came, how it ended, and everything an application can do to it. */
import { EAGAIN } from "../../../src/platform/errno.ts";
import type { SocketAddress } from "../../../src/platform/sockaddr.ts";
import type { TcpSink, TcpStream } from "../../../src/net/tcp_stream.ts";
import { within } from "./wait.ts";

/** "eof": the other side ended its half in order. A number: the errno that broke the connection. "closed": by this end. */
export type PeerEnd = "eof" | "closed" | number;

const READ_BYTES = 256 * 1024;
const buffer = new Uint8Array(READ_BYTES);

export class Peer implements TcpSink {
  readonly remote: SocketAddress;
  readonly local: SocketAddress | undefined;
  /** Bytes that came in all, those taken by `read` included. */
  received = 0;
  readonly #tcp: TcpStream;
  #chunks: Uint8Array[] = [];
  #held = 0;
  #end: PeerEnd | undefined;
  #waiting: (() => void)[] = [];

  constructor(create: (sink: TcpSink) => TcpStream, remote: SocketAddress, local: SocketAddress | undefined) {
    this.remote = remote;
    this.local = local;
    this.#tcp = create(this);
    this.#tcp.resumeRead();
  }

  get fd(): number {
    return this.#tcp.fd;
  }

  /** Bytes written that the kernel did not take yet. */
  get queued(): number {
    return this.#tcp.queued;
  }

  write(data: string | Uint8Array): void {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    const n = this.#tcp.write(bytes, 0, bytes.length);
    if (n < 0) this.broken(-n);
  }

  /** Ends the own half: the other side reads end of stream. */
  finish(): void {
    this.#tcp.endWrite();
  }

  /** Reads nothing from now on: the kernel's buffers fill up. */
  pause(): void {
    this.#tcp.pauseRead();
  }

  resume(): void {
    this.#tcp.resumeRead();
  }

  /** Closes with a RST. */
  abort(): void {
    this.#tcp.abort();
    this.#ended("closed");
  }

  close(): void {
    this.#tcp.close();
    this.#ended("closed");
  }

  /** Exactly `count` bytes as text. Rejects when the connection ends before, or nothing more comes. */
  async read(count: number, timeoutMs?: number): Promise<string> {
    return new TextDecoder().decode(await this.readBytes(count, timeoutMs));
  }

  async readBytes(count: number, timeoutMs?: number): Promise<Uint8Array> {
    await this.#until(() => this.#held >= count || this.#end !== undefined, `${count} bytes`, timeoutMs);
    if (this.#held < count) {
      throw new Error(`the connection ended (${this.#end}) after ${this.#held} of ${count} bytes`);
    }
    return this.#take(count);
  }

  /** Waits for the end. */
  async ended(timeoutMs?: number): Promise<PeerEnd> {
    await this.#until(() => this.#end !== undefined, "the end of the connection", timeoutMs);
    return this.#end!;
  }

  /** Everything that still comes up to the end, as text, and how it ended. */
  async readToEnd(timeoutMs?: number): Promise<{ readonly text: string; readonly end: PeerEnd }> {
    const end = await this.ended(timeoutMs);
    return { text: new TextDecoder().decode(this.#take(this.#held)), end };
  }

  /** Everything that still comes up to the end, as it came. */
  async readBytesToEnd(timeoutMs?: number): Promise<Uint8Array> {
    await this.ended(timeoutMs);
    return this.#take(this.#held);
  }

  readable(): void {
    const n = this.#tcp.read(buffer, 0, buffer.length);
    if (n > 0) {
      this.received += n;
      this.#held += n;
      this.#chunks.push(buffer.slice(0, n));
      this.#wake();
    } else if (n === 0) {
      this.#ended("eof");
    } else if (n !== -EAGAIN) {
      this.#tcp.close();
      this.#ended(-n);
    }
  }

  drained(): void {
    this.#wake();
  }

  broken(code: number): void {
    this.#tcp.close();
    this.#ended(code);
  }

  #take(count: number): Uint8Array {
    const all = new Uint8Array(this.#held);
    let at = 0;
    for (const chunk of this.#chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    this.#chunks = [all.subarray(count)];
    this.#held -= count;
    return all.subarray(0, count);
  }

  /** The first end stays, except that an error after an end of stream says more. */
  #ended(end: PeerEnd): void {
    if (this.#end === undefined || (this.#end === "eof" && typeof end === "number")) this.#end = end;
    this.#wake();
  }

  #until(reached: () => boolean, what: string, timeoutMs = 30_000): Promise<void> {
    return within(timeoutMs, what, (resolve) => {
      const check = () => {
        if (reached()) resolve();
        else this.#waiting.push(check);
      };
      check();
    });
  }

  #wake(): void {
    for (const check of this.#waiting.splice(0)) check();
  }
}
