/**
 * Both ends of a tunnel without a ztunnel around them: a client that asks what no ztunnel would ask, and a server that is a
 * waypoint for tests. Built of the project's own TLS and HTTP/2; what is checked is the ztunnel at the other end.
 */
import { HboneConnection, type HboneOwner, type TunnelStream, type TunnelUser } from "../../../src/hbone/connection.ts";
import { HboneServer, type ServerTunnel } from "../../../src/hbone/server.ts";
import { SocketLink } from "../../../src/hbone/link.ts";
import { createHboneSettings } from "../../../src/hbone/settings.ts";
import { localAddress } from "../../../src/platform/socket.ts";
import { TlsContext, type TlsMaterial } from "../../../src/platform/tls_context.ts";
import { TlsSession } from "../../../src/platform/tls_session.ts";
import { ErrorCode, type Fields } from "../../../src/protocol/http2/mod.ts";
import type { Lab, PodSockets, Server } from "./lab.ts";
import { within } from "./wait.ts";

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** One stream, either end. */
export class RawStream implements TunnelUser {
  /** The other end's HEADERS. */
  fields: Readonly<Record<string, string>> | undefined;
  text = "";
  /** "end": END_STREAM. A number: RST_STREAM with that code. "closed": the connection went away. */
  end: "end" | "closed" | number | undefined;
  #waiting: (() => void)[] = [];
  stream!: TunnelStream;

  constructor(readonly connection: HboneConnection) {}

  get status(): string | undefined {
    return this.fields?.[":status"];
  }

  /** Waits for the other end's HEADERS, or for the end. */
  async response(timeoutMs?: number): Promise<this> {
    await this.until(() => this.fields !== undefined || this.end !== undefined, "a response", timeoutMs);
    return this;
  }

  async read(text: string): Promise<void> {
    await this.until(() => this.text.includes(text) || this.end !== undefined, `the bytes "${text}"`);
    if (!this.text.includes(text)) throw new Error(`the stream ended (${this.end}) with "${this.text}"`);
  }

  async ended(timeoutMs?: number): Promise<typeof this.end> {
    await this.until(() => this.end !== undefined, "the end of the stream", timeoutMs);
    return this.end;
  }

  send(text: string, endStream = false): void {
    const bytes = encoder.encode(text);
    this.connection.h2.sendData(this.stream, bytes, 0, bytes.length, endStream);
    this.connection.touch();
  }

  respond(fields: Fields, endStream = false): void {
    this.connection.h2.respond(this.stream, fields, endStream);
    this.connection.touch();
  }

  /** Says that nothing was done with the request. */
  refuse(): void {
    this.connection.h2.resetStream(this.stream, ErrorCode.REFUSED_STREAM);
    this.connection.touch();
  }

  cancel(): void {
    this.connection.h2.resetStream(this.stream, ErrorCode.CANCEL);
    this.connection.touch();
  }

  headers(_stream: TunnelStream, fields: Fields, endStream: boolean): void {
    this.fields = toRecord(fields);
    if (endStream) this.#finish("end");
    this.#wake();
  }

  data(stream: TunnelStream, bytes: Uint8Array, start: number, end: number, endStream: boolean): void {
    this.text += decoder.decode(bytes.subarray(start, end));
    stream.consume(end - start);
    if (endStream) this.#finish("end");
    this.#wake();
  }

  writable(): void {}

  reset(_stream: TunnelStream, code: number): void {
    this.#finish(code);
  }

  closed(): void {
    this.#finish("closed");
  }

  until(reached: () => boolean, what: string, timeoutMs = 30_000): Promise<void> {
    return within(timeoutMs, what, (resolve) => {
      const check = () => {
        if (reached()) resolve();
        else this.#waiting.push(check);
      };
      check();
    });
  }

  #finish(end: "end" | "closed" | number): void {
    this.end ??= end;
    this.#wake();
  }

  #wake(): void {
    for (const check of this.#waiting.splice(0)) check();
  }
}

