/** Byte streams of every kind over the loopback, in one reactor, and sinks that write down what happens. */
import { Buffer } from "node:buffer";
import type { HboneConnection, TunnelStream } from "../../../src/hbone/connection.ts";
import { TlsClientContext } from "../../../src/platform/tls_client_context.ts";
import { TlsContext } from "../../../src/platform/tls_context.ts";
import type { SessionContext } from "../../../src/platform/tls_session.ts";
import type { ByteSink, ByteStream, StreamCut } from "../../../src/waypoint/transport/byte_stream.ts";
import type { OwnedStream } from "../../../src/waypoint/transport/owned_stream.ts";
import { SocketStream } from "../../../src/waypoint/transport/socket_stream.ts";
import { TlsStream } from "../../../src/waypoint/transport/tls_stream.ts";
import { TunnelByteStream } from "../../../src/waypoint/transport/tunnel_stream.ts";
import { Bench, type Material } from "../../hbone/support.ts";
import type { Loop } from "../../net/support.ts";
import { tcpPair } from "../../platform/support.ts";

/** Takes everything, and gives credit back at once unless it is told not to. */
export class LogSink implements ByteSink {
  readonly parts: Uint8Array[] = [];
  bytes = 0;
  ended = false;
  ends = 0;
  writables = 0;
  cut: StreamCut | undefined;
  over = 0;
  consumes = true;
  owed = 0;
  /** No call may come from within a call of ours. */
  isBusy = false;

  constructor(readonly stream: OwnedStream) {
    stream.setSink(this);
    stream.whenOver = () => void this.over++;
  }

  #check(): void {
    if (this.isBusy) throw new Error("called from within a call of the stream");
    if (this.cut !== undefined) throw new Error("called after it was cut");
  }

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    this.#check();
    if (this.ended) throw new Error("data after the end");
    this.parts.push(Uint8Array.prototype.slice.call(bytes, start, end));
    this.bytes += end - start;
    if (ended) {
      this.ended = true;
      this.ends++;
    }
    if (this.consumes) this.stream.consume(end - start);
    else this.owed += end - start;
  }

  writable(): void {
    this.#check();
    this.writables++;
  }

  broken(cause: StreamCut): void {
    this.#check();
    this.cut = cause;
  }

  /** Gives back what is owed, and from now on at once. */
  release(): void {
    this.consumes = true;
    const owed = this.owed;
    this.owed = 0;
    this.call(() => this.stream.consume(owed));
  }

  call(work: () => void): void {
    this.isBusy = true;
    try {
      work();
    } finally {
      this.isBusy = false;
    }
  }

  write(bytes: Uint8Array | string): void {
    const all = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
    this.call(() => this.stream.write(all, 0, all.length));
  }

  end(): void {
    this.call(() => this.stream.end());
  }

  get text(): string {
    return Buffer.concat(this.parts).toString("latin1");
  }
}

/** Two ends of one connection. */
export interface Ends {
  readonly loop: Loop;
  readonly near: LogSink;
  readonly far: LogSink;
  close(): void;
}

export function tunnelEnds(material: Material): Ends & { readonly bench: Bench; readonly client: TunnelEnd } {
  const bench = new Bench(material);
  const { io } = bench.loop;
  let far: TunnelByteStream | undefined;
  bench.server.respond = (tunnel, stream) => {
    tunnel.connection.h2.respond(stream, [":status", "200"], false);
    tunnel.connection.touch();
    far = new TunnelByteStream(bench.loop.reactor, io.pool, tunnel.connection, stream);
  };
  const client = bench.acquire();
  bench.loop.until(() => client.answered, "the tunnel");
  const connection = client.connection as HboneConnection;
  const stream = client.stream as TunnelStream;
  const near = new TunnelByteStream(bench.loop.reactor, io.pool, connection, stream);
  return {
    bench,
    client: { connection, stream },
    loop: bench.loop,
    near: new LogSink(near),
    far: new LogSink(far as TunnelByteStream),
    close: () => bench.close(),
  };
}

/** TLS over another pair, both ends of it: a session is a server's when its context is. */
export function tlsEnds(material: Material, below: Ends): Ends {
  const contexts = [
    new TlsClientContext({
      roots: material.client.roots,
      identity: material.client,
      alpn: ["h2"],
      minVersion: "1.3",
      maxVersion: "1.3",
    }),
    new TlsContext("server", material.server),
  ] as const;
  const { loop } = below;
  const sinks: LogSink[] = [];
  const open = (stream: OwnedStream, context: SessionContext, at: number): TlsStream =>
    new TlsStream(loop.reactor, loop.io.pool, stream, { context, serverName: "", judge: () => undefined }, {
      tlsReady: (stream) => void (sinks[at] = new LogSink(stream)),
      tlsFailed: (detail) => {
        throw new Error(detail);
      },
    });
  open(below.near.stream, contexts[0], 0);
  open(below.far.stream, contexts[1], 1);
  loop.until(() => sinks[0] !== undefined && sinks[1] !== undefined, "both handshakes");
  return {
    loop,
    near: sinks[0],
    far: sinks[1],
    close: () => {
      below.close();
      for (const context of contexts) context.close();
    },
  };
}

export interface TunnelEnd {
  readonly connection: HboneConnection;
  readonly stream: TunnelStream;
}

export function socketEnds(loop: Loop): Ends {
  const [near, far] = tcpPair();
  const [nearStream, farStream] = [new SocketStream(loop.io, near), new SocketStream(loop.io, far)];
  return {
    loop,
    near: new LogSink(nearStream),
    far: new LogSink(farStream),
    close: () => {
      for (const stream of [nearStream, farStream] as ByteStream[]) if (!stream.closed) stream.reset();
    },
  };
}
