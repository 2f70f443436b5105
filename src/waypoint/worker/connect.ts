/**
 * One CONNECT request: who asks, for what, and which chain serves it (waypoint.md appendices B and C).
 *
 * Nobody serves it: 404. The port, or the chain, holds something that is not supported: 503. What is no CONNECT: 400. Envoy answers 200 in most of these
 * cases and then cuts the stream, because it asks itself only afterwards; a status tells a person more, and a client no less.
 */
import type { HboneConnection, TunnelStream } from "../../hbone/connection.ts";
import type { ServerTunnel } from "../../hbone/server.ts";
import { type Authority, parseAuthority } from "../../mesh/socket_address.ts";
import { ErrorCode, type Fields } from "../../protocol/http2/mod.ts";
import { MAX_CLIENT_HELLO, readClientHello } from "../../protocol/tls_client_hello.ts";
import type { ConnectionInfo } from "../engine/connection_info.ts";
import type { Selection } from "../engine/selection.ts";
import { sniff } from "../engine/sniffer.ts";
import type { ChainChoice, SniffedProtocol, TerminateSpec } from "../spec/mod.ts";
import type { ByteStream } from "../transport/byte_stream.ts";
import type { Chain, Chains } from "./chains.ts";
import type { WorkerHooks } from "./hooks.ts";
import { HttpSession, type HttpSessionContext } from "./http_session.ts";
import type { Peers } from "./peers.ts";
import { FirstBytes, type FirstBytesOwner, type Replay } from "./first_bytes.ts";
import { TcpSession } from "./tcp_session.ts";

export interface ConnectContext extends HttpSessionContext {
  readonly chains: Chains;
  readonly peers: Peers;
  readonly hooks: WorkerHooks;
  readonly localPrincipal: string;
  /** Nobody is led to the waypoint through itself. */
  readonly ownAddresses: ReadonlySet<string>;
  readonly selection: () => Selection | undefined;
  readonly terminate: () => TerminateSpec | undefined;
  /** Takes over an accepted stream. */
  readonly openStream: (connection: HboneConnection, stream: TunnelStream, ended: boolean) => ByteStream;
}

type Known = { readonly protocol: SniffedProtocol; readonly replay: Replay };

let nextId = 1;

export function serveConnect(
  context: ConnectContext,
  tunnel: ServerTunnel,
  stream: TunnelStream,
  fields: Fields,
  ended: boolean,
): void {
  const authorityText = field(fields, ":authority") ?? "";
  const refuse = (status: number, reason: string, flags = "") => {
    context.hooks.connectRefused({
      authority: authorityText,
      source: tunnel.peer,
      peerPrincipal: tunnel.identity,
      status,
      reason,
      flags,
      startedAtWallMs: context.services.wallMs(),
    }, context.terminate());
    answer(tunnel.connection, stream, status);
  };
  if (field(fields, ":method") !== "CONNECT" || field(fields, ":protocol") !== undefined) {
    return refuse(400, "only CONNECT is served here");
  }
  const refusal = context.terminate()?.refusal;
  if (refusal !== undefined) return refuse(503, refusal);
  const authority = parseAuthority(authorityText);
  if (authority.kind === "invalid") return refuse(400, authority.message);
  const choice = choose(context, authority, authorityText);
  if (choice === undefined) {
    return refuse(404, "no service of this waypoint is at that address and port", "NR");
  }
  let only: Chain | undefined;
  if (choice.kind === "chain") {
    only = context.chains.get(choice.chain);
    // Its configuration is on its way.
    if (only === undefined) return refuse(503, `the chain ${choice.chain} is not in force yet`);
    if (only.current.kind === "refused" && !only.current.http) return refuse(503, only.current.reason);
  }
  const info = describe(context, tunnel, authority, authorityText);
  tunnel.connection.h2.respond(stream, [":status", "200"], false);
  const bytes = context.openStream(tunnel.connection, stream, ended);
  tunnel.connection.touch();
  if (only !== undefined) serve(context, only, bytes, info, undefined);
  else if (choice.kind === "sniff") new Guess(context, bytes, info, choice);
}

function choose(context: ConnectContext, authority: Authority, text: string): ChainChoice | undefined {
  if (authority.kind === "invalid") return undefined;
  const ip = authority.kind === "address" ? authority.ip : "";
  if (context.ownAddresses.has(ip)) return undefined;
  return context.selection()?.find(text, ip, authority.port);
}

