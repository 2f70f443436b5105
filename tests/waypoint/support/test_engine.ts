/** The engine with clusters that the test answers for: real sessions on both sides, on streams in memory. */
import { Buffer } from "node:buffer";
import { BufferPool } from "../../../src/net/buffer_pool.ts";
import { type CompiledHttpChain, compileHttpChain } from "../../../src/waypoint/engine/compiled_chain.ts";
import type { ConnectionInfo } from "../../../src/waypoint/engine/connection_info.ts";
import type { HttpFilter, RequestContext } from "../../../src/waypoint/engine/request_context.ts";
import { Request } from "../../../src/waypoint/engine/request.ts";
import type { EngineServices } from "../../../src/waypoint/engine/services.ts";
import type {
  ClientConnection,
  ExchangeCut,
  FieldList,
  RequestHead,
  ResponseHead,
  ResponseReceiver,
  ServerExchange,
} from "../../../src/waypoint/http/exchange.ts";
import { Http1Client } from "../../../src/waypoint/http/http1_client.ts";
import { Http1Server } from "../../../src/waypoint/http/http1_server.ts";
import { Http2Client } from "../../../src/waypoint/http/http2_client.ts";
import { Http2Server } from "../../../src/waypoint/http/http2_server.ts";
import type { ChainName, ClusterName, ClusterSpec, HttpChainSpec, RouteSpec } from "../../../src/waypoint/spec/mod.ts";
import type {
  Cluster,
  Clusters,
  PickRequest,
  UpstreamFailure,
  UpstreamHost,
} from "../../../src/waypoint/upstream/upstream.ts";
import { memoryPair, type MemoryStream, run, TestTiming } from "./memory_stream.ts";

export const LIMITS = { maxHeadBytes: 60 * 1024, maxFields: 100, acceptHttp10: true, keepSpelling: false };
const HTTP2 = { maxHeaderListBytes: 60 * 1024, maxConcurrentStreams: 100, pingIntervalMs: 0, pingTimeoutMs: 0 };
const UPGRADES = new Set(["websocket"]);
export const NO_CHANGE = { requestRemove: [], requestAdd: [], responseRemove: [], responseAdd: [] };

export const INFO: ConnectionInfo = {
  authority: "10.96.0.20:80",
  destination: { ip: "10.96.0.20", port: 80 },
  source: { ip: "10.0.1.5", port: 40000 },
  peerPrincipal: "spiffe://cluster.local/ns/a/sa/client",
  localPrincipal: "spiffe://cluster.local/ns/demo/sa/waypoint",
  downstreamPeer: undefined,
  sni: "",
  startedAtMs: 1000,
  id: 1,
};

export function route(spec: Partial<RouteSpec> & { readonly action: RouteSpec["action"] }): RouteSpec {
  return {
    name: "r",
    path: { kind: "prefix", path: "/", ignoreCase: false },
    headers: [],
    query: [],
    metadata: [],
    grpcOnly: false,
    fraction: 1_000_000,
    change: NO_CHANGE,
    operation: "",
    source: "",
    fault: undefined,
    cors: undefined,
    refusal: undefined,
    ...spec,
  };
}

export type Forwarding = Extract<RouteSpec["action"], { readonly kind: "forward" }>;

export function forwardTo(cluster: string, spec: Partial<Forwarding> = {}): Forwarding {
  return {
    kind: "forward",
    clusters: [{ cluster: cluster as ClusterName, weight: 1, change: NO_CHANGE, hostRewrite: undefined }],
    unknownClusterStatus: 503,
    prefixRewrite: undefined,
    regexRewrite: undefined,
    hostRewrite: undefined,
    autoHostRewrite: false,
    appendForwardedHost: false,
    timeoutMs: 0,
    maxGrpcTimeoutMs: 0,
    idleTimeoutMs: undefined,
    retry: undefined,
    hash: [],
    mirrors: [],
    upgrades: {},
    ...spec,
  };
}

