/** One connection of a client to an HTTP chain: HTTP/1.1 or HTTP/2, as its first bytes say, and a Request for each request. */
import type { BufferPool } from "../../net/buffer_pool.ts";
import { Timer, type TimerTarget } from "../../net/reactor.ts";
import type { Http1Fault } from "../../protocol/http1/mod.ts";
import type { ConnectionInfo } from "../engine/connection_info.ts";
import { Request } from "../engine/request.ts";
import { sniff } from "../engine/sniffer.ts";
import type { EngineServices } from "../engine/services.ts";
import type { BodyReceiver, ServerExchange } from "../http/exchange.ts";
import { Http1Server, type HttpServerOwner } from "../http/http1_server.ts";
import { Http2Server } from "../http/http2_server.ts";
import type { HttpOptionsSpec, SniffedProtocol } from "../spec/mod.ts";
import type { ByteStream } from "../transport/byte_stream.ts";
import type { Chain, ChainSession } from "./chains.ts";
import { FirstBytes, type FirstBytesOwner, type Replay } from "./first_bytes.ts";

export interface HttpSessionContext {
  readonly services: EngineServices;
  readonly pool: BufferPool;
  /** A message that was no request. */
  readonly refused: (info: ConnectionInfo, chain: Chain, fault: Http1Fault) => void;
}

/** What a connection of a refused chain is spoken with. */
const PLAIN = {
  serverName: "istio-envoy",
  acceptHttp10: false,
  preserveHeaderCase: false,
  maxRequestHeadersKb: 60,
  maxHeaders: 100,
  upgrades: [],
  idleTimeoutMs: 3_600_000,
  requestHeadersTimeoutMs: 0,
  maxConnectionMs: 0,
} as const satisfies Partial<HttpOptionsSpec>;
const MAX_STREAMS = 100;

type Server = Http1Server | Http2Server;

export class HttpSession implements ChainSession, HttpServerOwner, FirstBytesOwner<SniffedProtocol>, TimerTarget {
  readonly #chain: Chain;
  readonly #stream: ByteStream;
  readonly #info: ConnectionInfo;
  readonly #context: HttpSessionContext;
  readonly #timer = new Timer(this);
  #codec: string;
  #first: FirstBytes<SniffedProtocol> | undefined;
  #server: Server | undefined;
  #draining = false;
  #over = false;

  /** `known`: what the connection speaks, with what came of it; otherwise it is found out. */
  constructor(
    chain: Chain,
    stream: ByteStream,
    info: ConnectionInfo,
    context: HttpSessionContext,
    known?: { readonly protocol: SniffedProtocol; readonly replay: Replay },
  ) {
    this.#chain = chain;
    this.#stream = stream;
    this.#info = info;
    this.#context = context;
    this.#codec = codecOf(chain);
    this.#draining = chain.draining;
    chain.sessions.add(this);
    const { maxConnectionMs } = this.#options;
    if (maxConnectionMs > 0) context.services.timing.setTimer(this.#timer, maxConnectionMs);
    if (known !== undefined) this.found(known.protocol, known.replay);
    else this.#first = new FirstBytes(stream, context.services.timing, this);
  }

  // ---- what it speaks

  look(bytes: Uint8Array, last: boolean): SniffedProtocol | undefined {
    return sniff(bytes) ?? (last ? "other" : undefined);
  }

  /** What is no HTTP/2 is for HTTP/1.1 to refuse. */
  found(protocol: SniffedProtocol | undefined, replay: Replay): void {
    this.#first = undefined;
    if (this.#over) return;
    const server = protocol === "h2c" ? this.#http2() : this.#http1();
    this.#server = server;
    replay(server instanceof Http2Server ? server.sink : server);
    if (this.#draining && !this.#over) server.drain();
  }

  lost(): void {
    this.#end();
  }

  get #options(): Pick<HttpOptionsSpec, keyof typeof PLAIN> {
    const { current } = this.#chain;
    return current.kind === "http" ? current.http.spec.options : PLAIN;
  }

  #http1(): Http1Server {
    const options = this.#options;
    return new Http1Server(
      this.#stream,
      {
        limits: {
          maxHeadBytes: options.maxRequestHeadersKb * 1024,
          maxFields: options.maxHeaders,
          acceptHttp10: options.acceptHttp10,
          keepSpelling: options.preserveHeaderCase,
        },
        serverName: options.serverName,
        idleTimeoutMs: options.idleTimeoutMs,
        headersTimeoutMs: options.requestHeadersTimeoutMs,
        upgrades: new Set(options.upgrades),
      },
      this.#context.services.timing,
      this,
    );
  }

  #http2(): Http2Server {
    const options = this.#options;
    return new Http2Server(
      this.#stream,
      {
        maxHeaderListBytes: options.maxRequestHeadersKb * 1024,
        maxConcurrentStreams: MAX_STREAMS,
        pingIntervalMs: 0,
        pingTimeoutMs: 0,
        upgrades: new Set(options.upgrades),
      },
      this.#context.pool,
      this.#context.services.timing,
      this,
    );
  }

  // ---- requests

  request(exchange: ServerExchange): void {
    const { current } = this.#chain;
    if (current.kind === "http") {
      new Request(this.#context.services, current.http, this.#info, exchange).start();
    } else refuse(exchange);
  }

  refused(fault: Http1Fault): void {
    this.#context.refused(this.#info, this.#chain, fault);
  }

  closed(): void {
    this.#end();
  }

  // ---- its chain

  chainChanged(): void {
    if (this.#codec === codecOf(this.#chain)) return;
    this.#codec = codecOf(this.#chain);
    this.drain();
  }

  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#server?.drain();
  }

  close(reason: string): void {
    this.#first?.cancel();
    if (this.#server !== undefined) this.#server.close(reason);
    else if (!this.#stream.closed) this.#stream.reset();
    this.#end();
  }

  /** max_connection_duration. */
  expired(): void {
    this.drain();
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#context.services.timing.cancelTimer(this.#timer);
    this.#chain.sessions.delete(this);
  }
}

function codecOf({ current }: Chain): string {
  return current.kind === "http" ? current.codec : current.kind;
}

/** 503 to a request of a chain that holds something which is not supported. Its body is thrown away. */
function refuse(exchange: ServerExchange): void {
  const receiver: BodyReceiver = {
    data: (_, start, end) => exchange.consume(end - start),
    trailers: () => {},
    writable: () => {},
    reset: () => {},
  };
  exchange.setReceiver(receiver);
  exchange.respond({ status: 503, headers: ["content-length", "0"] }, true);
}
