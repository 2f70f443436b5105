/**
 * Copies between two TCP connections with half-close both ways. What one side does not take at once is queued, and the other
 * side is not read until the queue is empty again: at most one read per direction is in memory.
 */
import { EAGAIN, ECONNRESET, EPIPE } from "../platform/errno.ts";
import type { IoContext } from "./io_context.ts";
import { type TcpSink, TcpStream } from "./tcp_stream.ts";

export type TcpRelayEnd =
  | { readonly kind: "complete" }
  | { readonly kind: "reset"; readonly side: "client" | "server"; readonly detail: string };

export interface TcpRelayOwner {
  /** Both directions are over and both sockets are closed. Called once. */
  tcpRelayEnded(end: TcpRelayEnd): void;
}

class Side implements TcpSink {
  readonly tcp: TcpStream;
  other!: Side;
  /** Bytes read from this side. */
  bytes = 0;
  constructor(readonly relay: TcpRelay, readonly name: "client" | "server", io: IoContext, fd: number) {
    this.tcp = new TcpStream(io.reactor, io.pool, fd, this);
  }

  readable(): void {
    const buffer = this.relay.io.readBuffer;
    const n = this.tcp.read(buffer, 0, buffer.length);
    if (n > 0) {
      this.bytes += n;
      const taken = this.other.tcp.write(buffer, 0, n);
      if (taken < 0) this.other.broken(-taken);
      else if (taken < n) this.tcp.pauseRead();
    } else if (n === 0) {
      this.other.tcp.endWrite();
      this.relay.checkDone();
    } else if (n !== -EAGAIN) {
      this.broken(-n);
    }
  }

  drained(): void {
    if (this.tcp.queued === 0) {
      this.other.tcp.resumeRead();
      this.relay.checkDone();
    }
  }

  broken(code: number): void {
    const detail = code === ECONNRESET || code === EPIPE ? "" : `${this.name} socket failed with error ${code}`;
    this.relay.end({ kind: "reset", side: this.name, detail });
  }
}

export class TcpRelay {
  readonly io: IoContext;
  readonly #owner: TcpRelayOwner;
  readonly #client: Side;
  readonly #server: Side;
  #ended = false;

  /** Takes over both descriptors; copying begins in the next turn. */
  constructor(io: IoContext, clientFd: number, serverFd: number, owner: TcpRelayOwner) {
    this.io = io;
    this.#owner = owner;
    this.#client = new Side(this, "client", io, clientFd);
    this.#server = new Side(this, "server", io, serverFd);
    this.#client.other = this.#server;
    this.#server.other = this.#client;
    this.#client.tcp.resumeRead();
    this.#server.tcp.resumeRead();
  }

  fromClient(): number {
    return this.#client.bytes;
  }

  fromServer(): number {
    return this.#server.bytes;
  }

  /** Cuts both sides. */
  cut(detail: string): void {
    this.end({ kind: "reset", side: "server", detail });
  }

  checkDone(): void {
    const client = this.#client.tcp;
    const server = this.#server.tcp;
    if (client.readEnded && server.readEnded && client.writeFlushed && server.writeFlushed) {
      this.end({ kind: "complete" });
    }
  }

  end(end: TcpRelayEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const side of [this.#client, this.#server]) {
      if (end.kind === "complete") side.tcp.close();
      else side.tcp.abort();
    }
    this.#owner.tcpRelayEnded(end);
  }
}
