/**
 * One CONNECT request: who asks, for what, and which chain serves it (waypoint.md appendices B and C).
 *
 * Nobody serves it: 404, after a moment in which the configuration may come (early.ts). The port, or the chain, holds something that is not supported: 503. What is no CONNECT: 400. Envoy answers 200 in most of these
 * cases and then cuts the stream, because it asks itself only afterwards; a status tells a person more, and a client no less.
 */
import type { HboneConnection, TunnelStream } from "../../hbone/connection.ts";
import type { ServerTunnel } from "../../hbone/server.ts";
import { type Authority, parseAuthority } from "../../mesh/socket_address.ts";
import { ErrorCode, type Fields } from "../../protocol/http2/mod.ts";
import { MAX_CLIENT_HELLO, readClientHello } from "../../protocol/tls_client_hello.ts";
import type { ConnectionInfo } from "../engine/connection_info.ts";
import { sniff } from "../engine/sniffer.ts";
import type { ChainChoice, SniffedProtocol, TerminateSpec } from "../spec/mod.ts";
import type { ByteStream } from "../transport/byte_stream.ts";
import type { Chain, Chains } from "./chains.ts";
import type { Directory } from "./directory.ts";
import type { EarlyComer, EarlyComers } from "./early.ts";
import type { WorkerHooks } from "./hooks.ts";
import { HttpSession, type HttpSessionContext } from "./http_session.ts";
import type { Peers } from "./peers.ts";
import { FirstBytes, type FirstBytesOwner, type Replay } from "./first_bytes.ts";
import { TcpSession } from "./tcp_session.ts";

export interface ConnectContext extends HttpSessionContext {
  readonly chains: Chains;
  readonly early: EarlyComers;
  readonly peers: Peers;
  readonly hooks: WorkerHooks;
  readonly localPrincipal: string;
  /** Nobody is led to the waypoint through itself. */
  readonly ownAddresses: ReadonlySet<string>;
  readonly directory: Directory;
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
  const place = find(context, authority, authorityText);
  if (place.kind === "nobody" && (place.forGood || context.early.isFull)) {
    return refuse(place.status, place.reason, place.flags);
  }
  const info = describe(context, tunnel, authority, authorityText);
  const bytes = context.openStream(tunnel.connection, stream, ended);
  const accept = (place: Exclude<Place, Nobody>) => {
    tunnel.connection.h2.respond(stream, [":status", "200"], false);
    tunnel.connection.touch();
    if (place.kind === "chain") serve(context, place.chain, bytes, info, undefined);
    else new Guess(context, bytes, info, place);
  };
  if (place.kind !== "nobody") return accept(place);
  context.early.add(
    new EarlyConnect(bytes, () => find(context, authority, authorityText), accept, ({ status, reason, flags }) => {
      refuse(status, reason, flags);
      bytes.reset();
    }),
  );
}

type Nobody = {
  readonly kind: "nobody";
  readonly status: number;
  readonly reason: string;
  readonly flags?: string;
  /** A configuration that is on its way changes nothing. */
  readonly forGood: boolean;
};
type Place = { readonly kind: "chain"; readonly chain: Chain } | Sniffed | Nobody;
type Sniffed = Extract<ChainChoice, { readonly kind: "sniff" }>;

function find(context: ConnectContext, authority: Exclude<Authority, { kind: "invalid" }>, text: string): Place {
  const ip = authority.kind === "address" ? authority.ip : "";
  const own = context.ownAddresses.has(ip);
  const choice = own ? undefined : context.directory.find(text, ip, authority.port);
  if (choice === undefined) {
    const reason = "no service of this waypoint is at that address and port";
    return { kind: "nobody", status: 404, reason, flags: "NR", forGood: own };
  }
  if (choice.kind === "sniff") return choice;
  const chain = context.chains.get(choice.chain);
  if (chain === undefined) {
    const reason = `the chain ${choice.chain} is not in force yet`;
    return { kind: "nobody", status: 503, reason, forGood: false };
  }
  const { current } = chain;
  if (current.kind === "refused" && !current.http) {
    return { kind: "nobody", status: 503, reason: current.reason, forGood: true };
  }
  return { kind: "chain", chain };
}

/** One that waits to be served, and has not been answered. */
class EarlyConnect implements EarlyComer {
  constructor(
    readonly bytes: ByteStream,
    readonly find: () => Place,
    readonly accept: (place: Exclude<Place, Nobody>) => void,
    readonly refuse: (nobody: Nobody) => void,
  ) {}

  attempt(): boolean {
    // Its client did not want to wait.
    if (this.bytes.closed) return true;
    const place = this.find();
    if (place.kind === "nobody" && !place.forGood) return false;
    if (place.kind === "nobody") this.refuse(place);
    else this.accept(place);
    return true;
  }

  giveUp(): void {
    if (this.bytes.closed) return;
    const place = this.find();
    if (place.kind === "nobody") this.refuse(place);
    else this.accept(place);
  }
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
  readonly #choice: Sniffed;

  constructor(
    context: ConnectContext,
    stream: ByteStream,
    info: ConnectionInfo,
    choice: Sniffed,
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