/** A client connection to somebody's 15008. */
export class RawTunnel implements HboneOwner {
  /** Set when the connection is over: why. */
  over: string | undefined;
  /** The names in the server's certificate. */
  serverUris: readonly string[] = [];
  #connection!: HboneConnection;
  #open = false;
  #waiting: (() => void)[] = [];

  /** Connects from a pod. Resolves when this end's handshake is done, or the connection is over (`over`). */
  static async connect(
    from: PodSockets,
    ip: string,
    material: TlsMaterial,
    presents: "identity" | "nothing" = "identity",
  ): Promise<RawTunnel> {
    const { lab } = from.mesh;
    const fd = await lab.connectRaw(from.namespaceFd, ip, 15008);
    const context = new TlsContext("client", material, { presents });
    const tunnel = new RawTunnel();
    const session = new TlsSession(context, fd);
    context.close();
    tunnel.#connection = new HboneConnection(
      lab.io,
      new SocketLink(lab.io.reactor, fd, session),
      createHboneSettings("client"),
      tunnel,
    );
    await tunnel.#until(() => tunnel.#open || tunnel.over !== undefined, "the TLS handshake");
    return tunnel;
  }

  /** Sends a CONNECT with the authority. */
  connect(authority: string, ...more: readonly string[]): RawStream {
    return this.ask([":method", "CONNECT", ":authority", authority, ...more]);
  }

  ask(fields: Fields, endStream = false): RawStream {
    const raw = new RawStream(this.#connection);
    const stream = this.#connection.h2.openStream(fields, endStream, raw);
    if (stream === undefined) throw new Error("the connection takes no more streams");
    raw.stream = stream;
    this.#connection.touch();
    return raw;
  }

  async ended(): Promise<string> {
    await this.#until(() => this.over !== undefined, "the end of the tunnel");
    return this.over!;
  }

  /** Sends what is queued now, not at the end of the turn. */
  flush(): void {
    this.#connection.flush();
  }

  close(): void {
    this.#connection.close("closed by the test");
  }

  admit(_connection: HboneConnection, peerUris: readonly string[]): undefined {
    this.serverUris = peerUris;
    return undefined;
  }

  established(): void {
    this.#open = true;
    this.#wake();
  }

  request(): void {}

  available(): void {}

  closed(_connection: HboneConnection, reason: string): void {
    this.over = reason;
    this.#wake();
  }

  #until(reached: () => boolean, what: string): Promise<void> {
    return within(15_000, what, (resolve) => {
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

/** A CONNECT that reached a {@link listenHbone}. */
export interface RawRequest {
  readonly identity: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly stream: RawStream;
}

/** A waypoint for tests: takes tunnels on the pod's 15008 and hands on what is asked. */
export function listenHbone(
  lab: Lab,
  pod: Pick<PodSockets, "namespaceFd">,
  material: TlsMaterial,
  requested: (request: RawRequest) => void,
): Server {
  const context = new TlsContext("server", material);
  const server = new HboneServer(lab.io, createHboneSettings("server"), {
    admit: (uris) => ({ identity: uris[0] ?? "" }),
    request(tunnel: ServerTunnel, stream, fields) {
      const raw = new RawStream(tunnel.connection);
      raw.stream = stream;
      stream.user = raw;
      requested({ identity: tunnel.identity, fields: toRecord(fields), stream: raw });
    },
    handshakeFailed() {},
  });
  const listener = lab.listenRaw(pod.namespaceFd, 15008, (fd, peer) => {
    server.accept(fd, peer, localAddress(fd)!, context);
  });
  return {
    close() {
      listener.close();
      server.close("closed by the test");
      context.close();
    },
  };
}

function toRecord(fields: Fields): Record<string, string> {
  const record: Record<string, string> = {};
  for (let i = 0; i < fields.length; i += 2) record[fields[i]!] = fields[i + 1]!;
  return record;
}
