/** A ztunnel's part: CONNECT through real tunnels, with bytes as the test has them, under this thread's event loop. */
import { HbonePool } from "../../../src/hbone/pool.ts";
import type { HboneConnection, TunnelStream, TunnelUser } from "../../../src/hbone/connection.ts";
import { createHboneSettings } from "../../../src/hbone/settings.ts";
import { createIoContext } from "../../../src/net/io_context.ts";
import { Reactor } from "../../../src/net/reactor.ts";
import { createTcpSocket } from "../../../src/platform/socket.ts";
import { TlsContext, type TlsMaterial } from "../../../src/platform/tls_context.ts";
import type { Fields } from "../../../src/protocol/http2/mod.ts";

const TURN_MS = 2;

/** One CONNECT and what came of it. */
export class Tunnelled implements TunnelUser {
  status = "";
  received = "";
  ended = false;
  resetCode = -1;
  failure = "";
  #connection: HboneConnection | undefined;
  #stream: TunnelStream | undefined;

  opened(connection: HboneConnection, stream: TunnelStream | undefined): void {
    this.#connection = connection;
    this.#stream = stream;
    connection.touch();
  }

  send(text: string, end = false): void {
    this.sendBytes(new TextEncoder().encode(text), end);
  }

  sendBytes(bytes: Uint8Array, end = false): void {
    this.#connection?.h2.sendData(this.#stream!, bytes, 0, bytes.length, end);
    this.#connection?.touch();
  }

  end(): void {
    this.#connection?.h2.endStream(this.#stream!);
    this.#connection?.touch();
  }

  /** The tunnel was told to go. */
  get goingAway(): boolean {
    return this.#connection?.h2.draining === true;
  }

  headers(_stream: TunnelStream, fields: Fields, endStream: boolean): void {
    this.status = fields[1];
    this.ended ||= endStream;
  }

  data(stream: TunnelStream, bytes: Uint8Array, start: number, end: number, endStream: boolean): void {
    this.received += new TextDecoder().decode(bytes.subarray(start, end));
    stream.consume(end - start);
    this.#connection?.touch();
    this.ended ||= endStream;
  }

  writable(): void {}

  reset(_stream: TunnelStream, code: number): void {
    this.resetCode = code;
  }

  closed(): void {
    this.ended = true;
  }

  get over(): boolean {
    return this.ended || this.resetCode !== -1 || this.failure !== "";
  }
}

export class HboneClient {
  readonly #reactor = new Reactor(() => performance.now(), () => {});
  readonly #pool: HbonePool;
  readonly #context: TlsContext;
  readonly #port: number;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(material: TlsMaterial, port: number) {
    this.#context = new TlsContext("client", material);
    this.#port = port;
    this.#pool = new HbonePool(createIoContext(this.#reactor), {
      settings: createHboneSettings("client"),
      maxStreamsPerConnection: 100,
      unusedReleaseMs: 60_000,
      connectTimeoutMs: 2_000,
    });
    this.#timer = setInterval(() => this.#reactor.turn(0), TURN_MS);
  }

  connect(authority: string, key = "k"): Tunnelled {
    const tunnelled = new Tunnelled();
    const plan = {
      ip: "127.0.0.1",
      port: this.#port,
      context: this.#context,
      createSocket: (family: number) => createTcpSocket(family),
      admit: () => undefined,
    };
    this.#pool.acquire(key, plan, {
      tunnelReady(connection) {
        const fields = [":method", "CONNECT", ":authority", authority];
        tunnelled.opened(connection, connection.h2.openStream(fields, false, tunnelled));
      },
      tunnelFailed(failure) {
        tunnelled.failure = "message" in failure ? failure.message : JSON.stringify(failure);
      },
    });
    return tunnelled;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#pool.close("test over");
    this.#context.close();
    this.#reactor.dispose();
  }
}

export async function until(condition: () => boolean, what: string, deadlineMs = 30_000): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
