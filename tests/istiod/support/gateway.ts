/**
 * An east-west gateway: takes tunnels on its 15008, and what comes inside one it hands on unread to the 15008 of a pod, where the inner
 * tunnel ends. So the far end of a double tunnel is a real ztunnel.
 */
import { HboneServer, type ServerTunnel } from "../../../src/hbone/server.ts";
import { createHboneSettings } from "../../../src/hbone/settings.ts";
import type { HboneConnection, TunnelStream, TunnelUser } from "../../../src/hbone/connection.ts";
import { type TcpSink, TcpStream } from "../../../src/net/tcp_stream.ts";
import { EAGAIN } from "../../../src/platform/errno.ts";
import { localAddress } from "../../../src/platform/socket.ts";
import { TlsContext } from "../../../src/platform/tls_context.ts";
import { ErrorCode, type Fields } from "../../../src/protocol/http2/mod.ts";
import type { Server } from "../../e2e/support/lab.ts";
import type { LabPod } from "./pod.ts";

export interface GatewayRequest {
  readonly identity: string;
  readonly authority: string;
  readonly fields: Readonly<Record<string, string>>;
}

export interface EastWestGateway extends Server {
  /** Everything that was asked of it. */
  readonly requests: readonly GatewayRequest[];
}

/** Opens `port` of `gateway`. All that comes is for `target`, where `targetPort` speaks HBONE. */
export async function openGateway(
  gateway: LabPod,
  target: LabPod,
  port = 15008,
  targetPort = 15008,
): Promise<EastWestGateway> {
  const { mesh } = gateway;
  const context = new TlsContext("server", await mesh.issue(gateway));
  const requests: GatewayRequest[] = [];
  const server = new HboneServer(mesh.lab.io, createHboneSettings("server"), {
    admit: (uris) => ({ identity: uris[0] ?? "" }),
    request(tunnel: ServerTunnel, stream, list) {
      const fields = toRecord(list);
      requests.push({ identity: tunnel.identity, authority: fields[":authority"]!, fields });
      const splice = new Splice(tunnel.connection, stream);
      stream.user = splice;
      mesh.lab.connectRaw(gateway.namespaceFd, target.ip(), targetPort).then(
        (fd) => splice.connected(gateway, fd),
        () => splice.failed(),
      );
    },
    handshakeFailed() {},
  });
  const listener = mesh.lab.listenRaw(gateway.namespaceFd, port, (fd, peer) => {
    server.accept(fd, peer, localAddress(fd)!, context);
  });
  return {
    requests,
    close() {
      listener.close();
      server.close("closed by the test");
      context.close();
    },
  };
}

const buffer = new Uint8Array(64 * 1024);

/** Copies between a stream and a socket, without limits: what a test sends is little. */
class Splice implements TunnelUser, TcpSink {
  readonly #connection: HboneConnection;
  readonly #stream: TunnelStream;
  #tcp: TcpStream | undefined;
  #over = false;

  constructor(connection: HboneConnection, stream: TunnelStream) {
    this.#connection = connection;
    this.#stream = stream;
  }

  connected(pod: LabPod, fd: number): void {
    const { io } = pod.mesh.lab;
    this.#tcp = new TcpStream(io.reactor, io.pool, fd, this);
    if (this.#over) return this.#tcp.close();
    this.#connection.h2.respond(this.#stream, [":status", "200"], false);
    this.#connection.touch();
    this.#tcp.resumeRead();
  }

  failed(): void {
    if (this.#over) return;
    this.#connection.h2.respond(this.#stream, [":status", "503"], true);
    this.#connection.touch();
  }

  data(stream: TunnelStream, bytes: Uint8Array, start: number, end: number, endStream: boolean): void {
    stream.consume(end - start);
    this.#tcp?.write(bytes, start, end);
    if (endStream) this.#tcp?.endWrite();
  }

  readable(): void {
    const n = this.#tcp!.read(buffer, 0, buffer.length);
    if (n === -EAGAIN) return;
    if (n < 0) return this.broken();
    this.#connection.h2.sendData(this.#stream, buffer.slice(0, n), 0, n, n === 0);
    this.#connection.touch();
  }

  broken(): void {
    this.#connection.h2.resetStream(this.#stream, ErrorCode.CANCEL);
    this.#connection.touch();
    this.closed();
  }

  headers(): void {}
  drained(): void {}
  writable(): void {}

  reset(): void {
    this.closed();
  }

  closed(): void {
    this.#over = true;
    this.#tcp?.close();
  }
}

function toRecord(fields: Fields): Record<string, string> {
  const record: Record<string, string> = {};
  for (let i = 0; i < fields.length; i += 2) record[fields[i]!] = fields[i + 1]!;
  return record;
}