function describe(
  { localPrincipal, peers, services }: ConnectContext,
  { peer, identity }: ServerTunnel,
  authority: Exclude<Authority, { kind: "invalid" }>,
  text: string,
): ConnectionInfo {
  return {
    authority: text,
    destination: { ip: authority.kind === "address" ? authority.ip : authority.hostname, port: authority.port },
    source: peer,
    peerPrincipal: identity,
    localPrincipal,
    downstreamPeer: peers.find(peer.ip),
    sni: "",
    startedAtMs: services.timing.nowMs,
    id: nextId++,
  };
}

/** Which of the chains of a port, by what is spoken. */
class Guess implements FirstBytesOwner<SniffedProtocol> {
  readonly #context: ConnectContext;
  readonly #stream: ByteStream;
  readonly #info: ConnectionInfo;
  readonly #choice: Extract<ChainChoice, { readonly kind: "sniff" }>;

  constructor(
    context: ConnectContext,
    stream: ByteStream,
    info: ConnectionInfo,
    choice: Extract<ChainChoice, { readonly kind: "sniff" }>,
  ) {
    this.#context = context;
    this.#stream = stream;
    this.#info = info;
    this.#choice = choice;
    new FirstBytes(stream, context.services.timing, this);
  }

  look(bytes: Uint8Array, last: boolean): SniffedProtocol | undefined {
    return sniff(bytes) ?? (last ? "other" : undefined);
  }

  /** A client that says nothing waits for its server: that is no HTTP. */
  found(protocol: SniffedProtocol = "other", replay: Replay): void {
    const { chains } = this.#context;
    const name = this.#choice.protocols[protocol];
    const chain = name === undefined ? undefined : chains.get(name);
    if (chain === undefined) return this.#stream.reset();
    serve(this.#context, chain, this.#stream, this.#info, { protocol, replay });
  }

  lost(): void {}
}

/** The server name that a TLS client asks for, where a chain's policy or its cluster needs it. */
class ServerName implements FirstBytesOwner<string> {
  readonly #context: ConnectContext;
  readonly #chain: Chain;
  readonly #stream: ByteStream;
  readonly #info: ConnectionInfo;

  constructor(context: ConnectContext, chain: Chain, stream: ByteStream, info: ConnectionInfo, replay?: Replay) {
    this.#context = context;
    this.#chain = chain;
    this.#stream = stream;
    this.#info = info;
    const first = new FirstBytes(stream, context.services.timing, this);
    replay?.(first);
  }

  look(bytes: Uint8Array): string | undefined {
    const hello = readClientHello(bytes);
    if (hello.kind === "more") return bytes.length > MAX_CLIENT_HELLO ? "" : undefined;
    return hello.kind === "hello" ? hello.sni : "";
  }

  found(sni = "", replay: Replay): void {
    const { current } = this.#chain;
    if (current.kind !== "tcp") return this.#stream.reset();
    new TcpSession(this.#chain, current, this.#stream, { ...this.#info, sni }, this.#context, replay);
  }

  lost(): void {}
}

function serve(
  context: ConnectContext,
  chain: Chain,
  stream: ByteStream,
  info: ConnectionInfo,
  known: Known | undefined,
): void {
  const { current } = chain;
  switch (current.kind) {
    case "http":
      new HttpSession(chain, stream, info, context, known);
      return;
    case "tcp":
      if (current.needsServerName) new ServerName(context, chain, stream, info, known?.replay);
      else new TcpSession(chain, current, stream, info, context, known?.replay);
      return;
    case "refused":
      if (current.http) new HttpSession(chain, stream, info, context, known);
      else stream.reset();
  }
}

/** Ends the stream with a status; the rest of the request is not wanted. */
function answer(connection: HboneConnection, stream: TunnelStream, status: number): void {
  connection.h2.respond(stream, [":status", String(status)], true);
  connection.h2.resetStream(stream, ErrorCode.NO_ERROR);
  connection.touch();
}

function field(fields: Fields, name: string): string | undefined {
  for (let i = 0; i < fields.length; i += 2) if (fields[i] === name) return fields[i + 1];
  return undefined;
}