export function chain(routes: readonly RouteSpec[], options: Partial<HttpChainSpec["options"]> = {}): HttpChainSpec {
  return {
    kind: "http",
    name: "chain" as ChainName,
    statPrefix: "inbound",
    options: {
      serverName: "istio-envoy",
      serverHeader: "overwrite",
      acceptHttp10: false,
      normalizePath: true,
      mergeSlashes: false,
      escapedSlashes: "keep",
      upgrades: ["websocket"],
      proxy100Continue: true,
      preserveHeaderCase: false,
      streamIdleMs: 0,
      requestTimeoutMs: 0,
      requestHeadersTimeoutMs: 0,
      idleTimeoutMs: 0,
      maxConnectionMs: 0,
      maxRequestHeadersKb: 60,
      maxHeaders: 100,
      requestId: { generate: true, preserveExternal: false, alwaysInResponse: false },
      forwardedClientCert: "sanitize",
      setClientCert: false,
      maxBufferedBytes: 1 << 20,
      ...options,
    },
    routes: {
      name: "routes",
      hosts: [{ name: "host", domains: ["*"], routes, headers: NO_CHANGE, attemptCountInRequest: false }],
      headers: NO_CHANGE,
      maxDirectBodyBytes: 4096,
    },
    policies: [],
    accessLogs: [],
    stats: undefined,
    tracing: undefined,
  };
}

/** What an endpoint saw, with the exchange to answer it by. */
export interface Seen {
  readonly cluster: string;
  readonly exchange: ServerExchange;
  body: string;
  ended: boolean;
  trailers: FieldList | undefined;
  cut: ExchangeCut | undefined;
}

export class Answer implements ResponseReceiver {
  head_: ResponseHead | undefined;
  interim: number[] = [];
  body = "";
  trailers_: FieldList | undefined;
  ended = false;
  cut: ExchangeCut | undefined;
  exchange: ReturnType<ClientConnection["request"]>;

  informational(status: number): void {
    this.interim.push(status);
  }
  head(head: ResponseHead, ended: boolean): void {
    this.head_ = head;
    this.ended = ended;
  }
  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    this.body += Buffer.from(bytes.subarray(start, end)).toString("latin1");
    this.exchange?.consume(end - start);
    this.ended = ended;
  }
  trailers(fields: FieldList): void {
    this.trailers_ = fields;
    this.ended = true;
  }
  writable(): void {}
  reset(cause: ExchangeCut): void {
    this.cut = cause;
  }
  get status(): number | undefined {
    return this.head_?.status;
  }
  header(name: string): string | undefined {
    const at = this.head_?.headers.indexOf(name) ?? -1;
    return at < 0 ? undefined : this.head_?.headers[at + 1];
  }
}

type Version = "1.1" | "2";

