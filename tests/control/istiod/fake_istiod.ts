/**
 * A gRPC server over real TLS in the test's own process, with istiod's two services. The test holds the server's end of each xDS stream
 * and answers certificate requests by a function.
 */
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import type { MessageInitShape } from "@bufbuild/protobuf";
import * as http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponseSchema,
} from "../../../src/gen/xds/delta_discovery_pb.ts";
import { type IstioCertificateRequest, IstioCertificateService } from "../../../src/gen/istio/auth/ca_pb.ts";
import type { IstiodEndpoint } from "../../../src/control/istiod/mod.ts";
import type { KeyAndChain } from "../../platform/authority.ts";

type ResponseInit = MessageInitShape<typeof DeltaDiscoveryResponseSchema>;

/** A queue that is waited on. */
export class Inbox<T> {
  readonly #items: T[] = [];
  readonly #waiting: ((item: T) => void)[] = [];

  put(item: T): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#items.push(item);
    else waiter(item);
  }

  take(): Promise<T> {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift()!);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  get size(): number {
    return this.#items.length;
  }
}

/** The server's end of one stream. */
export class ServerStream {
  readonly requests = new Inbox<DeltaDiscoveryRequest>();
  readonly headers: Headers;
  readonly #outgoing = new Inbox<ResponseInit | ConnectError | undefined>();
  /** Resolves when the client is gone, in whichever way. */
  readonly over: Promise<void>;
  #setOver!: () => void;

  constructor(headers: Headers) {
    this.headers = headers;
    this.over = new Promise((resolve) => this.#setOver = resolve);
  }

  send(response: ResponseInit): void {
    this.#outgoing.put(response);
  }

  /** Ends it in order, or with a status. */
  end(error?: ConnectError): void {
    this.#outgoing.put(error);
  }

  async *serve(incoming: AsyncIterable<DeltaDiscoveryRequest>, signal: AbortSignal): AsyncGenerator<ResponseInit> {
    signal.addEventListener("abort", () => this.end());
    void this.#read(incoming);
    for (;;) {
      const next = await this.#outgoing.take();
      if (next === undefined) return;
      if (next instanceof ConnectError) throw next;
      yield next;
    }
  }

  async #read(incoming: AsyncIterable<DeltaDiscoveryRequest>): Promise<void> {
    try {
      for await (const request of incoming) this.requests.put(request);
    } catch {
      // The client went away.
    }
    this.#setOver();
  }
}

export interface SignCall {
  readonly request: IstioCertificateRequest;
  readonly headers: Headers;
}

export interface FakeIstiodOptions {
  readonly material: KeyAndChain;
  /** Default: a port that is free. */
  readonly port?: number;
  readonly sign?: (call: SignCall) => Promise<readonly string[]> | readonly string[];
  /** TLS version the server is limited to. */
  readonly maxVersion?: "TLSv1.2" | "TLSv1.3";
  /** The key exchanges it takes. */
  readonly ecdhCurve?: string;
}

export class FakeIstiod {
  readonly streams = new Inbox<ServerStream>();
  readonly port: number;
  /** HTTP/2 connections made so far. */
  connections = 0;
  readonly #server: http2.Http2SecureServer;
  readonly #sockets: ReadonlySet<Socket>;
  readonly #sessions: ReadonlySet<http2.ServerHttp2Session>;
  readonly #streams = new Set<http2.Http2Stream>();

  private constructor(
    server: http2.Http2SecureServer,
    sockets: ReadonlySet<Socket>,
    sessions: Set<http2.ServerHttp2Session>,
  ) {
    this.#server = server;
    this.#sockets = sockets;
    this.#sessions = sessions;
    this.port = (server.address() as AddressInfo).port;
    server.on("session", (session) => {
      this.connections++;
      sessions.add(session);
      session.on("error", () => {});
      session.on("close", () => sessions.delete(session));
    });
    server.on("stream", (stream) => {
      this.#streams.add(stream);
      stream.on("error", () => {});
      stream.on("close", () => this.#streams.delete(stream));
    });
  }

  static async start(options: FakeIstiodOptions): Promise<FakeIstiod> {
    const holder: { istiod?: FakeIstiod } = {};
    const sockets = new Set<Socket>();
    const server = http2.createSecureServer(
      {
        key: options.material.privateKey,
        cert: options.material.chain.join(""),
        ...(options.maxVersion === undefined ? {} : { maxVersion: options.maxVersion }),
        ...(options.ecdhCurve === undefined ? {} : { ecdhCurve: options.ecdhCurve }),
      },
      connectNodeAdapter({
        routes: (router) => routes(router, options, (stream) => holder.istiod!.streams.put(stream)),
      }),
    );
    server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => sockets.delete(socket));
    });
    server.on("sessionError", () => {});
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(options.port ?? 0, "127.0.0.1", resolve);
    });
    holder.istiod = new FakeIstiod(server, sockets, new Set());
    return holder.istiod;
  }

  endpoint(overrides: Partial<IstiodEndpoint> & Pick<IstiodEndpoint, "root">): IstiodEndpoint {
    return {
      address: `https://localhost:${this.port}`,
      altHostname: undefined,
      headers: [],
      token: { kind: "none" },
      clusterId: "Kubernetes",
      tls12Enabled: false,
      pqc: false,
      ...overrides,
    };
  }

  /** Cuts every connection as a crash does. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Says on every connection that it takes no more calls; those under way go on. */
  goAway(): void {
    for (const session of this.#sessions) session.goaway(0);
  }

  /** Ends every call with RST_STREAM. */
  resetStreams(): void {
    for (const stream of this.#streams) stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const session of this.#sessions) session.destroy();
    this.cut();
    await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 500))]);
  }
}

function routes(router: ConnectRouter, options: FakeIstiodOptions, opened: (stream: ServerStream) => void): void {
  router.service(AggregatedDiscoveryService, {
    async *deltaAggregatedResources(requests: AsyncIterable<DeltaDiscoveryRequest>, context: HandlerContext) {
      const stream = new ServerStream(context.requestHeader);
      opened(stream);
      yield* stream.serve(requests, context.signal);
    },
  });
  router.service(IstioCertificateService, {
    async createCertificate(request: IstioCertificateRequest, context: HandlerContext) {
      if (options.sign === undefined) throw new ConnectError("no CA here", Code.Unimplemented);
      return { certChain: [...await options.sign({ request, headers: context.requestHeader })] };
    },
  });
}
