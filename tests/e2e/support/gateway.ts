/**
 * A network gateway for tests: ends the outer tunnel with its own certificate, and forwards the stream's bytes to port 15008 of whatever
 * stands behind the name that was asked for, as Envoy and ztunnel gateways do. It sees nothing of what is inside.
 */
import type { TunnelStream } from "../../../src/hbone/connection.ts";
import { HboneServer, type ServerTunnel } from "../../../src/hbone/server.ts";
import { createHboneSettings } from "../../../src/hbone/settings.ts";
import { TunnelRelay } from "../../../src/hbone/tunnel_relay.ts";
import { closeDescriptor, localAddress, setNoDelay } from "../../../src/platform/socket.ts";
import { TlsContext, type TlsMaterial } from "../../../src/platform/tls_context.ts";
import { ErrorCode, type Fields } from "../../../src/protocol/http2/mod.ts";
import type { Lab, Server } from "./lab.ts";

const HBONE_PORT = 15008;

export interface GatewayOptions {
  readonly lab: Lab;
  /** Where the gateway listens and connects from. */
  readonly namespaceFd: number;
  readonly port?: number;
  readonly material: TlsMaterial;
  /** The address behind a name; undefined: the gateway does not know it and answers 404. */
  readonly route: (authority: string) => string | undefined;
}

/** One outer stream. */
export interface Forwarded {
  readonly identity: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly tunnel: ServerTunnel;
  readonly stream: TunnelStream;
  /** Cuts it off. */
  cut(): void;
}

export class TestGateway implements Server {
  readonly forwarded: Forwarded[] = [];
  readonly #options: GatewayOptions;
  readonly #context: TlsContext;
  readonly #server: HboneServer;
  readonly #listener: Server;

  constructor(options: GatewayOptions) {
    this.#options = options;
    this.#context = new TlsContext("server", options.material);
    this.#server = new HboneServer(options.lab.io, createHboneSettings("server"), {
      admit: (uris) => ({ identity: uris[0] ?? "" }),
      request: (tunnel, stream, fields) => void this.#forward(tunnel, stream, fields),
      handshakeFailed() {},
    });
    this.#listener = options.lab.listenRaw(options.namespaceFd, options.port ?? HBONE_PORT, (fd, peer) => {
      this.#server.accept(fd, peer, localAddress(fd)!, this.#context);
    });
  }

  /** Outer connections that are open. */
  get tunnels(): number {
    return this.#server.tunnels.size;
  }

  close(): void {
    this.#listener.close();
    this.#server.close("closed by the test");
    this.#context.close();
  }

  async #forward(tunnel: ServerTunnel, stream: TunnelStream, fields: Fields): Promise<void> {
    const { lab, namespaceFd, route } = this.#options;
    const { connection } = tunnel;
    let gone = false;
    stream.user = {
      headers() {},
      data() {},
      writable() {},
      reset: () => gone = true,
      closed: () => gone = true,
    };
    const answer = (status: string, last: boolean) => {
      connection.h2.respond(stream, [":status", status], last);
      connection.touch();
    };
    const record: Record<string, string> = {};
    for (let i = 0; i < fields.length; i += 2) record[fields[i]!] = fields[i + 1]!;
    let cut = () => {};
    this.forwarded.push({ identity: tunnel.identity, fields: record, tunnel, stream, cut: () => cut() });
    const ip = route(record[":authority"] ?? "");
    if (ip === undefined) return answer("404", true);
    let fd: number;
    try {
      fd = await lab.connectRaw(namespaceFd, ip, HBONE_PORT);
    } catch {
      if (!gone) answer("503", true);
      return;
    }
    if (gone) return void closeDescriptor(fd);
    setNoDelay(fd);
    answer("200", false);
    const relay = new TunnelRelay(lab.io, fd, connection, stream, { relayEnded() {} });
    cut = () => {
      relay.cut("cut by the test");
      connection.h2.resetStream(stream, ErrorCode.CANCEL);
      connection.touch();
    };
  }
}
