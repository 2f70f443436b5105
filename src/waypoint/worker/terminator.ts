/**
 * Tunnels as they come in on port 15008 (waypoint.md 2.2, 5.1): TLS with a client certificate, HTTP/2, CONNECT. Each CONNECT names where its client
 * wants to go, and what becomes of it is decided in connect.ts.
 */
import type { SocketAddress } from "../../platform/sockaddr.ts";
import type { TlsContext } from "../../platform/tls_context.ts";
import type { HandshakeFailure, TunnelStream } from "../../hbone/connection.ts";
import type { SweptTunnel } from "../../hbone/revocation_sweep.ts";
import { HboneServer, type HboneServerOwner, type ServerTunnel } from "../../hbone/server.ts";
import { createHboneSettings, type HboneSettings } from "../../hbone/settings.ts";
import type { IoContext } from "../../net/io_context.ts";
import type { Fields } from "../../protocol/http2/mod.ts";
import type { Logger } from "../../telemetry/log.ts";
import { compileText, type TextPredicate } from "../match/text.ts";
import type { TerminateSpec } from "../spec/mod.ts";
import { admitClient } from "../transport/tunnel_names.ts";

export interface TerminatorOptions {
  readonly io: IoContext;
  readonly log: Logger;
  readonly request: (tunnel: ServerTunnel, stream: TunnelStream, fields: Fields, ended: boolean) => void;
  /** A tunnel began, or ended. */
  readonly changed: (change: 1 | -1) => void;
  /** A client was refused because its certificate is revoked. */
  readonly revoked?: () => void;
}

const TARGET = "hbone";

/** One configuration of the port: replaced as a whole, and drained, when that changes. */
export class Terminator implements HboneServerOwner {
  readonly spec: TerminateSpec;
  readonly #options: TerminatorOptions;
  readonly #server: HboneServer;
  readonly #names: readonly TextPredicate[];
  #tunnels = 0;

  /** @throws Error for a name that cannot be matched by */
  constructor(spec: TerminateSpec, options: TerminatorOptions) {
    this.spec = spec;
    this.#options = options;
    this.#names = spec.peerNames.map(compileText);
    this.#server = new HboneServer(options.io, settingsOf(spec), this);
  }

  accept(fd: number, peer: SocketAddress, local: SocketAddress, context: TlsContext): void {
    this.#server.accept(fd, peer, local, context);
    this.#count();
  }

  admit(uris: readonly string[]): { readonly identity: string } | { readonly refusal: string } {
    return admitClient(uris, this.#names);
  }

  request(tunnel: ServerTunnel, stream: TunnelStream, fields: Fields, endStream: boolean): void {
    this.#options.request(tunnel, stream, fields, endStream);
  }

  tunnelFailed({ peer }: ServerTunnel, reason: string): void {
    this.#count();
    this.#options.log.log("warn", TARGET, "a tunnel was ended because of what its client sent", {
      "src.addr": peer.ip,
      error: reason,
    });
  }

  handshakeFailed(peer: SocketAddress, failure: HandshakeFailure): void {
    this.#count();
    // One whose certificate was revoked later is told of by the sweep.
    if (failure.stage === "revoked") this.#options.revoked?.();
    this.#options.log.log("warn", TARGET, "a client was refused", {
      "src.addr": peer.ip,
      stage: failure.stage,
      error: failure.message,
    });
  }

  get tunnels(): number {
    return this.#server.tunnels.size;
  }

  /** Those that shake hands included. */
  swept(): SweptTunnel[] {
    return [...this.#server.tunnels].map(({ connection, peer, identity }) => ({
      connection,
      reporter: "destination",
      ended: (reason) =>
        this.#options.log.log("warn", TARGET, "a tunnel was ended: its client's certificate is revoked", {
          "src.addr": peer.ip,
          "src.identity": identity,
          error: reason,
        }),
    }));
  }

  /** GOAWAY to all, also to those that come from now on. */
  drain(): void {
    this.#server.drain();
  }

  close(reason: string): void {
    this.#server.close(reason);
    this.#count();
  }

  /** Tells how many tunnels there are more or less: the server does not say when one ends in order. */
  observe(): void {
    this.#count();
  }

  #count(): void {
    const { size } = this.#server.tunnels;
    for (; this.#tunnels < size; this.#tunnels++) this.#options.changed(1);
    for (; this.#tunnels > size; this.#tunnels--) this.#options.changed(-1);
  }
}

function settingsOf(spec: TerminateSpec): HboneSettings {
  const base = createHboneSettings("server");
  return {
    ...base,
    http2: {
      ...base.http2,
      maxConcurrentStreams: spec.maxConcurrentStreams,
      pingIntervalMs: spec.pingIntervalMs,
      pingTimeoutMs: spec.pingTimeoutMs,
    },
  };
}