export class TestEngine {
  readonly timing = new TestTiming();
  readonly seen: Seen[] = [];
  readonly finished: RequestContext[] = [];
  readonly outcomes: string[] = [];
  readonly picks: PickRequest[] = [];
  /** Instead of a connection, by cluster, in order. */
  readonly failures: UpstreamFailure[] = [];
  retriesLeft = Infinity;
  /** Drawn in order, then 0.5. */
  chances: number[] = [];
  /** How endpoints answer at once; otherwise the test does it. */
  onRequest: ((seen: Seen) => void) | undefined;
  /** The same, when a request has come whole. */
  onWhole: ((seen: Seen) => void) | undefined;
  /** Unknown where the name begins with `missing`. */
  readonly clusters: Clusters = { get: (name) => name.startsWith("missing") ? undefined : this.#cluster(name) };
  readonly #streams: MemoryStream[] = [];
  readonly #client: ClientConnection;
  readonly #pool = new BufferPool();
  readonly #upstream: Version;

  constructor(
    spec: HttpChainSpec,
    options: { readonly downstream?: Version; readonly upstream?: Version; readonly filters?: readonly HttpFilter[] } =
      {},
  ) {
    this.#upstream = options.upstream ?? "1.1";
    const services: EngineServices = {
      timing: this.timing,
      clusters: this.clusters,
      formats: { hostname: "h", env: () => undefined, cel: () => undefined },
      random: () => this.chances.shift() ?? 0.5,
      uuid: () => "00000000-0000-4000-8000-000000000000",
      wallMs: () => 1_700_000_000_000 + this.timing.nowMs,
      finished: (context) => void this.finished.push(context),
    };
    const compiled: CompiledHttpChain = compileHttpChain(spec, services, () => options.filters ?? []);
    const [left, right] = memoryPair();
    this.#streams.push(left, right);
    const owner = {
      request: (exchange: ServerExchange) => new Request(services, compiled, INFO, exchange).start(),
      refused() {},
      closed() {},
    };
    this.#serve(options.downstream ?? "1.1", right, owner);
    this.#client = this.#connect(options.downstream ?? "1.1", left);
  }

  #serve(version: Version, stream: MemoryStream, owner: ConstructorParameters<typeof Http1Server>[3]): void {
    const server = { limits: LIMITS, serverName: "x", idleTimeoutMs: 0, headersTimeoutMs: 0, upgrades: UPGRADES };
    if (version === "1.1") new Http1Server(stream, server, this.timing, owner);
    else new Http2Server(stream, { ...HTTP2, upgrades: UPGRADES }, this.#pool, this.timing, owner);
  }

  #connect(version: Version, stream: MemoryStream): ClientConnection {
    const owner = { availableChanged() {}, closed() {} };
    return version === "1.1"
      ? new Http1Client(stream, LIMITS, owner)
      : new Http2Client(stream, HTTP2, this.#pool, this.timing, owner);
  }

  #cluster(name: ClusterName): Cluster {
    const cluster: Cluster = {
      name,
      spec: {} as ClusterSpec,
      http: (pick, _version, waiter) => {
        this.picks.push({ ...pick, tried: [...pick.tried] });
        const failure = this.failures.shift();
        const host = this.#host(cluster, this.picks.length);
        if (failure !== undefined) {
          waiter.failed(failure, failure.flag === "UF" ? host : undefined);
          return { cancel() {} };
        }
        const [near, far] = memoryPair();
        this.#streams.push(near, far);
        this.#serve(this.#upstream, far, {
          request: (exchange) => this.#endpoint(name, exchange),
          refused() {},
          closed() {},
        });
        waiter.connected(this.#connect(this.#upstream, near), host, "10.0.2.7:1234");
        return { cancel() {} };
      },
      stream: () => ({ cancel() {} }),
      outcome: (_host, outcome) => void this.outcomes.push(JSON.stringify(outcome)),
      takeRetry: () => this.retriesLeft-- > 0 ? () => {} : undefined,
    };
    return cluster;
  }

  #host(cluster: Cluster, n: number): UpstreamHost {
    return {
      endpoint: {
        id: `10.0.3.${n}:8080`,
        reach: { kind: "direct", host: `10.0.3.${n}`, port: 8080, others: [] },
        health: "healthy",
        weight: 1,
        tag: "plain",
        workload: "",
      },
      shown: `10.0.3.${n}:8080`,
      cluster,
    };
  }

  #endpoint(cluster: string, exchange: ServerExchange): void {
    const seen: Seen = { cluster, exchange, body: "", ended: exchange.bodyEnded, trailers: undefined, cut: undefined };
    this.seen.push(seen);
    const whole = () => this.onWhole?.(seen);
    exchange.setReceiver({
      data(bytes, start, end, ended) {
        seen.body += Buffer.from(bytes.subarray(start, end)).toString("latin1");
        exchange.consume(end - start);
        seen.ended = ended;
        if (ended) whole();
      },
      trailers(fields) {
        seen.trailers = fields;
        seen.ended = true;
        whole();
      },
      writable() {},
      reset: (cut) => void (seen.cut = cut),
    });
    this.onRequest?.(seen);
    if (seen.ended) whole();
  }

  /** Sends a request, with its body if it has one. */
  request(head: Partial<RequestHead>, body: string | undefined = undefined): Answer {
    const answer = new Answer();
    const headers = [...head.headers ?? []];
    if (body !== undefined) headers.push("content-length", String(body.length));
    const whole: RequestHead = {
      method: "GET",
      path: "/",
      authority: "b.demo",
      scheme: "http",
      version: "1.1",
      upgrade: "",
      contentLength: body?.length ?? 0,
      expectsContinue: false,
      wireBytes: 0,
      ...head,
      headers,
    };
    answer.exchange = this.#client.request(
      whole,
      body === undefined && whole.upgrade === "" && whole.contentLength !== -1,
      answer,
    );
    if (answer.exchange === undefined) throw new Error("the client's connection takes no request");
    if (body !== undefined && body !== "") answer.exchange.data(Buffer.from(body, "latin1"), 0, body.length, true);
    this.run();
    return answer;
  }

  run(): void {
    run(this.timing, this.#streams);
  }

  advance(ms: number): void {
    this.timing.advance(ms);
    this.run();
  }

  /** Answers what an endpoint saw. */
  answer(seen: Seen, status: number, body = "", headers: FieldList = []): void {
    seen.exchange.respond({ status, headers }, body === "");
    if (body !== "") seen.exchange.data(Buffer.from(body, "latin1"), 0, body.length, true);
    this.run();
  }
}
